//! `spec.runtime`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What serves the model.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.name != 'custom' || has(self.command) || has(self.image)").message("a `custom` runtime needs a `command`, an `image`, or both"),
    validation = Rule::new("self.name == 'custom' || !has(self.command)").message("only a `custom` runtime takes a `command`; remove it, since the other runtimes have their own").field_path(".command"),
)]
pub struct Runtime {
    /// `onnx` (Trainyard's own server), `tensorflow`, `triton`, `vllm`, `torchserve`, or `custom`.
    pub name: RuntimeName,
    /// The container image. Default: the preset's, at a version that Trainyard was tested with.
    /// Processes on a laptop ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// The command of a `custom` runtime. `$(NAME)` stands for an environment variable; the server
    /// has to listen on the port `$(PORT)` and finds the model at `$(MODEL_PATH)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub command: Option<Vec<String>>,
    /// Arguments after the command, or after those of the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub args: Option<Vec<String>>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub env: Option<Vec<EnvVar>>,
}

/// Presets of runtimes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeName {
    Onnx,
    TensorFlow,
    Triton,
    Vllm,
    TorchServe,
    Custom,
}

impl RuntimeName {
    /// The name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::TensorFlow => "tensorflow",
            Self::Triton => "triton",
            Self::Vllm => "vllm",
            Self::TorchServe => "torchserve",
            Self::Custom => "custom",
        }
    }
}

/// One environment variable, as in a pod.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.value) && has(self.valueFrom))").message("give either `value` or `valueFrom`, not both"),
)]
pub struct EnvVar {
    /// The variable's name.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value, in which `$(NAME)` stands for a variable before it. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where its value comes from, if it is not in the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// Where the value of an environment variable comes from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EnvSource {
    /// A key of a Secret of the namespace.
    pub secret_key_ref: SecretKey,
}

/// A key of a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}
