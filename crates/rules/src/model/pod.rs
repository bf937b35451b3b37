//! Pod templates, whatever kind of object they stand in.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::quantity::Quantity;
use crate::yaml::Node;

use super::container::Container;
use super::device::{Device, DeviceKind};
use super::framework::Sureness;
use super::object::Object;

/// What runs a pod template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manager {
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
    JobSet,
    LeaderWorkerSet,
    /// RayCluster, RayJob, RayService.
    Ray,
    /// KServe's InferenceService.
    InferenceService,
    /// Templates that others complete: ServingRuntime, LLMInferenceService and its configurations.
    Runtime,
    /// Kubeflow's PyTorchJob, TFJob, MPIJob and so on.
    TrainingOperator,
    /// Kubeflow's TrainJob and TrainingRuntime.
    Trainer,
    Volcano,
    Seldon,
    /// Argo's Workflow and what holds its templates.
    Argo,
    Knative,
    Notebook,
    /// Any other kind in which something looks like a pod template.
    Unknown,
}

/// What a pod is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    Serving,
    Training,
    Notebook,
    /// Runs to its end, but is no training that is known.
    Batch,
    /// Part of the cluster: device plugins, exporters, operators.
    System,
    Unknown,
}

/// A pod template.
#[derive(Debug, Clone)]
pub struct Pod<'b> {
    /// Its position in [`Bundle::pods`](super::Bundle::pods).
    pub index: usize,
    /// The object that it stands in.
    pub object: Object<'b>,
    /// The PodSpec, or the mapping that stands for one (KServe's `predictor`).
    pub spec: Node<'b>,
    /// The template's own metadata; of a Pod, the object's. Missing if there is none.
    pub metadata: Node<'b>,
    pub manager: Manager,
    /// The part it plays where an object has several: `head`, a worker group, `Worker`, `leader`;
    /// else empty.
    pub role: &'b str,
    /// Init containers first, then the others, in order.
    pub containers: Vec<Container<'b>>,
    /// Pods of this template in one object as it says, 1 where it says nothing; `None` where it
    /// cannot be known (DaemonSets, runtimes).
    pub replicas: Option<i64>,
    /// Where replicas are set; missing if they are not.
    pub replicas_node: Node<'b>,
    /// Whether this is all there will be of the pod. `false` for patches, runtimes that are
    /// merged with a service, and kinds that are not known: what is absent here may come from
    /// elsewhere, so rules about absence stay silent.
    pub complete: bool,
    pub purpose: Purpose,
    pub purpose_sureness: Sureness,
    /// What rules have found out about the whole pod.
    pub(crate) answers: Answers,
}

/// Answers that take a look at all containers, and that rules about one container ask for: found
/// once, lest a pod of a thousand takes a million looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    pub(crate) is_test: OnceLock<bool>,
    pub(crate) is_short_test: OnceLock<bool>,
    pub(crate) trains: OnceLock<bool>,
    pub(crate) measures_devices: OnceLock<bool>,
}

/// A volume of a pod template.
#[derive(Debug, Clone, Copy)]
pub struct Volume<'b> {
    pub node: Node<'b>,
    pub name: &'b str,
}

