//! State and metadata of a model, as JSON with the names of the messages' fields. 64-bit integers
//! are strings there, and default values are printed.

use serde_json::{Value, json};

use super::answer::refusal;
use super::target;
use crate::error::InferError;
use crate::http::payload::Answer;
use crate::http::route::Call;
use crate::protocol::grpc::tensorflow::serving::ModelVersionStatus;
use crate::protocol::grpc::tensorflow::tensor_shape_proto::Dim;
use crate::protocol::grpc::tensorflow::{SignatureDef, TensorInfo};
use crate::protocol::tfs::model_status::{code_name, model_status};
use crate::protocol::tfs::signature::signature_defs;

pub(super) async fn status(call: Call) -> Answer {
    let found = target(&call).and_then(|target| model_status(&call.app.server, &target));
    answer(found.map(|found| json!({ "model_version_status": versions(&found) })))
}

pub(super) async fn metadata(call: Call) -> Answer {
    answer(read_metadata(&call))
}

fn read_metadata(call: &Call) -> Result<Value, InferError> {
    let target = target(call)?;
    let metadata = call.app.server.metadata(&target.model, &target.version);
    let metadata = metadata.map_err(|error| target.reword(error))?;
    let definitions = signature_defs(&metadata.signature).signature_def;
    let definitions: serde_json::Map<String, Value> =
        definitions.iter().map(|(name, one)| (name.clone(), definition(one))).collect();
    Ok(json!({
        "model_spec": {
            "name": metadata.name.as_ref(),
            "signature_name": "",
            "version": metadata.version.to_string(),
        },
        // The name of the field, then that of the map within it.
        "metadata": { "signature_def": { "signature_def": definitions } },
    }))
}

/// States of versions.
pub(crate) fn versions(versions: &[ModelVersionStatus]) -> Value {
    let one = |version: &ModelVersionStatus| {
        let status = version.status.clone().unwrap_or_default();
        json!({
            "version": version.version.to_string(),
            "state": version.state().as_str_name(),
            "status": {
                "error_code": code_name(status.error_code),
                "error_message": status.error_message,
            },
        })
    };
    versions.iter().map(one).collect()
}

fn definition(definition: &SignatureDef) -> Value {
    let tensors = |infos: &std::collections::BTreeMap<String, TensorInfo>| -> Value {
        Value::Object(infos.iter().map(|(name, info)| (name.clone(), tensor(info))).collect())
    };
    json!({
        "inputs": tensors(&definition.inputs),
        "outputs": tensors(&definition.outputs),
        "method_name": definition.method_name,
    })
}

fn tensor(info: &TensorInfo) -> Value {
    let shape = info.tensor_shape.clone().unwrap_or_default();
    let dim = |dim: &Dim| json!({ "size": dim.size.to_string(), "name": dim.name });
    json!({
        "name": info.name,
        "dtype": info.dtype().as_str_name(),
        "tensor_shape": {
            "dim": shape.dim.iter().map(dim).collect::<Value>(),
            "unknown_rank": shape.unknown_rank,
        },
    })
}

fn answer(result: Result<Value, InferError>) -> Answer {
    match result {
        Ok(body) => super::json(body.to_string().into_bytes()),
        Err(error) => refusal(&error),
    }
}
