//! `GpuPool`: nodes with equal GPUs, and how each GPU is shared.
//!
//! Services name a pool (`spec.resources.gpu.pool`) and how much of a GPU they need; everything else
//! follows from the pool: the resource that pods ask for, where they may run, what the device plugin
//! is told, and how much memory a framework may take.

#![expect(unreachable_pub, reason = "kube's derive repeats each struct inside a function")]

mod sharing;
mod status;

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model_service::TaintEffect;
use crate::scalar::{Bytes, Price};

pub use sharing::{MigProfile, Sharing, SharingMode};
pub use status::{GpuPoolStatus, PoolResource};

/// Nodes with equal GPUs, and how each GPU is shared between services.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "trainyard.dev",
    version = "v1alpha1",
    kind = "GpuPool",
    plural = "gpupools",
    shortname = "gp",
    category = "trainyard",
    status = "GpuPoolStatus",
    derive = "PartialEq",
    doc = "Nodes with equal GPUs, and how each GPU is shared between services.",
    cel,
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Sharing", type_ = "string", json_path = ".spec.sharing.mode", description = "How each GPU is shared"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".status.gpus"),
    printcolumn(name = "Units", type_ = "integer", json_path = ".status.units", description = "GPUs or parts of one that pods can have"),
    printcolumn(name = "Allocated", type_ = "integer", json_path = ".status.allocated", description = "Units that pods have"),
    printcolumn(name = "Product", type_ = "string", json_path = ".spec.product", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 52").message("the name becomes a label of nodes and a part of other names: it must start with a lower-case letter, hold only lower-case letters, digits and `-`, end with a letter or digit, and have at most 52 characters"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("size(self.nodeSelector) > 0").message("name at least one label; a pool without any would have every node of the cluster").field_path(".nodeSelector"),
)]
pub struct GpuPoolSpec {
    /// Labels that the pool's nodes have, such as `{cloud.google.com/gke-nodepool: t4}`. A node
    /// should be in one pool only.
    pub node_selector: BTreeMap<String, String>,
    /// The product of its GPUs, as in the label `nvidia.com/gpu.product`, such as `Tesla-T4`.
    /// Default: whatever its nodes have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub product: Option<String>,
    /// Memory of one whole GPU, such as `15360Mi`. Default: that of the product, or what the label
    /// `nvidia.com/gpu.memory` of its nodes says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// How each GPU is shared. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
    /// A taint that the pool's nodes have. Default: none beyond those that GPU nodes of the cloud
    /// usually have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taint: Option<Taint>,
    /// How its nodes are rented: `onDemand` or `spot`. Default: unknown, or both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// What one GPU costs in an hour, such as `0.35 USD`. Default: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<Price>,
}

/// A taint of nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// The taint's key, such as `nvidia.com/gpu`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// The taint's value. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// What it does to pods that do not tolerate it: `NoSchedule`, `PreferNoSchedule` or
    /// `NoExecute`. Default: NoSchedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// How nodes are rented.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum Capacity {
    OnDemand,
    Spot,
}

impl GpuPoolSpec {
    /// How each GPU is shared; [`SharingMode::None`] where nothing is said.
    pub fn mode(&self) -> SharingMode {
        self.sharing.as_ref().map_or(SharingMode::None, |sharing| sharing.mode)
    }
}
