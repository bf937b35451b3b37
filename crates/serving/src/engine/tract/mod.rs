//! tract: an engine in pure Rust, built in, for machines without ONNX Runtime's library.
//!
//! It knows fewer operators and is slower, so a model that it cannot run is refused at load, with
//! the operator's name. tract panics on some malformed models; panics are caught and become errors.

mod plans;
mod session;
mod value;

use std::path::Path;
use std::sync::Arc;

use prost::Message;
use tract_onnx::Onnx;
use tract_onnx::pb;
use tract_onnx::prelude::InferenceModel;

use self::session::TractSession;
use super::{Engine, EngineError, EngineInfo, Session, SessionOptions};
use crate::onnx::{Facts, ModelFile, OperatorUse};

/// The version of the crate; a test compares it with the lock file.
const VERSION: &str = "0.23.9";

/// The engine that is built in.
pub struct Tract {
    info: EngineInfo,
    framework: Onnx,
}

impl Default for Tract {
    fn default() -> Self {
        Self {
            info: EngineInfo {
                name: "tract",
                version: VERSION.to_owned(),
                device: "cpu".to_owned(),
                // tract runs a graph on the thread that asks; requests are the parallelism.
                threads: 1,
                library: None,
            },
            framework: tract_onnx::onnx(),
        }
    }
}

impl Engine for Tract {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn load(
        &self,
        model: &Path,
        _options: &SessionOptions,
    ) -> Result<Arc<dyn Session>, EngineError> {
        let failed = |reason| EngineError::Load { path: model.display().to_string(), reason };
        let file = ModelFile::read(model)?;
        let missing = self.missing_operators(&file.facts);
        if !missing.is_empty() {
            return Err(failed(format!(
                "the built-in engine (tract) lacks {}; ONNX Runtime has more operators: install it \
                 with `trainyard engine install`",
                list(&missing)
            )));
        }
        let bytes = file.without_zip_maps().map_or_else(|| file.bytes().clone(), Into::into);
        let file = file.without_bytes();
        let parsed = catching(|| self.parse(model, bytes)).map_err(failed)?;
        let session = TractSession::create(parsed, &file.facts).map_err(failed)?;
        Ok(Arc::new(session))
    }

    fn missing_operators(&self, facts: &Facts) -> Vec<OperatorUse> {
        let is_zip_map = |operator: &OperatorUse| {
            operator.name == "ZipMap" && facts.zip_maps.len() as u64 == operator.count
        };
        facts
            .operators
            .iter()
            .filter(|operator| !self.framework.op_register.0.contains_key(&operator.name))
            .filter(|operator| !is_zip_map(operator))
            .cloned()
            .collect()
    }
}

impl Tract {
    fn parse(&self, path: &Path, bytes: bytes::Bytes) -> Result<InferenceModel, String> {
        let model = pb::ModelProto::decode(bytes).map_err(|error| error.to_string())?;
        let folder = path.parent().and_then(Path::to_str);
        let parsed = self.framework.parse(&model, folder).map_err(|error| format!("{error:#}"))?;
        if parsed.unresolved_inputs.is_empty() {
            Ok(parsed.model)
        } else {
            Err(format!("no node makes {:?}", parsed.unresolved_inputs))
        }
    }
}

/// Operators as text, with the domain where it is not the default.
pub(super) fn list(operators: &[OperatorUse]) -> String {
    let names: Vec<String> = operators
        .iter()
        .map(|it| match it.domain.as_str() {
            "ai.onnx" => it.name.clone(),
            domain => format!("{domain}.{}", it.name),
        })
        .collect();
    let noun = if names.len() == 1 { "operator" } else { "operators" };
    format!("the {noun} {}", names.join(", "))
}

/// Calls into tract, with a panic as an error.
fn catching<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // Nothing that `call` may leave half-changed is used after an error.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(format!("the engine panicked: {text}"))
    })
}

#[test]
fn the_version_is_the_locked_one() {
    let lock = include_str!("../../../../../Cargo.lock");
    assert!(lock.contains(&format!("name = \"tract-onnx\"\nversion = \"{VERSION}\"")));
}
