//! What is where: nodes with GPUs, the units that they announce, and the pods that have them.
//!
//! In: nodes, pods and pools as a cluster has them. Out: plain values. Kubernetes tells how many
//! units of a node a pod has, and not of which of the node's GPUs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;
use trainyard_api::GpuPoolSpec;
use trainyard_api::gpu_pool::SharingMode;
use trainyard_api::scalar::Bytes;
use trainyard_plan::kubernetes::{POOL, pool_resources};
use trainyard_plan::{SHARED, WHOLE, instance_memory};

use crate::names::SERVICE_LABEL;

/// Resources of MIG instances, with NVIDIA's `mixed` strategy.
const MIG: &str = "nvidia.com/mig-";
/// Labels of GPU feature discovery.
const COUNT_LABEL: &str = "nvidia.com/gpu.count";
const MEMORY_LABEL: &str = "nvidia.com/gpu.memory";
const PRODUCT_LABEL: &str = "nvidia.com/gpu.product";
const REPLICAS_LABEL: &str = "nvidia.com/gpu.replicas";

/// Whether a resource is a GPU or a part of one.
pub fn is_gpu(resource: &str) -> bool {
    resource == WHOLE || resource == SHARED || resource.starts_with(MIG)
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuNode {
    pub name: String,
    /// Kubelet reports, and the node may take pods.
    pub is_ready: bool,
    /// The pools that select it; more than one is a mistake.
    pub pools: Vec<String>,
    /// As in the label `nvidia.com/gpu.product`.
    pub product: Option<String>,
    /// Of one whole GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Physical GPUs.
    pub gpus: u32,
    pub units: Vec<Units>,
    /// What pods may have of it, by resource.
    #[serde(skip)]
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    #[serde(skip)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip)]
    pub(crate) taints: Vec<k8s_openapi::api::core::v1::Taint>,
    #[serde(skip)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(skip)]
    pub(crate) resource_version: Option<String>,
}

/// Equal units of a node: GPUs, shares, or instances of one profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Units {
    /// The resource that pods ask for.
    pub resource: String,
    /// Broken ones with them.
    pub capacity: u32,
    /// Those of healthy GPUs.
    pub allocatable: u32,
    /// Those that pods have.
    pub allocated: u32,
    /// Of one unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
}

impl Units {
    /// Those that a pod could have now.
    pub fn free(&self) -> u32 {
        self.allocatable.saturating_sub(self.allocated)
    }
}

/// One pod that has or wants GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuPod {
    pub namespace: String,
    pub name: String,
    /// The ModelService that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// None while no node has taken it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Units by resource.
    pub units: BTreeMap<String, u32>,
    /// Memory of all its units, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// What the scheduler says of one that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// What it asks for beside: thousandths of a core, and bytes.
    #[serde(skip)]
    pub(crate) asks: (u64, u64),
}

/// One pool, with what its nodes come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolUse {
    pub name: String,
    pub spec: GpuPoolSpec,
    pub nodes: Vec<String>,
    pub gpus: u32,
    /// Of one whole GPU: the least that a node tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Only of the resources that pods ask this pool for.
    pub units: Vec<Units>,
}

/// Everything with a GPU in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    pub pools: Vec<PoolUse>,
    /// Those that have GPUs, or that a pool selects.
    pub nodes: Vec<GpuNode>,
    pub pods: Vec<GpuPod>,
}

impl GpuNode {
    /// Reads a node; the pools and what pods have are added by [`inventory`].
    pub fn of(node: &Node) -> Self {
        let metadata = &node.metadata;
        let labels = metadata.labels.clone().unwrap_or_default();
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let is_ready = conditions
            .is_some_and(|all| all.iter().any(|it| it.type_ == "Ready" && it.status == "True"));
        let spec = node.spec.as_ref();
        let is_cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        let amounts = |amounts: Option<&BTreeMap<String, Quantity>>| {
            let gpus = amounts.into_iter().flatten().filter(|(name, _)| is_gpu(name));
            gpus.map(|(name, amount)| (name.clone(), whole(amount))).collect::<BTreeMap<_, _>>()
        };
        let capacity = amounts(status.and_then(|status| status.capacity.as_ref()));
        let allocatable = amounts(status.and_then(|status| status.allocatable.as_ref()));
        let number = |label: &str| labels.get(label).and_then(|text| text.parse::<u32>().ok());
        let memory = number(MEMORY_LABEL).map(|mib| Bytes(u64::from(mib) << 20));
        // A plugin that announced something else before leaves the resource behind, with none of it.
        let units =
            capacity.iter().filter(|(_, capacity)| **capacity > 0).map(|(name, capacity)| Units {
                resource: name.clone(),
                capacity: *capacity,
                allocatable: allocatable.get(name).copied().unwrap_or(0),
                allocated: 0,
                memory: unit_memory(name, memory, number(REPLICAS_LABEL)),
            });
        let units: Vec<Units> = units.collect();
        let whole_ones = capacity.get(WHOLE).copied().unwrap_or(0);
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            is_ready: is_ready && !is_cordoned,
            pools: Vec::new(),
            product: labels.get(PRODUCT_LABEL).cloned(),
            memory,
            gpus: number(COUNT_LABEL).unwrap_or(whole_ones),
            units,
            allocatable: status.and_then(|it| it.allocatable.clone()).unwrap_or_default(),
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            annotations: metadata.annotations.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone(),
            labels,
        }
    }

    /// Into how many shares the plugin says that it cuts each GPU.
    pub(crate) fn replicas(&self) -> Option<u32> {
        self.labels.get(REPLICAS_LABEL).and_then(|text| text.parse().ok())
    }

    pub(crate) fn has(&self, selector: &BTreeMap<String, String>) -> bool {
        !selector.is_empty()
            && selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// The units of a resource; none where it is not announced.
    pub(crate) fn units_of(&self, resource: &str) -> Option<&Units> {
        self.units.iter().find(|units| units.resource == resource)
    }
}

