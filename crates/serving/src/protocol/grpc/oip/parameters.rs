//! Parameters of messages in the form that both protocols share.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::inference::InferParameter;
use super::super::inference::infer_parameter::ParameterChoice;
use crate::protocol::oip::parameters::Parameter;

/// Parameters as messages have them.
pub(super) type Parameters = BTreeMap<String, InferParameter>;

/// The parameters that have a value.
pub(super) fn shared(parameters: &Parameters) -> Vec<(Cow<'_, str>, Parameter<'_>)> {
    let mut shared = Vec::with_capacity(parameters.len());
    for (key, parameter) in parameters {
        let value = match &parameter.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(*value),
            Some(ParameterChoice::Int64Param(value)) => Parameter::Integer((*value).into()),
            Some(ParameterChoice::Uint64Param(value)) => Parameter::Integer((*value).into()),
            Some(ParameterChoice::DoubleParam(value)) => Parameter::Float(*value),
            Some(ParameterChoice::StringParam(value)) => Parameter::Text(Cow::Borrowed(value)),
            None => continue,
        };
        shared.push((Cow::Borrowed(key.as_str()), value));
    }
    shared
}
