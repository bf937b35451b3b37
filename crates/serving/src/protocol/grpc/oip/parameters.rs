//! Parameters of requests, inputs and outputs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::inference::InferParameter;
use super::super::inference::infer_parameter::ParameterChoice;
use crate::error::InferError;
use crate::shared_memory::Slice;

pub(super) type Parameters = BTreeMap<String, InferParameter>;

/// Keys that start like this belong to the protocol.
const RESERVED_PREFIX: &str = "triton_";

/// Asks for an answer that only marks the end, where answers may be several. A request here has one
/// answer, which is marked as the last, so there is nothing to add.
const EMPTY_FINAL_RESPONSE: &str = "triton_enable_empty_final_response";

/// What the parameters of a request say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RequestParameters {
    pub(super) priority: u64,
    pub(super) queue_timeout: Option<Duration>,
}

/// Reads the parameters of a request. Those of sequences are checked for their type only, since no
/// model here keeps state between requests; others are the client's own and are let through.
pub(super) fn request(parameters: &Parameters) -> Result<RequestParameters, InferError> {
    use ParameterChoice::{BoolParam, Int64Param, StringParam, Uint64Param};
    let mut read = RequestParameters::default();
    for (key, value) in parameters {
        let Some(choice) = &value.parameter_choice else { continue };
        match (key.as_str(), choice) {
            ("priority", Uint64Param(value)) => read.priority = *value,
            ("priority", Int64Param(value)) => {
                read.priority = u64::try_from(*value).map_err(|_| {
                    InferError::Invalid(format!(
                        "invalid value for 'priority', expected value >= 0, got {value}"
                    ))
                })?;
            }
            ("priority", _) => return Err(wrong_type(key, "int64_param or uint64_param")),
            ("timeout", Uint64Param(value)) => read.queue_timeout = timeout(*value),
            ("timeout", Int64Param(value)) => {
                read.queue_timeout = timeout(u64::try_from(*value).map_err(|_| {
                    InferError::Invalid(format!(
                        "invalid value for 'timeout', expected microseconds >= 0, got {value}"
                    ))
                })?);
            }
            ("timeout", _) => return Err(wrong_type(key, "int64_param")),
            ("sequence_id", Int64Param(_) | Uint64Param(_) | StringParam(_)) => {}
            ("sequence_id", _) => return Err(wrong_type(key, "int64_param or string_param")),
            ("sequence_start" | "sequence_end" | EMPTY_FINAL_RESPONSE, BoolParam(_)) => {}
            ("sequence_start" | "sequence_end" | EMPTY_FINAL_RESPONSE, _) => {
                return Err(wrong_type(key, "bool_param"));
            }
            (key, _) if key.starts_with(RESERVED_PREFIX) => {
                return Err(InferError::Invalid(format!(
                    "parameter keys starting with '{RESERVED_PREFIX}' are reserved for Triton \
                     usage. Only the following keys starting with '{RESERVED_PREFIX}' are allowed: \
                     {EMPTY_FINAL_RESPONSE}, got '{key}'"
                )));
            }
            _ => {}
        }
    }
    Ok(read)
}

/// The shared memory that holds a tensor, if its parameters name one.
pub(super) fn shared_memory(
    tensor: &str,
    parameters: &Parameters,
) -> Result<Option<Slice>, InferError> {
    let Some(region) = parameters.get("shared_memory_region") else { return Ok(None) };
    let Some(ParameterChoice::StringParam(region)) = &region.parameter_choice else {
        return Err(wrong_type("shared_memory_region", "string_param"));
    };
    let byte_size = size(parameters, "shared_memory_byte_size")?.ok_or_else(|| {
        InferError::Invalid(format!(
            "'shared_memory_byte_size' must be specified along with 'shared_memory_region' for \
             '{tensor}'"
        ))
    })?;
    let offset = size(parameters, "shared_memory_offset")?.unwrap_or(0);
    Ok(Some(Slice { region: region.clone(), offset, byte_size }))
}

/// How many classes an output is reduced to, if its parameters ask for that.
pub(super) fn classification(parameters: &Parameters) -> Result<Option<usize>, InferError> {
    let Some(count) = size(parameters, "classification")? else { return Ok(None) };
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    count.map(Some).ok_or_else(|| {
        InferError::Invalid(
            "invalid value for 'classification' parameter, expected >= 1".to_owned(),
        )
    })
}

