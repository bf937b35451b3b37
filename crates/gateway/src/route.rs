//! What a request is about, from its path alone.

use std::borrow::Cow;

use http::Method;

/// What a request asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Target<'a> {
    /// The gateway's own state.
    Live,
    Ready,
    Metrics,
    /// Something that all services answer together.
    Union(Union),
    /// Load or unload of a model.
    ModelControl,
    /// A model by its name in the path.
    Model {
        name: Cow<'a, str>,
        repeatable: bool,
    },
    /// A model that the body names.
    InBody(InBody),
    /// Something else, which goes to the only service if there is only one.
    Unnamed {
        repeatable: bool,
    },
    /// No path of any protocol.
    Malformed,
}

/// Answers that are put together from all services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Union {
    /// `GET /v2`, `ServerMetadata`.
    Metadata,
    /// `POST /v2/repository/index`, `RepositoryIndex`.
    Index,
    /// `GET /v2/models/stats`, `ModelStatistics` without a name.
    Statistics,
    /// `GET /v2/models`.
    V2Models,
    /// `GET /v1/models`, for OpenAI's and KServe's clients.
    V1Models,
}

/// Where in a body the model's name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InBody {
    /// The member `model` of a JSON object.
    Json,
    /// The field of a protobuf message with this path of field numbers.
    Message { path: &'static [u32], repeatable: bool, stream: bool },
}

/// Routes an HTTP request by method and path, without a query and without the gateway's prefix.
pub(crate) fn rest<'a>(method: &Method, path: &'a str) -> Target<'a> {
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let mut segments = path.trim_start_matches('/').split('/');
    let first = segments.next().unwrap_or_default();
    match first {
        "v2" => v2(safe, segments),
        "v1" | "V1" => v1(safe, segments),
        // KServe mounts OpenAI's paths there.
        "openai" if segments.clone().next().is_some_and(|s| s.eq_ignore_ascii_case("v1")) => {
            segments.next();
            v1(safe, segments)
        }
        "health" | "healthz" if segments.next().is_none() => Target::Live,
        "readyz" if segments.next().is_none() => Target::Ready,
        "metrics" if segments.next().is_none() => Target::Metrics,
        _ => Target::Unnamed { repeatable: safe },
    }
}

fn v2<'a>(safe: bool, mut segments: impl Iterator<Item = &'a str>) -> Target<'a> {
    let unnamed = Target::Unnamed { repeatable: safe };
    match segments.next() {
        None | Some("") => Target::Union(Union::Metadata),
        Some("health") => match (segments.next(), segments.next()) {
            (Some("live"), None) => Target::Live,
            (Some("ready"), None) => Target::Ready,
            _ => unnamed,
        },
        Some("models") => match (segments.next(), segments.next()) {
            (None | Some(""), None) => Target::Union(Union::V2Models),
            (Some("stats"), None) => Target::Union(Union::Statistics),
            (Some(name), next) => {
                let last = segments.last().or(next);
                // `generate` samples: what a second run answers is not what the first would have.
                let repeatable = safe || matches!(last, Some("infer"));
                model(name, repeatable)
            }
            (None, Some(_)) => unnamed,
        },
        Some("repository") => match segments.last() {
            Some("index") => Target::Union(Union::Index),
            Some("load" | "unload") => Target::ModelControl,
            _ => unnamed,
        },
        Some(_) => unnamed,
    }
}

/// TensorFlow Serving matches these without regard to case.
fn v1<'a>(safe: bool, mut segments: impl Iterator<Item = &'a str>) -> Target<'a> {
    let first = segments.next().unwrap_or_default();
    if !first.eq_ignore_ascii_case("models") {
        return if safe {
            Target::Unnamed { repeatable: true }
        } else {
            Target::InBody(InBody::Json)
        };
    }
    let Some(name) = segments.next().filter(|name| !name.is_empty()) else {
        return Target::Union(Union::V1Models);
    };
    let last = segments.last().unwrap_or(name);
    let verb = last.split_once(':').map_or("", |(_, verb)| verb);
    let pure = ["predict", "classify", "regress", "explain"];
    let repeatable = safe || pure.iter().any(|known| verb.eq_ignore_ascii_case(known));
    model(name.split_once(':').map_or(name, |(name, _)| name), repeatable)
}

