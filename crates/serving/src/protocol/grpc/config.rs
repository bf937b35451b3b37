//! The model configuration as a message, read from the JSON form that the server keeps.

use serde::{Deserialize, Deserializer, de};

use super::inference::{
    DataType, ModelConfig, model_input, model_instance_group, model_optimization_policy,
    model_queue_policy,
};
use crate::error::InferError;

/// Reads JSON with the field names of the message; fields that the message lacks are left out.
pub(crate) fn from_json(config: serde_json::Value) -> Result<ModelConfig, InferError> {
    serde_json::from_value(config).map_err(|error| {
        InferError::Internal(format!("the model configuration has no message form: {error}"))
    })
}

/// An enumeration whose values have names in JSON.
pub(crate) trait NamedEnum: Sized {
    fn from_name(name: &str) -> Option<Self>;
    fn number(self) -> i32;
}

macro_rules! named_enums {
    ($($name:ty),+) => {$(
        impl NamedEnum for $name {
            fn from_name(name: &str) -> Option<Self> {
                Self::from_str_name(name)
            }
            fn number(self) -> i32 {
                self as i32
            }
        }
    )+};
}

named_enums!(
    DataType,
    model_input::Format,
    model_instance_group::Kind,
    model_optimization_policy::ModelPriority,
    model_queue_policy::TimeoutAction
);

/// Reads the value of an enumeration by its name, for fields that the generated code holds as a
/// number.
pub(crate) fn enum_name<'de, E, D>(deserializer: D) -> Result<i32, D::Error>
where
    E: NamedEnum,
    D: Deserializer<'de>,
{
    let name = String::deserialize(deserializer)?;
    let value = E::from_name(&name);
    value.map(E::number).ok_or_else(|| de::Error::custom(format!("`{name}` is not a known value")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::inference::model_version_policy::PolicyChoice;
    use super::super::inference::model_warmup::input::InputDataType;
    use super::*;

    #[test]
    fn reads_every_kind_of_field() {
        let config = from_json(json!({
            "name": "iris",
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "runtime": "a field that the message does not have",
            "version_policy": {"latest": {"num_versions": 2}},
            "max_batch_size": 8,
            "input": [{"name": "x", "data_type": "TYPE_FP32", "format": "FORMAT_NCHW",
                       "dims": [-1, 4], "reshape": {"shape": [4]}, "optional": true}],
            "output": [{"name": "y", "data_type": "TYPE_STRING", "dims": [1],
                        "label_filename": "labels.txt"}],
            "instance_group": [{"name": "a", "count": 2, "kind": "KIND_CPU", "gpus": [0]}],
            "dynamic_batching": {
                "preferred_batch_size": [4, 8],
                "max_queue_delay_microseconds": 100,
                "default_queue_policy": {"timeout_action": "DELAY", "max_queue_size": 7},
                "priority_queue_policy": {"1": {"max_queue_size": 3}},
            },
            "optimization": {"graph": {"level": 1}, "priority": "PRIORITY_MAX"},
            "parameters": {"intra_op_thread_count": {"string_value": "2"}},
            "model_warmup": [{"name": "w", "batch_size": 1, "inputs": {
                "x": {"data_type": "TYPE_FP32", "dims": [4], "zero_data": true}}}],
        }))
        .expect("reads");

        assert_eq!(config.max_batch_size, 8);
        let policy = config.version_policy.expect("given").policy_choice.expect("given");
        assert!(matches!(policy, PolicyChoice::Latest(latest) if latest.num_versions == 2));
        let input = &config.input[0];
        assert_eq!(input.data_type(), DataType::TypeFp32);
        assert_eq!(input.format(), model_input::Format::Nchw);
        assert_eq!(input.dims, [-1, 4]);
        assert_eq!(config.instance_group[0].kind(), model_instance_group::Kind::Cpu);
        let batching = config.dynamic_batching.expect("given");
        let queue = batching.default_queue_policy.expect("given");
        assert_eq!(queue.timeout_action(), model_queue_policy::TimeoutAction::Delay);
        assert_eq!(batching.priority_queue_policy[&1].max_queue_size, 3);
        let warm_up = &config.model_warmup[0].inputs["x"];
        assert_eq!(warm_up.input_data_type, Some(InputDataType::ZeroData(true)));
    }

    #[test]
    fn refuses_an_unknown_name() {
        let error = from_json(json!({"input": [{"data_type": "TYPE_FP99"}]})).expect_err("unknown");
        assert!(error.to_string().contains("TYPE_FP99"), "{error}");
    }
}
