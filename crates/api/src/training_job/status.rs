//! `status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What is. Conditions follow kstatus: `Ready`, `Progressing`, `Degraded`, `Stalled`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrainingJobStatus {
    /// The generation of the spec that the status tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: it has finished. `Progressing`: it runs, or will. `Degraded`: it runs again after a
    /// failure. `Stalled`: it has failed for good. `QuotaReserved`, of jobs with a queue: it has what
    /// it asked for, or why not.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// `Waiting`, `Running`, `Ending`, `Succeeded`, `Failed`, `Suspended` in Kubernetes, or
    /// `Interrupted` on one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why the phase is what it is, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Workers that run.
    #[serde(default)]
    pub active_workers: u32,
    /// Times that the workers were started.
    #[serde(default)]
    pub attempts: u32,
    /// Attempts that failed since the spec changed last.
    #[serde(default)]
    pub failures: u32,
    /// Attempts that somebody or something interrupted: no fault of the program.
    #[serde(default)]
    pub interruptions: u32,
    /// The step that the program reported last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// When the workers were started first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the job finished, or was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// What the operator goes on from after a restart. It is its own; do not edit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}