fn model(segment: &str, repeatable: bool) -> Target<'_> {
    match decode(segment) {
        // A name with a slash would be another path to whoever decodes it a second time.
        Some(name) if !name.is_empty() && !name.contains('/') => Target::Model { name, repeatable },
        _ => Target::Malformed,
    }
}

/// Undoes percent encoding; `None` if it is broken or not UTF-8.
fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { hex(rest.next()?)? << 4 | hex(rest.next()?)? } else { byte });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Routes a gRPC call by its path.
pub(crate) fn grpc(path: &str) -> Target<'static> {
    let message =
        |path, repeatable| Target::InBody(InBody::Message { path, repeatable, stream: false });
    let Some((service, method)) = path.trim_start_matches('/').rsplit_once('/') else {
        return Target::Malformed;
    };
    match (service, method) {
        ("inference.GRPCInferenceService", method) => match method {
            "ServerLive" => Target::Live,
            "ServerReady" => Target::Ready,
            "ServerMetadata" => Target::Union(Union::Metadata),
            "RepositoryIndex" => Target::Union(Union::Index),
            "RepositoryModelLoad" | "RepositoryModelUnload" => Target::ModelControl,
            "ModelInfer" | "ModelReady" | "ModelMetadata" | "ModelConfig" | "ModelStatistics" => {
                message(&[1], true)
            }
            "ModelStreamInfer" => {
                Target::InBody(InBody::Message { path: &[1], repeatable: false, stream: true })
            }
            _ => Target::Unnamed { repeatable: false },
        },
        ("inference.model_repository.ModelRepositoryService", method) => match method {
            "RepositoryIndex" => Target::Union(Union::Index),
            _ => Target::ModelControl,
        },
        ("tensorflow.serving.PredictionService", "MultiInference") => message(&[1, 1, 1], true),
        ("tensorflow.serving.PredictionService", _) => message(&[1, 1], true),
        ("tensorflow.serving.ModelService", "GetModelStatus") => message(&[1, 1], true),
        ("tensorflow.serving.ModelService", _) => Target::ModelControl,
        ("grpc.health.v1.Health", "Check") => Target::Ready,
        _ => Target::Unnamed { repeatable: false },
    }
}

