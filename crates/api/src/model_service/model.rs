//! `spec.model`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::ModelUri;

/// The model: its place and what is known about it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.credentialsSecret) || !(self.uri.startsWith('file:') || self.uri.startsWith('pvc:'))").message("a model from `file://` or `pvc://` needs no credentials; remove `credentialsSecret`").field_path(".credentialsSecret"),
)]
pub struct Model {
    /// Where the model is: `file://`, `pvc://`, `s3://`, `gs://`, `az://`, `https://`, `oci://` or
    /// `mlflow://models/NAME@ALIAS`. It is one file, a folder, or a folder of numbered versions.
    /// `file://./PATH` and `file://../PATH` start at the folder of the manifest.
    pub uri: ModelUri,
    /// What the model is. Default: told from its files, or from the runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ModelFormat>,
    /// Serve this version of a folder of numbered versions. Default: the highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<u64>,
    /// SHA-256 of the model's file, 64 hexadecimal digits. A model that differs is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
    /// A Secret of the namespace with the credentials for the uri, under the names of the scheme's
    /// environment variables, such as `AWS_ACCESS_KEY_ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
}

/// Formats of models.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum ModelFormat {
    Onnx,
    SavedModel,
    TorchScript,
    TorchArchive,
    HuggingFace,
    TensorRt,
}
