//! `spec.data`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Bytes, ModelUri, unruled};

/// Data that the program reads, and finds at its start.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!self.uri.startsWith('oci:') && !self.uri.startsWith('mlflow:')").message("data is had from `file://`, `pvc://`, `s3://`, `gs://`, `az://` or `https://`").field_path(".uri"),
    validation = Rule::new("!has(self.credentialsSecret) || !(self.uri.startsWith('file:') || self.uri.startsWith('pvc:'))").message("data from `file://` or `pvc://` needs no credentials; remove `credentialsSecret`").field_path(".credentialsSecret"),
    validation = Rule::new("!self.uri.startsWith('pvc:') || !has(self.sha256) && !has(self.size)").message("data in a volume is read where it lies; remove `sha256` and `size`").field_path(".uri"),
)]
pub struct Data {
    /// What the data is called. The program finds its path in `$TRAINYARD_DATA_NAME`, in capital
    /// letters and with `_` for `-`.
    #[schemars(length(min = 1, max = 30), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Where it is, a file or a folder: `s3://`, `gs://`, `az://` or `https://`, which each worker
    /// fetches before its program starts; `pvc://CLAIM/PATH` in a volume that all workers can mount
    /// (Kubernetes only); or `file://` (one machine only).
    pub uri: ModelUri,
    /// SHA-256 of its file, 64 hexadecimal digits. Data that differs is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
    /// A Secret of the namespace with the credentials for the uri, under the names of the scheme's
    /// environment variables, such as `AWS_ACCESS_KEY_ID`. The program does not see it. Acted on in
    /// Kubernetes only. Default: the workers' own identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
    /// Where the program sees the folder, or the folder of the one file. Acted on in Kubernetes
    /// only. Default: `/data/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1024), regex(pattern = r"^/[^:\x00-\x1f]+$"))]
    pub mount: Option<String>,
    /// Disk that a worker keeps for it. More is not fetched. Acted on in Kubernetes only. Default:
    /// 100Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "unruled::<Option<Bytes>>")]
    pub size: Option<Bytes>,
}
