//! A model configuration as far as this server acts on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::tensor::DataType;

/// Triton's `ModelConfig`. Serialises to JSON with the message's own field names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ModelConfig {
    pub(crate) name: String,
    pub(crate) platform: String,
    pub(crate) backend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version_policy: Option<VersionPolicy>,
    /// `None` leaves it to the server; 0 is a model without batch dimension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_batch_size: Option<i32>,
    pub(crate) input: Vec<InputConfig>,
    pub(crate) output: Vec<OutputConfig>,
    pub(crate) instance_group: Vec<InstanceGroup>,
    pub(crate) default_model_filename: String,
    pub(crate) metric_tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dynamic_batching: Option<DynamicBatching>,
    pub(crate) parameters: BTreeMap<String, Parameter>,
    pub(crate) model_warmup: Vec<WarmUp>,
}

/// Which versions of a model are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VersionPolicy {
    /// The newest.
    Latest {
        #[serde(default = "one")]
        num_versions: u32,
    },
    All {},
    Specific {
        #[serde(default)]
        versions: Vec<i64>,
    },
}

const fn one() -> u32 {
    1
}

/// What is declared of an input or an output alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TensorConfig {
    pub(crate) name: String,
    #[serde(with = "type_name")]
    pub(crate) data_type: Option<DataType>,
    /// Without the batch dimension when the model has one.
    pub(crate) dims: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reshape: Option<Reshape>,
}

/// One declared input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InputConfig {
    #[serde(flatten)]
    pub(crate) tensor: TensorConfig,
    pub(crate) optional: bool,
}

/// One declared output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OutputConfig {
    #[serde(flatten)]
    pub(crate) tensor: TensorConfig,
    /// A file in the model's folder with one class label a line.
    pub(crate) label_filename: String,
}

/// The shape the model has, where it differs from the one that clients see.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reshape {
    pub(crate) shape: Vec<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InstanceGroup {
    pub(crate) name: String,
    /// `KIND_AUTO`, `KIND_GPU`, `KIND_CPU` or `KIND_MODEL`; empty for the first.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) kind: String,
    pub(crate) count: i32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DynamicBatching {
    pub(crate) preferred_batch_size: Vec<i32>,
    pub(crate) max_queue_delay_microseconds: u64,
    pub(crate) preserve_ordering: bool,
    pub(crate) priority_levels: u64,
    pub(crate) default_priority_level: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default_queue_policy: Option<QueuePolicyConfig>,
    pub(crate) priority_queue_policy: BTreeMap<u64, QueuePolicyConfig>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct QueuePolicyConfig {
    /// `REJECT` or `DELAY`; empty for the first.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) timeout_action: String,
    pub(crate) default_timeout_microseconds: u64,
    pub(crate) allow_timeout_override: bool,
    /// Requests; 0 is unlimited, `None` leaves it to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_queue_size: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Parameter {
    pub(crate) string_value: String,
}

/// A request that is run before a version serves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WarmUp {
    pub(crate) name: String,
    pub(crate) batch_size: u32,
    pub(crate) inputs: BTreeMap<String, WarmUpInput>,
    /// How often; 0 is once.
    pub(crate) count: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WarmUpInput {
    #[serde(with = "type_name")]
    pub(crate) data_type: Option<DataType>,
    pub(crate) dims: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zero_data: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) random_data: Option<bool>,
    /// A file in the folder `warmup` of the model's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input_data_file: Option<String>,
}

impl ModelConfig {
    /// From JSON whose names and types were checked.
    pub(super) fn from_json(mut config: Map<String, Value>) -> Result<Self, serde_json::Error> {
        // A policy without a choice is none.
        let policy = config.get("version_policy").and_then(Value::as_object);
        if policy.is_some_and(Map::is_empty) {
            config.remove("version_policy");
        }
        serde_json::from_value(Value::Object(config))
    }
}

/// Triton's name of a data type in a configuration, which differs from the protocol's.
pub(crate) fn type_name(data_type: DataType) -> String {
    match data_type {
        DataType::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{}", other.oip_name()),
    }
}

mod type_name {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        data_type: &Option<DataType>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let name = data_type.map_or_else(|| "TYPE_INVALID".to_owned(), super::type_name);
        serializer.serialize_str(&name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<DataType>, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name == "TYPE_INVALID" {
            return Ok(None);
        }
        let known =
            DataType::ALL.into_iter().find(|data_type| super::type_name(*data_type) == name);
        known.map(Some).ok_or_else(|| de::Error::custom(format!("unknown data type {name}")))
    }
}
