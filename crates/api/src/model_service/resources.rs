//! `spec.resources`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Bytes, Millicores, Share};

/// What one replica may use: both reserved for it and its limit.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// CPU: `2` is two cores, `500m` half of one. Default: 1 in
    /// Kubernetes, no limit on a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Millicores>,
    /// Memory, such as `8Gi`. Default: 2Gi in Kubernetes, no limit on a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// A GPU or a part of one. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
}

/// How much of a GPU a replica needs: whole ones by `count`, or a part of one by `memory` or by
/// `share`. Trainyard derives everything else from it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.count) ? 1 : 0) + (has(self.memory) ? 1 : 0) + (has(self.share) ? 1 : 0) == 1").message("say exactly one of `count` (own whole GPUs), `memory` and `share` (share one GPU)"),
)]
pub struct Gpu {
    /// Whole GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub count: Option<u32>,
    /// Memory of a shared GPU, such as `8Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// A share of one GPU, such as `1/4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// The GpuPool to take it from. Default: the cluster's default pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub pool: Option<String>,
    /// The product that a node must have, as in the label `nvidia.com/gpu.product`, such as
    /// `Tesla-T4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub product: Option<String>,
}
