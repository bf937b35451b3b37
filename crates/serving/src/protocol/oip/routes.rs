//! The table of routes: Triton's grammar.

use std::future::ready;

use futures_util::future::BoxFuture;
use http::Method;

use super::infer::{generate, infer};
use super::{failure, memory, models, repository, schemas, statistics, trace_log};
use crate::error::InferError;
use crate::http::payload::Answer;
use crate::http::route::{Handler, Protocol, Route, get};

/// The Open Inference Protocol v2.
pub(crate) static PROTOCOL: Protocol = Protocol {
    name: "oip",
    prefix: "/v2",
    routes: ROUTES,
    ignores_case: false,
    unmatched: super::unmatched,
    refusal: failure,
    schemas: schemas::schemas,
};

static ROUTES: &[Route] = &[
    infers("/v2/models/{model}/infer"),
    infers("/v2/models/{model}/versions/{version}/infer"),
    get("/v2/health/ready", "Whether every model is ready", "Ready", |call| {
        now(models::ready(&call))
    }),
    get("/v2/health/live", "Whether the server runs", "Live", |call| now(models::live(&call))),
    get("/v2", "Metadata of the server", "ServerMetadata", |call| now(models::server(&call))),
    get("/v2/models", "Names of the models", "Models", |call| now(models::names(&call))),
    stats("/v2/models/stats"),
    stats("/v2/models/{model}/stats"),
    stats("/v2/models/{model}/versions/{version}/stats"),
    metadata("/v2/models/{model}"),
    metadata("/v2/models/{model}/versions/{version}"),
    model_ready("/v2/models/{model}/ready"),
    model_ready("/v2/models/{model}/versions/{version}/ready"),
    config("/v2/models/{model}/config"),
    config("/v2/models/{model}/versions/{version}/config"),
    generates("/v2/models/{model}/generate"),
    generates("/v2/models/{model}/generate_stream"),
    generates("/v2/models/{model}/versions/{version}/generate"),
    generates("/v2/models/{model}/versions/{version}/generate_stream"),
    index("/v2/repository/index"),
    index("/v2/repository/{repository}/index"),
    loads("/v2/repository/models/{model}/load"),
    loads("/v2/repository/{repository}/models/{model}/load"),
    unloads("/v2/repository/models/{model}/unload"),
    unloads("/v2/repository/{repository}/models/{model}/unload"),
    memory_status("/v2/systemsharedmemory/status"),
    memory_status("/v2/systemsharedmemory/region/{region}/status"),
    post(
        "/v2/systemsharedmemory/region/{region}/register",
        "Make a shared memory object known under a name",
        Some("Region"),
        None,
        |call| tried(memory::register(&call)),
    ),
    forget("/v2/systemsharedmemory/unregister", |call| now(memory::unregister(&call))),
    forget("/v2/systemsharedmemory/region/{region}/unregister", |call| {
        now(memory::unregister(&call))
    }),
    cuda_status("/v2/cudasharedmemory/status"),
    cuda_status("/v2/cudasharedmemory/region/{region}/status"),
    post(
        "/v2/cudasharedmemory/region/{region}/register",
        "Not supported",
        Some("Object"),
        None,
        |call| tried(memory::cuda_register(&call)),
    ),
    forget("/v2/cudasharedmemory/unregister", |call| now(memory::cuda_unregister(&call))),
    forget("/v2/cudasharedmemory/region/{region}/unregister", |call| {
        now(memory::cuda_unregister(&call))
    }),
    get("/v2/trace/setting", TRACE, "Settings", |call| tried(trace_log::trace(&call))),
    change("/v2/trace/setting", TRACE, |call| tried(trace_log::trace(&call))),
    get("/v2/models/{model}/trace/setting", TRACE, "Settings", |call| {
        tried(trace_log::trace(&call))
    }),
    change("/v2/models/{model}/trace/setting", TRACE, |call| tried(trace_log::trace(&call))),
    get("/v2/logging", LOG, "Settings", |call| tried(trace_log::log(&call))),
    change("/v2/logging", LOG, |call| tried(trace_log::log(&call))),
];

