//! Which model, version and signature a request is for.

use crate::error::InferError;
use crate::protocol::grpc::tensorflow::serving::{ModelSpec, model_spec};
use crate::request::VersionChoice;

/// The one signature of an ONNX model.
pub(crate) const SIGNATURE: &str = "serving_default";

/// A model and the version wanted, decoded from a message or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) model: String,
    pub(crate) version: VersionChoice,
}

impl Target {
    /// Reads a message, whose signature must be one that models here have.
    pub(crate) fn of(spec: Option<ModelSpec>) -> Result<Self, InferError> {
        let spec = spec.ok_or_else(|| InferError::Invalid("Missing ModelSpec".to_owned()))?;
        if spec.name.is_empty() {
            return Err(InferError::Invalid("ModelSpec has no name specified".to_owned()));
        }
        check_signature(&spec.signature_name)?;
        let version = match spec.version_choice {
            None => VersionChoice::Latest,
            Some(model_spec::VersionChoice::Version(number)) => {
                VersionChoice::Number(u64::try_from(number).map_err(|_| {
                    InferError::Invalid(format!(
                        "ModelSpec asks for version {number}, expected >= 0"
                    ))
                })?)
            }
            Some(model_spec::VersionChoice::VersionLabel(label)) => VersionChoice::Label(label),
        };
        Ok(Self { model: spec.name, version })
    }

    /// Puts errors about which model is meant into the words of TensorFlow Serving, which clients
    /// match.
    pub(crate) fn reword(&self, error: InferError) -> InferError {
        let model = &self.model;
        match (&error, &self.version) {
            (
                InferError::UnknownModel { .. } | InferError::UnknownVersion { .. },
                VersionChoice::Number(version),
            ) => InferError::NotFound(format!(
                "Servable not found for request: Specific({model}, {version})"
            )),
            (InferError::UnknownModel { .. } | InferError::UnknownVersion { .. }, _) => {
                InferError::NotFound(format!("Servable not found for request: Latest({model})"))
            }
            (InferError::UnknownLabel { label, known, .. }, _) => InferError::NotFound(format!(
                "Unrecognized servable version label: {label}; labels of '{model}': {known:?}"
            )),
            _ => error,
        }
    }
}

/// Accepts the signature that every model here has, or the empty name that stands for it.
pub(crate) fn check_signature(name: &str) -> Result<(), InferError> {
    if name.is_empty() || name == SIGNATURE {
        return Ok(());
    }
    Err(InferError::Invalid(format!(
        "Serving signature name: \"{name}\" not found in signature def; this model has \
         \"{SIGNATURE}\""
    )))
}

/// What answered a request.
pub(crate) fn resolved(model: &str, version: u64) -> ModelSpec {
    let number = i64::try_from(version).unwrap_or(i64::MAX);
    ModelSpec {
        name: model.to_owned(),
        signature_name: SIGNATURE.to_owned(),
        version_choice: Some(model_spec::VersionChoice::Version(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, choice: Option<model_spec::VersionChoice>, signature: &str) -> ModelSpec {
        ModelSpec {
            name: name.to_owned(),
            signature_name: signature.to_owned(),
            version_choice: choice,
        }
    }

    #[test]
    fn reads() {
        use model_spec::VersionChoice::{Version, VersionLabel};
        check(spec("m", None, ""), Ok(VersionChoice::Latest));
        check(spec("m", Some(Version(3)), SIGNATURE), Ok(VersionChoice::Number(3)));
        let label = VersionChoice::Label("canary".to_owned());
        check(spec("m", Some(VersionLabel("canary".to_owned())), ""), Ok(label));
        check(spec("m", Some(Version(-1)), ""), Err("version -1"));
        check(spec("", None, ""), Err("no name"));
        check(spec("m", None, "other"), Err("\"other\" not found"));
        assert!(Target::of(None).is_err());
    }

    #[track_caller]
    fn check(spec: ModelSpec, expected: Result<VersionChoice, &str>) {
        match (Target::of(Some(spec)), expected) {
            (Ok(target), Ok(version)) => assert_eq!(target.version, version),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (read, expected) => panic!("{read:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn words() {
        let unknown = || InferError::UnknownModel { model: "m".to_owned() };
        let version = |number| InferError::UnknownVersion {
            model: "m".to_owned(),
            version: number,
            ready: vec![1],
        };
        reword(unknown(), VersionChoice::Latest, "Servable not found for request: Latest(m)");
        let specific = VersionChoice::Number(3);
        reword(unknown(), specific.clone(), "Servable not found for request: Specific(m, 3)");
        reword(version(3), specific, "Servable not found for request: Specific(m, 3)");
        let label = InferError::UnknownLabel {
            model: "m".to_owned(),
            label: "canary".to_owned(),
            known: vec!["stable".to_owned()],
        };
        reword(
            label,
            VersionChoice::Label("canary".to_owned()),
            "Unrecognized servable version label: canary; labels of 'm': [\"stable\"]",
        );
        reword(InferError::ShuttingDown, VersionChoice::Latest, "the server is shutting down");
    }

    #[track_caller]
    fn reword(error: InferError, version: VersionChoice, expected: &str) {
        let kind = error.kind();
        let target = Target { model: "m".to_owned(), version };
        let reworded = target.reword(error);
        assert_eq!(reworded.to_string(), expected);
        assert_eq!(reworded.kind(), kind);
    }
}