/// The memory of one unit, as far as it can be told.
fn unit_memory(resource: &str, gpu: Option<Bytes>, replicas: Option<u32>) -> Option<Bytes> {
    match resource {
        WHOLE => gpu,
        SHARED => {
            let replicas = replicas.filter(|replicas| *replicas > 0)?;
            gpu.map(|gpu| Bytes(gpu.0 / u64::from(replicas)))
        }
        other => {
            // The resource has a dot where the profile has a plus.
            let memory = instance_memory(other.strip_prefix(MIG)?);
            Some(memory).filter(|memory| memory.0 > 0)
        }
    }
}

impl GpuPod {
    /// Reads a pod; none if it has ended, or wants no GPU.
    pub fn of(pod: &Pod) -> Option<Self> {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref());
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            return None;
        }
        // Init containers run one after the other, before those that run together.
        let mut units: BTreeMap<String, u32> = BTreeMap::new();
        for (resource, amount) in spec.containers.iter().flat_map(requests) {
            let sum = units.entry(resource).or_default();
            *sum = sum.saturating_add(amount);
        }
        for (resource, amount) in spec.init_containers.iter().flatten().flat_map(requests) {
            let most = units.entry(resource).or_default();
            *most = amount.max(*most);
        }
        units.retain(|_, amount| *amount > 0);
        if units.is_empty() {
            return None;
        }
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let unscheduled = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        let metadata = &pod.metadata;
        Some(Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            service: metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL)).cloned(),
            node: spec.node_name.clone(),
            units,
            memory: None,
            waits_for: unscheduled.map(|condition| {
                let message = condition.message.as_deref().unwrap_or_default();
                message.split(". ").next().unwrap_or_default().to_owned()
            }),
            since_ms: metadata
                .creation_timestamp
                .as_ref()
                .map_or(0, |time| time.0.as_millisecond()),
            asks: (
                sum(&spec.containers, |has| milli(has.get("cpu"))),
                sum(&spec.containers, |has| bytes(has.get("memory"))),
            ),
        })
    }
}

/// Over what runs together; init containers rarely ask for more.
fn sum(containers: &[Container], of: impl Fn(&BTreeMap<String, Quantity>) -> u64) -> u64 {
    let requests = containers.iter().filter_map(|it| it.resources.as_ref()?.requests.as_ref());
    requests.map(of).fold(0, u64::saturating_add)
}

fn milli(amount: Option<&Quantity>) -> u64 {
    let amount = amount.and_then(|it| trainyard_rules::Quantity::parse(&it.0));
    amount.map_or(0, |it| u64::try_from(it.times(1000).units()).unwrap_or(0))
}

fn bytes(amount: Option<&Quantity>) -> u64 {
    let amount = amount.and_then(|it| trainyard_rules::Quantity::parse(&it.0));
    amount.map_or(0, |it| u64::try_from(it.units()).unwrap_or(0))
}

fn requests(container: &Container) -> Vec<(String, u32)> {
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let gpus = limits.into_iter().flatten().filter(|(name, _)| is_gpu(name));
    gpus.map(|(name, amount)| (name.clone(), whole(amount))).collect()
}

/// Extended resources are whole numbers; what is none counts as nothing.
fn whole(amount: &Quantity) -> u32 {
    let text = amount.0.as_str();
    match text.strip_suffix('k') {
        Some(thousands) => thousands.parse::<u32>().unwrap_or(0).saturating_mul(1000),
        None => text.parse().unwrap_or(0),
    }
}

