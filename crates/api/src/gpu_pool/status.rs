//! `status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Bytes;

/// What is. Conditions follow kstatus: `Ready`, `Progressing`, `Degraded`, `Stalled`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GpuPoolStatus {
    /// The generation of the spec that the status tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: its nodes announce what the spec says. `Progressing`: they are about to. `Degraded`:
    /// some of its GPUs cannot be had. `Stalled`: it needs a person.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Nodes that have the pool's labels.
    #[serde(default)]
    pub nodes: u32,
    /// Physical GPUs of those nodes, as far as they are known.
    #[serde(default)]
    pub gpus: u32,
    /// Whole GPUs, shares or instances that healthy GPUs give.
    #[serde(default)]
    pub units: u32,
    /// Units that pods have.
    #[serde(default)]
    pub allocated: u32,
    /// Memory of one whole GPU, as the pool's nodes tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// What pods ask for, by resource.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub resources: Vec<PoolResource>,
}

/// One kind of unit that the pool has.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PoolResource {
    /// The resource that pods ask for, such as `nvidia.com/gpu.shared`.
    pub name: String,
    /// Units that the nodes have, broken ones with them.
    pub capacity: u32,
    /// Units that healthy GPUs give.
    pub allocatable: u32,
    /// Units that pods have.
    pub allocated: u32,
}
