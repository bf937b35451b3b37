//! `status`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// The generation of the spec that the status tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Jobs that wait.
    #[serde(default)]
    pub waiting: u32,
    /// Jobs that have what they asked for.
    #[serde(default)]
    pub admitted: u32,
    /// What those have.
    #[serde(default)]
    pub usage: Vec<QueueUse>,
    /// The largest part, over resources, of what the cohort lends that the queue has borrowed, divided
    /// by its weight, in thousandths.
    #[serde(default)]
    pub share: u64,
}

/// What a queue's jobs have of one resource of one pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QueueUse {
    /// The pool, or `default`.
    pub pool: String,
    /// `cpu`, `memory` or `gpu`.
    pub resource: String,
    /// What is used, such as `12` or `96Gi`.
    pub used: String,
    /// The queue's own.
    pub nominal: String,
    /// Of what is used, what others have lent.
    pub borrowed: String,
}
