//! `status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

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