/// Takes the gateway's own prefix off a path; `None` if the path is not under it.
pub(crate) fn strip_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    match rest.as_bytes().first() {
        None => Some("/"),
        Some(b'/' | b'?') => Some(rest),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(method: Method, path: &str, expected: Target<'_>) {
        assert_eq!(rest(&method, path), expected, "{method} {path}");
    }

    fn named(name: &str, repeatable: bool) -> Target<'_> {
        Target::Model { name: name.into(), repeatable }
    }

    #[test]
    fn rest_table() {
        let (get, post) = (Method::GET, Method::POST);
        let other = |repeatable| Target::Unnamed { repeatable };
        check(get.clone(), "/v2", Target::Union(Union::Metadata));
        check(get.clone(), "/v2/", Target::Union(Union::Metadata));
        check(get.clone(), "/v2/health/live", Target::Live);
        check(get.clone(), "/v2/health/ready", Target::Ready);
        check(get.clone(), "/health", Target::Live);
        check(get.clone(), "/healthz", Target::Live);
        check(get.clone(), "/readyz", Target::Ready);
        check(get.clone(), "/metrics", Target::Metrics);
        check(get.clone(), "/v2/models", Target::Union(Union::V2Models));
        check(get.clone(), "/v2/models/stats", Target::Union(Union::Statistics));
        check(get.clone(), "/v2/models/iris", named("iris", true));
        check(get.clone(), "/v2/models/iris/versions/3/ready", named("iris", true));
        check(post.clone(), "/v2/models/iris/infer", named("iris", true));
        check(post.clone(), "/v2/models/iris/versions/3/infer", named("iris", true));
        check(post.clone(), "/v2/models/llm/generate", named("llm", false));
        check(post.clone(), "/v2/models/my%20model/infer", named("my model", true));
        check(post.clone(), "/v2/models/a%2fb/infer", Target::Malformed);
        check(post.clone(), "/v2/models/a%zz/infer", Target::Malformed);
        check(post.clone(), "/v2/models/a%ff/infer", Target::Malformed);
        check(post.clone(), "/v2/models//infer", Target::Malformed);
        check(post.clone(), "/v2/repository/index", Target::Union(Union::Index));
        check(post.clone(), "/v2/repository/r/index", Target::Union(Union::Index));
        check(post.clone(), "/v2/repository/models/m/load", Target::ModelControl);
        check(post.clone(), "/v2/repository/r/models/m/unload", Target::ModelControl);
        check(get.clone(), "/v2/systemsharedmemory/status", other(true));
        check(get.clone(), "/v1/models", Target::Union(Union::V1Models));
        check(get.clone(), "/v1/models/half", named("half", true));
        check(post.clone(), "/v1/models/half:predict", named("half", true));
        check(post.clone(), "/V1/Models/half/Versions/3:Predict", named("half", true));
        check(post.clone(), "/v1/models/half/labels/canary:predict", named("half", true));
        check(get.clone(), "/v1/models/half/metadata", named("half", true));
        check(post.clone(), "/v1/models/ha%3Alf:predict", named("ha:lf", true));
        check(post.clone(), "/v1/models/half:sample", named("half", false));
        check(post.clone(), "/v1/chat/completions", Target::InBody(InBody::Json));
        check(post.clone(), "/openai/v1/embeddings", Target::InBody(InBody::Json));
        check(get.clone(), "/v1/files", other(true));
        check(get.clone(), "/openapi.json", other(true));
        check(post, "/invocations", other(false));
        check(get, "/", other(true));
    }

    #[test]
    fn grpc_table() {
        let oip = |method: &str| grpc(&format!("/inference.GRPCInferenceService/{method}"));
        let field =
            |path, repeatable, stream| Target::InBody(InBody::Message { path, repeatable, stream });
        assert_eq!(oip("ModelInfer"), field(&[1], true, false));
        assert_eq!(oip("ModelStreamInfer"), field(&[1], false, true));
        assert_eq!(oip("ServerLive"), Target::Live);
        assert_eq!(oip("RepositoryModelLoad"), Target::ModelControl);
        assert_eq!(oip("TraceSetting"), Target::Unnamed { repeatable: false });
        let predict = grpc("/tensorflow.serving.PredictionService/Predict");
        assert_eq!(predict, field(&[1, 1], true, false));
        assert_eq!(grpc("/grpc.health.v1.Health/Check"), Target::Ready);
        assert_eq!(grpc("nonsense"), Target::Malformed);
    }

    #[test]
    fn prefixes_end_at_segments() {
        assert_eq!(strip_prefix("/team/v2", "/team"), Some("/v2"));
        assert_eq!(strip_prefix("/team/v2", "/team/"), Some("/v2"));
        assert_eq!(strip_prefix("/team", "/team"), Some("/"));
        assert_eq!(strip_prefix("/team?x", "/team"), Some("?x"));
        assert_eq!(strip_prefix("/teams/v2", "/team"), None);
        assert_eq!(strip_prefix("/v2", ""), Some("/v2"));
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "/[ -~]{0,60}") {
            rest(&Method::POST, &path);
            grpc(&path);
        }

        #[test]
        fn any_name_survives_encoding(name in "[^/]{1,20}") {
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let path = format!("/v2/models/{encoded}/infer");
            prop_assert_eq!(rest(&Method::POST, &path), named(&name, true));
        }
    }
}