const TRACE: &str = "Trace settings, which are fixed at start";
const LOG: &str = "Log settings, which are fixed at start";

const fn infers(template: &'static str) -> Route {
    post(template, "Run a model", Some("InferRequest"), Some("InferResponse"), |call| {
        Box::pin(infer(call))
    })
}

const fn stats(template: &'static str) -> Route {
    get(template, "Statistics of models", "Statistics", |call| tried(statistics::statistics(&call)))
}

const fn metadata(template: &'static str) -> Route {
    get(template, "Inputs and outputs of a model", "ModelMetadata", |call| {
        tried(models::model(&call))
    })
}

const fn model_ready(template: &'static str) -> Route {
    get(template, "Whether a model is ready", "ModelReady", |call| {
        tried(models::model_ready(&call))
    })
}

const fn config(template: &'static str) -> Route {
    get(template, "Configuration of a model, as Triton's ModelConfig", "Object", |call| {
        tried(models::config(&call))
    })
}

const fn generates(template: &'static str) -> Route {
    post(template, "Not supported: models here take tensors", Some("Object"), None, |call| {
        tried(generate(&call))
    })
}

const fn index(template: &'static str) -> Route {
    post(template, "Models and their states", Some("Index"), Some("IndexEntries"), |call| {
        tried(repository::index(&call))
    })
}

const fn loads(template: &'static str) -> Route {
    post(template, "Load or reload a model", Some("Load"), None, |call| {
        Box::pin(repository::load(call))
    })
}

const fn unloads(template: &'static str) -> Route {
    post(template, "Unload a model", Some("Object"), None, |call| {
        Box::pin(repository::unload(call))
    })
}

const fn memory_status(template: &'static str) -> Route {
    get(template, "Registered shared memory", "Regions", |call| tried(memory::status(&call)))
}

const fn cuda_status(template: &'static str) -> Route {
    get(template, "Registered CUDA memory: always none", "Regions", |call| {
        tried(memory::cuda_status(&call))
    })
}

const fn forget(template: &'static str, handler: Handler) -> Route {
    post(template, "Forget shared memory", Some("Object"), None, handler)
}

const fn change(template: &'static str, summary: &'static str, handler: Handler) -> Route {
    post(template, summary, Some("Settings"), Some("Settings"), handler)
}

const fn post(
    template: &'static str,
    summary: &'static str,
    request: Option<&'static str>,
    response: Option<&'static str>,
    handler: Handler,
) -> Route {
    Route { method: Method::POST, template, handler, summary, request, response }
}

/// An answer that needed no waiting.
fn now(answer: Answer) -> BoxFuture<'static, Answer> {
    Box::pin(ready(answer))
}

/// An answer that needed no waiting, or why there is none.
fn tried(answer: Result<Answer, InferError>) -> BoxFuture<'static, Answer> {
    now(answer.unwrap_or_else(|error| failure(&error)))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::http::route::Unmatched;

    #[test]
    fn table() {
        for (method, path, expected) in [
            (Method::POST, "/v2/models/m/infer", Ok("/v2/models/{model}/infer")),
            (
                Method::POST,
                "/v2/models/m/versions/3/infer",
                Ok("/v2/models/{model}/versions/{version}/infer"),
            ),
            (Method::GET, "/v2/models/m/infer", Err(Unmatched::Method)),
            (Method::GET, "/v2/models/stats", Ok("/v2/models/stats")),
            (Method::GET, "/v2/models/m", Ok("/v2/models/{model}")),
            (Method::POST, "/v2/repository/index", Ok("/v2/repository/index")),
            (Method::GET, "/v2/logging", Ok("/v2/logging")),
            (Method::GET, "/v2/", Err(Unmatched::Path)),
            (Method::GET, "/v2/nothing", Err(Unmatched::Path)),
            (Method::GET, "/v2x", Err(Unmatched::Path)),
        ] {
            let found = PROTOCOL.find(&method, path).map(|found| found.route.template);
            assert_eq!(found, expected, "{method} {path}");
        }
    }
}