/// Puts all together, each in the order of its name.
pub fn inventory(
    pools: &BTreeMap<String, GpuPoolSpec>,
    nodes: impl IntoIterator<Item = GpuNode>,
    pods: impl IntoIterator<Item = GpuPod>,
) -> Inventory {
    let mut nodes: BTreeMap<String, GpuNode> =
        nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
    let mut pods: Vec<GpuPod> = pods.into_iter().collect();
    for node in nodes.values_mut() {
        let selecting = pools.iter().filter(|(_, pool)| node.has(&pool.node_selector));
        node.pools = selecting.map(|(name, _)| name.clone()).collect();
    }
    for pod in &mut pods {
        let Some(node) = pod.node.as_ref().and_then(|name| nodes.get_mut(name)) else { continue };
        let mut memory = Some(0_u64);
        for (resource, amount) in &pod.units {
            let units = node.units.iter_mut().find(|units| units.resource == *resource);
            let of_one = units.as_ref().and_then(|units| units.memory);
            memory = memory
                .zip(of_one)
                .map(|(sum, one)| sum.saturating_add(one.0.saturating_mul(u64::from(*amount))));
            match units {
                Some(units) => units.allocated = units.allocated.saturating_add(*amount),
                // It runs on although its resource is not announced any more.
                None => node.units.push(Units {
                    resource: resource.clone(),
                    allocated: *amount,
                    ..Units::default()
                }),
            }
        }
        pod.memory = memory.map(Bytes);
    }
    for node in nodes.values_mut() {
        let [only] = node.pools.as_slice() else { continue };
        let Some(own) = pools.get(only).filter(|pool| pool.mode() != SharingMode::Dra) else {
            continue;
        };
        // Kubelet counts what a plugin does not announce any more as broken, for five minutes.
        let own = pool_resources(own);
        let is_gone = |units: &Units| units.allocatable == 0 && !own.contains(&units.resource);
        node.units.retain(|units| !is_gone(units) || units.allocated > 0);
        node.units.iter_mut().filter(|units| is_gone(units)).for_each(|units| units.capacity = 0);
    }
    pods.sort_by(|a, b| {
        let key = |pod: &GpuPod| {
            (pod.node.is_none(), pod.node.clone(), pod.namespace.clone(), pod.name.clone())
        };
        key(a).cmp(&key(b))
    });
    // A node that carries a pool's marks is looked at until it has lost them.
    nodes.retain(|_, node| {
        let is_marked = node.labels.contains_key(POOL);
        node.gpus > 0 || !node.units.is_empty() || !node.pools.is_empty() || is_marked
    });
    let pools = pools.iter().map(|(name, spec)| pool_use(name, spec, &nodes)).collect();
    Inventory { pools, nodes: nodes.into_values().collect(), pods }
}

fn pool_use(name: &str, spec: &GpuPoolSpec, nodes: &BTreeMap<String, GpuNode>) -> PoolUse {
    let own: Vec<&GpuNode> =
        nodes.values().filter(|node| node.pools.iter().any(|pool| pool == name)).collect();
    let mut units = Vec::new();
    for resource in pool_resources(spec) {
        let of_nodes = own.iter().filter_map(|node| node.units_of(&resource));
        let sum = of_nodes.fold(Units::default(), |sum, units| Units {
            resource: resource.clone(),
            capacity: sum.capacity.saturating_add(units.capacity),
            allocatable: sum.allocatable.saturating_add(units.allocatable),
            allocated: sum.allocated.saturating_add(units.allocated),
            // The least, where nodes differ.
            memory: match (sum.memory, units.memory) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        });
        units.push(Units { resource, ..sum });
    }
    PoolUse {
        name: name.to_owned(),
        nodes: own.iter().map(|node| node.name.clone()).collect(),
        gpus: own.iter().fold(0, |sum, node| sum.saturating_add(node.gpus)),
        memory: own.iter().filter_map(|node| node.memory).min(),
        units,
        spec: spec.clone(),
    }
}