impl<'b> Pod<'b> {
    /// Containers that run side by side (without those that only prepare).
    pub fn main_containers(&self) -> impl Iterator<Item = &Container<'b>> {
        self.containers.iter().filter(|container| !container.init)
    }

    /// The accelerators of all containers that run side by side.
    pub fn devices(&self) -> impl Iterator<Item = (&Container<'b>, &Device<'b>)> {
        self.main_containers()
            .flat_map(|container| container.devices.iter().map(move |device| (container, device)))
            .filter(|(_, device)| device.count != Some(0))
    }

    /// GPUs that one pod asks for, shares and slices counted as one each.
    #[must_use]
    pub fn gpus(&self) -> i64 {
        self.main_containers().map(Container::gpus).fold(0, i64::saturating_add)
    }

    /// The first container that asks for GPUs (whole, shared or sliced), and its request.
    #[must_use]
    pub fn gpu(&self) -> Option<(&Container<'b>, &Device<'b>)> {
        self.devices().find(|(_, device)| device.is_gpu())
    }

    /// Whether one pod asks for an accelerator of any kind, fractions and claims too.
    #[must_use]
    pub fn has_accelerator(&self) -> bool {
        self.devices().next().is_some()
            || !self.spec.get("resourceClaims").is_empty()
            || FRACTIONS.iter().any(|key| self.annotation(key).exists() || self.label(key).exists())
    }

    /// Whether it serves models, and that is not only a guess of its kind.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.purpose == Purpose::Serving
    }

    #[must_use]
    pub fn trains(&self) -> bool {
        self.purpose == Purpose::Training
    }

    #[must_use]
    pub fn labels(&self) -> Node<'b> {
        self.metadata.get("labels")
    }

    #[must_use]
    pub fn label(&self, key: &str) -> Node<'b> {
        self.labels().get(key)
    }

    #[must_use]
    pub fn annotation(&self, key: &str) -> Node<'b> {
        self.metadata.get("annotations").get(key)
    }

    pub fn tolerations(&self) -> impl Iterator<Item = Node<'b>> + Clone + use<'b> {
        self.spec.get("tolerations").items()
    }

    /// Whether a toleration covers a taint of this key, whatever its value and effect.
    #[must_use]
    pub fn tolerates(&self, key: &str) -> bool {
        self.tolerations().any(|toleration| {
            let own = toleration.get("key");
            own.is(key) || (!own.is_set() && toleration.get("operator").is("Exists"))
        })
    }

    /// The service account that it runs as.
    #[must_use]
    pub fn service_account(&self) -> &'b str {
        let name = self.spec.get("serviceAccountName");
        let name = if name.is_set() { name } else { self.spec.get("serviceAccount") };
        name.text().unwrap_or("default")
    }

    pub fn volumes(&self) -> impl Iterator<Item = Volume<'b>> + use<'b> {
        self.spec.get("volumes").items().map(|node| Volume { node, name: node.get("name").str() })
    }

    #[must_use]
    pub fn volume(&self, name: &str) -> Option<Volume<'b>> {
        self.volumes().find(|volume| volume.name == name)
    }

    /// Keys and values that a node must have: `nodeSelector`, and the required node affinity's
    /// `In` and `Exists` terms. The node is where the key is written (its value where there is
    /// one); the value is `None` for `Exists`.
    #[must_use]
    pub fn node_requirements(&self) -> Vec<NodeRequirement<'b>> {
        let mut found: Vec<NodeRequirement<'b>> = self
            .spec
            .get("nodeSelector")
            .entries()
            .map(|entry| NodeRequirement {
                key: entry.key,
                values: vec![entry.value.str()],
                node: entry.value,
                selector: true,
                alternatives: 1,
            })
            .collect();
        let terms = self
            .spec
            .path("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution")
            .get("nodeSelectorTerms");
        for term in terms.items() {
            for expression in term.get("matchExpressions").items() {
                let operator = expression.get("operator");
                if !(operator.is("In") || operator.is("Exists")) {
                    continue;
                }
                found.push(NodeRequirement {
                    key: expression.get("key").str(),
                    values: expression.get("values").items().map(Node::str).collect(),
                    node: expression.get("key"),
                    selector: false,
                    alternatives: terms.len(),
                });
            }
        }
        found
    }

    /// Memory limits of containers that run side by side, if all have one.
    #[must_use]
    pub fn memory_limit(&self) -> Option<Quantity> {
        self.main_containers()
            .map(|container| container.limit("memory"))
            .try_fold(Quantity::whole(0), |sum, limit| Some(sum.plus(limit?)))
    }

    /// How it is called in messages: the object, and the part of it where there are several.
    #[must_use]
    pub fn describe(&self) -> String {
        if self.role.is_empty() {
            format!("{} `{}`", self.object.kind, self.object.name)
        } else {
            format!("`{}` of {} `{}`", self.role, self.object.kind, self.object.name)
        }
    }

    /// The first container that runs side by side and serves a model that is known by name.
    #[must_use]
    pub fn server(&self) -> Option<&Container<'b>> {
        self.main_containers().find(|container| {
            container.framework.is_some_and(|found| found.purpose() == Purpose::Serving)
        })
    }

    /// Whether it shares GPUs by memory or cores (HAMi) in place of whole devices.
    #[must_use]
    pub fn asks_for_gpu_memory(&self) -> bool {
        self.devices()
            .any(|(_, device)| matches!(device.kind, DeviceKind::GpuMemory | DeviceKind::GpuCores))
    }
}

/// A label that a node must have.
#[derive(Debug, Clone)]
pub struct NodeRequirement<'b> {
    pub key: &'b str,
    /// Values of which the node has one; empty if any will do.
    pub values: Vec<&'b str>,
    pub node: Node<'b>,
    /// Whether it stands in `nodeSelector`.
    pub selector: bool,
    /// Terms of the affinity: with more than one, this one need not hold.
    pub alternatives: usize,
}

/// Annotations and labels by which a part of a GPU is asked for (KAI scheduler, Run:ai).
const FRACTIONS: [&str; 2] = ["gpu-fraction", "gpu-memory"];
