//! Parameters of requests, inputs and outputs, in whichever form they came.

use std::borrow::Cow;
use std::time::Duration;

use crate::error::InferError;
use crate::shared_memory::Slice;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parameter<'a> {
    Bool(bool),
    /// All that 64 bits hold, with or without sign.
    Integer(i128),
    Float(f64),
    Text(Cow<'a, str>),
}

/// Values by key.
pub(crate) type Parameters<'a> = [(Cow<'a, str>, Parameter<'a>)];

/// Keys that start like this belong to the protocol.
const RESERVED_PREFIX: &str = "triton_";

/// Asks for an answer that only marks the end, where answers may be several. A request here has one
/// answer, which is marked as the last, so there is nothing to add.
const EMPTY_FINAL_RESPONSE: &str = "triton_enable_empty_final_response";

/// What the parameters of a request say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestParameters {
    pub(crate) priority: u64,
    pub(crate) queue_timeout: Option<Duration>,
    /// Whether outputs are sent as binary data where they do not say themselves; of REST only.
    pub(crate) binary_outputs: bool,
}

/// Reads the parameters of a request. Those of sequences are checked for their type only, since no
/// model here keeps state between requests; others are the client's own and are let through.
pub(crate) fn request(parameters: &Parameters<'_>) -> Result<RequestParameters, InferError> {
    let mut read = RequestParameters::default();
    for (key, value) in parameters {
        match (key.as_ref(), value) {
            ("priority", value) => read.priority = unsigned(key, value)?,
            // 0 means that the model's own timeout holds.
            ("timeout", value) => {
                let microseconds = unsigned(key, value)?;
                read.queue_timeout =
                    (microseconds > 0).then(|| Duration::from_micros(microseconds));
            }
            ("binary_data_output", Parameter::Bool(value)) => read.binary_outputs = *value,
            ("sequence_id", Parameter::Integer(_) | Parameter::Text(_)) => {}
            ("sequence_id", _) => return Err(wrong_type(key, "a whole number or a string", value)),
            ("sequence_start" | "sequence_end" | EMPTY_FINAL_RESPONSE, Parameter::Bool(_)) => {}
            (
                "sequence_start" | "sequence_end" | "binary_data_output" | EMPTY_FINAL_RESPONSE,
                _,
            ) => {
                return Err(wrong_type(key, "a boolean", value));
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
pub(crate) fn shared_memory(
    tensor: &str,
    parameters: &Parameters<'_>,
) -> Result<Option<Slice>, InferError> {
    let region = match find(parameters, "shared_memory_region") {
        None => return Ok(None),
        Some(Parameter::Text(region)) => region.clone().into_owned(),
        Some(value) => return Err(wrong_type("shared_memory_region", "a string", value)),
    };
    let byte_size = size(parameters, "shared_memory_byte_size")?.ok_or_else(|| {
        InferError::Invalid(format!(
            "'shared_memory_byte_size' must be specified along with 'shared_memory_region' for \
             '{tensor}'"
        ))
    })?;
    let offset = size(parameters, "shared_memory_offset")?.unwrap_or(0);
    Ok(Some(Slice { region, offset, byte_size }))
}

/// How many classes an output is reduced to, if its parameters ask for that.
pub(crate) fn classification(parameters: &Parameters<'_>) -> Result<Option<usize>, InferError> {
    let Some(count) = size(parameters, "classification")? else { return Ok(None) };
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    count.map(Some).ok_or_else(|| {
        InferError::Invalid(
            "invalid value for 'classification' parameter, expected >= 1".to_owned(),
        )
    })
}

/// A number of bytes or elements.
pub(crate) fn size(parameters: &Parameters<'_>, key: &str) -> Result<Option<u64>, InferError> {
    find(parameters, key).map(|value| unsigned(key, value)).transpose()
}

/// A switch.
pub(crate) fn flag(parameters: &Parameters<'_>, key: &str) -> Result<Option<bool>, InferError> {
    match find(parameters, key) {
        None => Ok(None),
        Some(Parameter::Bool(value)) => Ok(Some(*value)),
        Some(value) => Err(wrong_type(key, "a boolean", value)),
    }
}

fn find<'p, 'a>(parameters: &'p Parameters<'a>, key: &str) -> Option<&'p Parameter<'a>> {
    parameters.iter().find(|(known, _)| known == key).map(|(_, value)| value)
}

fn unsigned(key: &str, value: &Parameter<'_>) -> Result<u64, InferError> {
    let Parameter::Integer(number) = value else {
        return Err(wrong_type(key, "a whole number", value));
    };
    u64::try_from(*number).map_err(|_| {
        InferError::Invalid(format!("invalid value for '{key}', expected value >= 0, got {number}"))
    })
}

fn wrong_type(key: &str, expected: &str, value: &Parameter<'_>) -> InferError {
    let found = match value {
        Parameter::Bool(_) => "a boolean",
        Parameter::Integer(_) => "a whole number",
        Parameter::Float(_) => "a number with a fraction",
        Parameter::Text(_) => "a string",
    };
    InferError::Invalid(format!(
        "invalid value type for '{key}' parameter, expected {expected}, got {found}"
    ))
}

#[cfg(test)]
mod tests {
    use super::Parameter::{Bool, Float, Integer, Text};
    use super::*;

    fn parameters(
        given: &[(&'static str, Parameter<'static>)],
    ) -> Vec<(Cow<'static, str>, Parameter<'static>)> {
        given.iter().map(|(key, value)| (Cow::Borrowed(*key), value.clone())).collect()
    }

    #[test]
    fn table() {
        let text = |text: &'static str| Text(Cow::Borrowed(text));
        check(&[], Ok((0, None)));
        check(&[("priority", Integer(3)), ("timeout", Integer(500))], Ok((3, Some(500))));
        check(&[("priority", Integer(3)), ("timeout", Integer(0))], Ok((3, None)));
        check(&[("priority", Integer(u64::MAX.into()))], Ok((u64::MAX, None)));
        check(&[("priority", Integer(-1))], Err("'priority', expected value >= 0, got -1"));
        check(&[("priority", text("high"))], Err("expected a whole number, got a string"));
        check(&[("timeout", Integer(-1))], Err("'timeout', expected value >= 0"));
        check(&[("timeout", Float(1.5))], Err("expected a whole number, got a number with"));
        check(&[("sequence_id", text("a")), ("sequence_start", Bool(true))], Ok((0, None)));
        check(&[("sequence_id", Bool(true))], Err("a whole number or a string"));
        check(&[("sequence_end", Integer(1))], Err("expected a boolean"));
        check(&[("binary_data_output", Integer(1))], Err("expected a boolean"));
        check(&[("triton_enable_empty_final_response", Bool(true))], Ok((0, None)));
        check(&[("triton_enable_empty_final_response", text("y"))], Err("expected a boolean"));
        check(&[("triton_other", Bool(true))], Err("reserved for Triton usage"));
        check(&[("my_own", Float(0.5))], Ok((0, None)));
    }

    #[track_caller]
    fn check(
        given: &[(&'static str, Parameter<'static>)],
        expected: Result<(u64, Option<u64>), &str>,
    ) {
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
        let region = ("shared_memory_region", Text(Cow::Borrowed("r")));
        let size = ("shared_memory_byte_size", Integer(8));
        let offset = ("shared_memory_offset", Integer(4));
        let found = shared_memory("x", &parameters(&[region.clone(), size, offset]));
        let expected = Slice { region: "r".to_owned(), offset: 4, byte_size: 8 };
        assert_eq!(found.expect("reads"), Some(expected));
        assert!(shared_memory("x", &parameters(&[region])).is_err(), "no size");
        assert_eq!(shared_memory("x", &parameters(&[])).expect("none"), None);

        let count = |value| classification(&parameters(&[("classification", value)]));
        assert_eq!(count(Integer(3)).expect("reads"), Some(3));
        assert!(count(Integer(0)).is_err());
        assert!(count(Integer(-1)).is_err());
        assert!(count(Bool(true)).is_err());
    }
}
