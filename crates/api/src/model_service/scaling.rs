//! `spec.scaling` and `spec.batching`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Percent, Period};

/// How many replicas there are. With several metrics, the one that needs most replicas decides.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.max) || self.max >= self.min").message("`max` must not be below `min`").field_path(".max"),
    validation = Rule::new("!has(self.scaleToZeroAfter) || self.min == 0").message("`scaleToZeroAfter` acts only with `min: 0`; set that, or remove it").field_path(".scaleToZeroAfter"),
    validation = Rule::new("!has(self.maxConcurrency) || !has(self.concurrency) || self.maxConcurrency >= self.concurrency").message("`maxConcurrency` must not be below `concurrency`; raise it, or lower `concurrency`").field_path(".maxConcurrency"),
    validation = Rule::new("!has(self.cpu) || self.cpu.matches('^0*(100([.]0+)?|[1-9][0-9]?([.][0-9]+)?)%$')").message("`cpu` must be from 1% to 100%").field_path(".cpu"),
    validation = Rule::new("!has(self.memory) || self.memory.matches('^0*(100([.]0+)?|[1-9][0-9]?([.][0-9]+)?)%$')").message("`memory` must be from 1% to 100%").field_path(".memory"),
    validation = Rule::new("!has(self.gpu) || self.gpu.matches('^0*(100([.]0+)?|[1-9][0-9]?([.][0-9]+)?)%$')").message("`gpu` must be from 1% to 100%").field_path(".gpu"),
)]
pub struct Scaling {
    /// Never fewer replicas. 0 lets the service stop when nobody calls; the next request is held
    /// while it starts. Default: 1.
    #[serde(default = "crate::defaults::min_replicas")]
    #[schemars(range(max = 1000))]
    pub min: u32,
    /// Never more replicas. Default: `min`, and at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<u32>,
    /// CPU use, as a share of `resources.cpu`, that replicas are kept at. Acted on in Kubernetes
    /// only. Default: 70% if `max` is above `min` and no other metric is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Percent>,
    /// Memory use, as a share of `resources.memory`, that replicas are kept at. Acted on in
    /// Kubernetes only. Default: none, since servers rarely give memory back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Percent>,
    /// Requests in flight that one replica should have. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub concurrency: Option<u32>,
    /// Most requests in flight at one replica; further ones wait at the gateway, and get 503 if too
    /// many wait or a place does not come in time. It does not change how many replicas there are.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub max_concurrency: Option<u32>,
    /// Requests per second that one replica should answer. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000000))]
    pub rps: Option<u32>,
    /// GPU use that replicas are kept at. Acted on in Kubernetes only. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Percent>,
    /// With `min: 0`: stop the last replica after so long without a request. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_to_zero_after: Option<Period>,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min: crate::defaults::min_replicas(),
            max: None,
            cpu: None,
            memory: None,
            concurrency: None,
            max_concurrency: None,
            rps: None,
            gpu: None,
            scale_to_zero_after: None,
        }
    }
}

/// How the server puts requests together to batches. `onnx` and `tensorflow` take all of it, `vllm`
/// takes `maxSize`, `torchserve` takes `maxQueue`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Batching {
    /// Most elements in one batch; 1 turns batching off. Default: the runtime's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_size: Option<u32>,
    /// Longest wait of a request for others to join its batch, such as `2ms`. Default: the
    /// runtime's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<Period>,
    /// Most requests that may wait in one replica; beyond it they get 503 at once. Default: the
    /// runtime's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub max_queue: Option<u32>,
}
