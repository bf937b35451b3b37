//! KServe's v1 protocol, as far as it is not TensorFlow Serving's.
//!
//! Three protocols share the paths under `/v1/models`: this one, TensorFlow Serving's REST and
//! OpenAI's. A client of each reads its own members only, so one object answers all three.
//! Inference (`:predict`) is the same in both protocols that have it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::error::InferError;
use crate::http::payload::Answer;
use crate::http::route::Call;
use crate::protocol::grpc::tensorflow::serving::ModelVersionStatus;
use crate::protocol::grpc::tensorflow::serving::model_version_status::State;
use crate::protocol::tfs::model_status::model_status;
use crate::protocol::tfs::rest;
use crate::server::{IndexEntry, VersionState};

/// Names of the models that serve.
pub(crate) async fn models(call: Call) -> Answer {
    answer(Ok(list(&call.app.server.index())))
}

/// Whether a model is ready, and the states of its versions.
pub(crate) async fn model(call: Call) -> Answer {
    answer(read_model(&call))
}

fn read_model(call: &Call) -> Result<Value, InferError> {
    let target = rest::target(call)?;
    let versions = model_status(&call.app.server, &target)?;
    Ok(described(&target.model, &versions))
}

fn list(index: &[IndexEntry]) -> Value {
    let ready = index.iter().filter(|entry| entry.state == VersionState::Ready);
    let names: BTreeSet<&str> = ready.map(|entry| entry.name.as_str()).collect();
    json!({
        "object": "list",
        "data": names.iter().map(|name| openai(name)).collect::<Vec<_>>(),
        "models": names,
    })
}

fn described(model: &str, versions: &[ModelVersionStatus]) -> Value {
    let mut object = openai(model);
    object["name"] = json!(model);
    object["ready"] = json!(versions.iter().any(|version| version.state() == State::Available));
    object["model_version_status"] = rest::versions(versions);
    object
}

/// OpenAI's members, all of which its clients require. When a model was created is not known, and
/// the start of the epoch says so.
fn openai(model: &str) -> Value {
    json!({ "id": model, "object": "model", "created": 0, "owned_by": "trainyard" })
}

fn answer(result: Result<Value, InferError>) -> Answer {
    match result {
        Ok(body) => rest::json(body.to_string().into_bytes()),
        Err(error) => rest::refusal(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_for_three_protocols() {
        let version = |number, state: State| ModelVersionStatus {
            version: number,
            state: state.into(),
            status: None,
        };
        let versions = [version(2, State::Loading), version(1, State::Available)];
        let object = described("m", &versions);
        assert_eq!((&object["name"], &object["ready"]), (&json!("m"), &json!(true)));
        assert_eq!((&object["id"], &object["object"]), (&json!("m"), &json!("model")));
        assert_eq!(object["model_version_status"][1]["version"], "1");
        assert_eq!(object["model_version_status"][1]["state"], "AVAILABLE");
        assert_eq!(described("m", &versions[..1])["ready"], false);
    }

    #[test]
    fn only_models_that_serve_are_listed() {
        let entry = |name: &str, version, state| IndexEntry {
            name: name.to_owned(),
            version: Some(version),
            state,
            reason: String::new(),
        };
        let index = [
            entry("b", 1, VersionState::Ready),
            entry("a", 1, VersionState::Ready),
            entry("a", 2, VersionState::Ready),
            entry("c", 1, VersionState::Unavailable),
        ];
        let list = list(&index);
        assert_eq!(list["models"], json!(["a", "b"]));
        assert_eq!(list["data"][1]["id"], "b");
    }
}
