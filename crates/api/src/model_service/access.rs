//! `spec.access`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Who may call the service, and how much.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// A Secret whose entries are callers: the key names one, the value is its API key. Default:
    /// no key is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub api_keys_secret: Option<String>,
    /// Workspaces whose pods may connect. Acted on in Kubernetes only. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub from_workspaces: Option<Vec<String>>,
    /// How much one caller (an API key, else a client address) may ask. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// A limit on requests over time.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Requests per second that a caller may keep up.
    #[schemars(range(min = 1, max = 10000000))]
    pub rps: u32,
    /// Requests that may come at once after a quiet time. Default: as many as `rps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000000))]
    pub burst: Option<u32>,
}