fn size(parameters: &Parameters, key: &str) -> Result<Option<u64>, InferError> {
    let Some(value) = parameters.get(key) else { return Ok(None) };
    match value.parameter_choice {
        Some(ParameterChoice::Uint64Param(value)) => Ok(Some(value)),
        Some(ParameterChoice::Int64Param(value)) => u64::try_from(value).map(Some).map_err(|_| {
            InferError::Invalid(format!("invalid value for '{key}', expected >= 0, got {value}"))
        }),
        _ => Err(wrong_type(key, "int64_param")),
    }
}

/// 0 means that the model's own timeout holds.
fn timeout(microseconds: u64) -> Option<Duration> {
    (microseconds > 0).then(|| Duration::from_micros(microseconds))
}

fn wrong_type(key: &str, expected: &str) -> InferError {
    InferError::Invalid(format!("invalid value type for '{key}' parameter, expected {expected}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(given: &[(&str, ParameterChoice)]) -> Parameters {
        let entry = |(key, choice): &(&str, ParameterChoice)| {
            ((*key).to_owned(), InferParameter { parameter_choice: Some(choice.clone()) })
        };
        given.iter().map(entry).collect()
    }

    #[test]
    fn table() {
        use ParameterChoice::{BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param};
        let text = |text: &str| StringParam(text.to_owned());
        check(&[], Ok((0, None)));
        check(&[("priority", Uint64Param(3)), ("timeout", Int64Param(500))], Ok((3, Some(500))));
        check(&[("priority", Int64Param(3)), ("timeout", Int64Param(0))], Ok((3, None)));
        check(&[("priority", Int64Param(-1))], Err("expected value >= 0"));
        check(&[("priority", text("high"))], Err("int64_param or uint64_param"));
        check(&[("timeout", Int64Param(-1))], Err("microseconds >= 0"));
        check(&[("timeout", DoubleParam(1.5))], Err("expected int64_param"));
        check(&[("sequence_id", text("a")), ("sequence_start", BoolParam(true))], Ok((0, None)));
        check(&[("sequence_id", BoolParam(true))], Err("int64_param or string_param"));
        check(&[("sequence_end", Int64Param(1))], Err("expected bool_param"));
        check(&[("triton_enable_empty_final_response", BoolParam(true))], Ok((0, None)));
        check(&[("triton_enable_empty_final_response", text("y"))], Err("expected bool_param"));
        check(&[("triton_other", BoolParam(true))], Err("reserved for Triton usage"));
        check(&[("my_own", DoubleParam(0.5))], Ok((0, None)));
    }

    #[track_caller]
    fn check(given: &[(&str, ParameterChoice)], expected: Result<(u64, Option<u64>), &str>) {
        match (request(&parameters(given)), expected) {
            (Ok(read), Ok((priority, timeout))) => {
                assert_eq!(read.priority, priority);
                assert_eq!(read.queue_timeout, timeout.map(Duration::from_micros));
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (read, expected) => panic!("{given:?}: {read:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn tensor_parameters() {
        use ParameterChoice::{BoolParam, Int64Param, StringParam};
        let region = ("shared_memory_region", StringParam("r".to_owned()));
        let size = ("shared_memory_byte_size", Int64Param(8));
        let offset = ("shared_memory_offset", Int64Param(4));
        let found = shared_memory("x", &parameters(&[region.clone(), size, offset]));
        let expected = Slice { region: "r".to_owned(), offset: 4, byte_size: 8 };
        assert_eq!(found.expect("reads"), Some(expected));
        assert!(shared_memory("x", &parameters(&[region])).is_err(), "no size");
        assert_eq!(shared_memory("x", &parameters(&[])).expect("none"), None);

        let count = |choice| classification(&parameters(&[("classification", choice)]));
        assert_eq!(count(Int64Param(3)).expect("reads"), Some(3));
        assert!(count(Int64Param(0)).is_err());
        assert!(count(Int64Param(-1)).is_err());
        assert!(count(BoolParam(true)).is_err());
    }
}
