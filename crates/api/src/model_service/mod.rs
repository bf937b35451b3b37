//! `ModelService`: a model behind an endpoint.
//!
//! The doc comment of each field is its text in `kubectl explain`. Rules between fields are CEL
//! (`x-kubernetes-validations`): the API server and our own reader enforce the very same ones.

#![expect(unreachable_pub, reason = "kube's derive repeats each struct inside a function")]

mod access;
mod model;
mod model_name;
mod placement;
mod resources;
mod rollout;
mod runtime;
mod scaling;
mod status;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use access::{Access, RateLimit};
pub use model::{Model, ModelFormat};
pub use model_name::{MODEL_NAME, model_name_rules, path_segment, wrong_model_name};
pub use placement::{
    Placement, Spot, Spread, TaintEffect, Toleration, TolerationOperator, Topology,
};
pub use resources::{Gpu, Resources};
pub use rollout::{Abort, Rollout, RolloutStrategy};
pub use runtime::{EnvSource, EnvVar, Runtime, RuntimeName, SecretKey};
pub use scaling::{Batching, Scaling};
pub use status::{MirrorStatus, ModelServiceStatus, RevisionStatus, RolloutStatus, TrackStatus};

/// A model served behind one endpoint: where the model comes from, what serves it, how many
/// replicas there are, and how a change is rolled out.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "trainyard.dev",
    version = "v1alpha1",
    kind = "ModelService",
    plural = "modelservices",
    shortname = "ms",
    category = "all",
    category = "trainyard",
    namespaced,
    status = "ModelServiceStatus",
    derive = "PartialEq",
    doc = "A model served behind one endpoint.",
    cel,
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas", description = "Ready replicas"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision", description = "The revision that serves"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.uri", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 52").message("the name becomes a Service's: it must start with a lower-case letter, hold only lower-case letters, digits and `-`, end with a letter or digit, and have at most 52 characters"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.batching) || !has(self.runtime) || self.runtime.name in ['onnx', 'tensorflow', 'vllm', 'torchserve']").message("only the runtimes `onnx`, `tensorflow`, `vllm` and `torchserve` take their batching from here; remove it, and give other runtimes their own settings in `runtime.args` or beside the model").field_path(".batching"),
    validation = Rule::new("!has(self.batching) || !has(self.runtime) || self.runtime.name != 'vllm' || (!has(self.batching.maxDelay) && !has(self.batching.maxQueue))").message("vLLM adds requests to the running batch at each step: it takes `maxSize` only; remove the others").field_path(".batching"),
    validation = Rule::new("!has(self.batching) || !has(self.runtime) || self.runtime.name != 'torchserve' || (!has(self.batching.maxSize) && !has(self.batching.maxDelay))").message("TorchServe reads sizes and delays of batches from the model's archive: it takes `maxQueue` only; remove the others").field_path(".batching"),
    validation = Rule::new("!has(self.runtime) || self.runtime.name != 'onnx' || !has(self.model.format) || self.model.format == 'onnx'").message("the `onnx` runtime serves ONNX models only; choose another runtime or leave `format` out").field_path(".model.format"),
    validation = Rule::new("!has(self.placement) || !has(self.placement.topology)").message("replicas say nothing to one another, and are safer apart; remove it").field_path(".placement.topology"),
)]
pub struct ModelServiceSpec {
    /// Where the model comes from, and what it is.
    pub model: Model,
    /// What serves the model. Default: Trainyard's own server, `onnx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// What one replica may use. Default: 1 CPU and 2Gi of memory, no GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How requests are put together to batches. Default: the runtime's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batching: Option<Batching>,
    /// Exactly so many replicas, whatever `scaling` says: what `kubectl scale` sets, and what an
    /// autoscaler of your own targets. 0 stops the service. Default: `scaling` decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub replicas: Option<u32>,
    /// How many replicas there are. Default: one, always.
    #[serde(default)]
    pub scaling: Scaling,
    /// How a change takes over from what serves. Default: replica by replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Who may call the service, and how much. Default: everybody who reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Where replicas may run. Acted on in Kubernetes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}