/// A pool's mode, with its number of shares: `mps ×4`.
pub fn mode_text(spec: &GpuPoolSpec) -> String {
    let sharing = spec.sharing.as_ref();
    match (spec.mode(), sharing.and_then(|sharing| sharing.shares)) {
        (mode @ (SharingMode::Mps | SharingMode::TimeSlicing), Some(shares)) => {
            format!("{} ×{shares}", mode.as_str())
        }
        (SharingMode::Mig, _) => {
            let profiles = sharing.into_iter().flat_map(|it| it.profiles.iter().flatten());
            let texts = profiles.map(|it| format!("{}×{}", it.count, it.name));
            format!("mig {}", texts.collect::<Vec<_>>().join(" "))
        }
        (mode, _) => mode.as_str().to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod examples {
    use serde_json::{Value, json};

    use super::*;

    /// A node of the pool `t4` with one card, as NVIDIA's programs announce it.
    pub(crate) fn node(name: &str, amounts: Value, more_labels: Value) -> GpuNode {
        let mut labels = json!({
            "pool": "t4", COUNT_LABEL: "1", MEMORY_LABEL: "15360", PRODUCT_LABEL: "Tesla-T4",
        });
        labels.as_object_mut().unwrap().extend(more_labels.as_object().unwrap().clone());
        let healthy = |amount: &Value| amount[1].clone();
        let amounts = amounts.as_object().unwrap();
        let capacity: Value = amounts.iter().map(|(k, v)| (k.clone(), v[0].clone())).collect();
        let allocatable: Value = amounts.iter().map(|(k, v)| (k.clone(), healthy(v))).collect();
        let node = json!({
            "metadata": {"name": name, "labels": labels, "resourceVersion": "7"},
            "status": {
                "capacity": capacity, "allocatable": allocatable,
                "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": null}],
            },
        });
        GpuNode::of(&serde_json::from_value(node).expect("a node"))
    }

    pub(crate) fn pod(name: &str, node: Option<&str>, resource: &str, amount: u32) -> GpuPod {
        let limits = json!({resource: amount.to_string(), "cpu": "1"});
        let pod = json!({
            "metadata": {"name": name, "namespace": "a", "labels": {SERVICE_LABEL: "iris"}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"limits": limits}}]},
            "status": {"phase": "Running", "conditions": [{
                "type": "PodScheduled", "status": if node.is_some() { "True" } else { "False" },
                "message": "0/2 nodes are available: 2 Insufficient x. preemption: none.",
            }]},
        });
        GpuPod::of(&serde_json::from_value(pod).expect("a pod")).expect("it wants a GPU")
    }

    pub(crate) fn pool(spec: Value) -> GpuPoolSpec {
        serde_json::from_value(spec).expect("a pool")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::examples::{node, pod, pool};
    use super::*;

    #[test]
    fn who_has_what() {
        let shared = json!({SHARED: ["4", "4"], WHOLE: ["1", "0"], "cpu": ["8", "8"]});
        let nodes = [
            node("b", shared, json!({REPLICAS_LABEL: "4"})),
            node("a", json!({WHOLE: ["2", "1"]}), json!({"pool": "other", COUNT_LABEL: "2"})),
        ];
        let pods = [
            pod("x", Some("b"), SHARED, 1),
            pod("y", Some("b"), SHARED, 1),
            pod("z", None, SHARED, 1),
            pod("old", Some("b"), WHOLE, 1),
        ];
        let spec = pool(json!({
            "nodeSelector": {"pool": "t4"}, "sharing": {"mode": "mps", "shares": 4},
        }));
        let seen = inventory(&[("t4".to_owned(), spec)].into(), nodes, pods);
        let [a, b] = seen.nodes.as_slice() else { panic!("{:?}", seen.nodes) };
        assert_eq!((a.pools.len(), a.gpus, a.units[0].free()), (0, 2, 1));
        assert_eq!(b.pools, ["t4"]);
        let units = &seen.pools[0].units[0];
        assert_eq!((units.capacity, units.allocated, units.free()), (4, 2, 2));
        assert_eq!(units.memory.map(|it| it.to_string()).as_deref(), Some("3840Mi"));
        // A pod that had its GPU before the node was cut goes on; kubelet still counts the GPU.
        assert_eq!(b.units_of(WHOLE).map(|units| (units.capacity, units.allocated)), Some((0, 1)));
        assert_eq!(seen.pods[3].name, "z");
        assert_eq!(
            seen.pods[3].waits_for.as_deref(),
            Some("0/2 nodes are available: 2 Insufficient x")
        );
        assert_eq!(seen.pods[1].memory.map(|it| it.to_string()).as_deref(), Some("3840Mi"));
    }

    #[test]
    fn instances_have_their_profiles_memory() {
        let resource = "nvidia.com/mig-1g.10gb";
        let seen = node("a", json!({resource: ["7", "7"]}), json!({}));
        assert_eq!(seen.units[0].memory.map(|it| it.to_string()).as_deref(), Some("9728Mi"));
    }

    #[test]
    fn what_wants_no_gpu_or_has_ended_is_left_out() {
        let of = |phase: &str, limits: serde_json::Value| {
            let pod = json!({
                "metadata": {"name": "a"}, "status": {"phase": phase},
                "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]},
            });
            GpuPod::of(&serde_json::from_value(pod).expect("a pod")).is_some()
        };
        assert!(of("Pending", json!({WHOLE: "1"})));
        assert!(!of("Succeeded", json!({WHOLE: "1"})));
        assert!(!of("Running", json!({"cpu": "1", WHOLE: "0", "nvidia.com/gpumem": "1"})));
    }
}
