//! `status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Percent;

/// What is. Conditions follow kstatus: `Ready`, `Progressing`, `Degraded`, `Stalled`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ModelServiceStatus {
    /// The generation of the spec that the status tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: requests are answered by the revision that the spec asks for. `Progressing`: a
    /// change is under way. `Degraded`: it serves, but not as asked. `Stalled`: it needs a person.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where to send requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The revision that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Replicas of all revisions.
    #[serde(default)]
    pub replicas: u32,
    /// Replicas that answer requests.
    #[serde(default)]
    pub ready_replicas: u32,
    /// Label selector of the replicas, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Every revision that has replicas, the serving one first.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub revisions: Vec<RevisionStatus>,
    /// How requests are split while the strategy is `canary` or `blueGreen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// One revision.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// The revision's name.
    pub name: String,
    /// Percent of the requests that it gets.
    pub traffic: u32,
    /// Its replicas.
    pub replicas: u32,
    /// Those of them that answer requests.
    pub ready_replicas: u32,
}

/// A rollout with a second revision beside the one that serves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// `Stable`, `Progressing`, `Paused`, `Aborted` or `Stalled`.
    pub phase: String,
    /// Why, in one word.
    pub reason: String,
    /// Why a revision was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Which revision each track runs, and its share of the requests. The gateway reads it.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["track".into()]))]
    pub tracks: Vec<TrackStatus>,
    /// The revision that gets copies of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorStatus>,
    /// What the operator goes on from after a restart. It is its own; do not edit it.
    pub memory: String,
}

/// A set of replicas: the Deployment `NAME` (`stable`) or `NAME-candidate` (`candidate`).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrackStatus {
    /// `stable` or `candidate`.
    pub track: String,
    /// The revision that its replicas run.
    pub revision: String,
    /// Percent of the requests that the revision gets, on both tracks together.
    pub weight: u32,
    /// Whether requests go to this track's replicas. They do not while the track changes over to
    /// the revision from another one.
    pub serves: bool,
}

/// Copies of requests whose answers are measured and dropped.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MirrorStatus {
    /// The revision that gets them.
    pub revision: String,
    /// The share of requests that are copied.
    pub share: Percent,
}
