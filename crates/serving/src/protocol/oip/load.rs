//! What a load request of the model repository API brings along.

use bytes::Bytes;

use crate::error::InferError;
use crate::server::LoadOptions;

/// Prefix of the parameters that carry files.
const FILE_PREFIX: &str = "file:";

/// One parameter, in whichever form it came.
pub(crate) enum LoadParameter {
    Text(String),
    Bytes(Bytes),
    Other,
}

/// Collects the parameters of a load request. `file` makes the content of a file of what carries
/// it in this protocol.
pub(crate) fn options(
    parameters: impl IntoIterator<Item = (String, LoadParameter)>,
    file: impl Fn(LoadParameter) -> Option<Bytes>,
) -> Result<LoadOptions, InferError> {
    let mut options = LoadOptions::default();
    for (key, parameter) in parameters {
        if key == "config" {
            let LoadParameter::Text(config) = parameter else {
                return Err(wrong_type(&key, "a string"));
            };
            options.config = Some(config);
        } else if let Some(path) = key.strip_prefix(FILE_PREFIX) {
            let content = file(parameter).ok_or_else(|| wrong_type(&key, "the bytes of a file"))?;
            options.files.insert(path.to_owned(), content);
        } else {
            return Err(InferError::Invalid(format!(
                "unrecognized load parameter '{key}', expected 'config' or '{FILE_PREFIX}PATH'"
            )));
        }
    }
    Ok(options)
}

fn wrong_type(key: &str, expected: &str) -> InferError {
    InferError::Invalid(format!(
        "invalid value type for load parameter '{key}', expected {expected}"
    ))
}
