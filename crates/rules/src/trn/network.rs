//! What NCCL and its transports read, from `data/lint/nccl.json`.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::facts;
use crate::model::{Container, Pod, glob};
use crate::yaml::Node;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Table {
    /// Settings that are for finding a fault.
    pub switches: Vec<Switch>,
    /// Patterns of names of resources that give a container a card for RDMA.
    rdma_resources: Vec<String>,
    /// Variables with values that ask for EFA.
    pub efa_variables: Vec<Variable>,
    pub efa_resource: String,
    /// Variables that mean something for InfiniBand and RoCE alone.
    pub rdma_variables: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Switch {
    pub name: String,
    pub values: Vec<String>,
    pub when: When,
    pub harm: String,
}

/// When a switch does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum When {
    Always,
    /// With more than one GPU in the container.
    SeveralGpus,
    /// With a card for RDMA in the container.
    Rdma,
}

#[derive(Debug, Deserialize)]
pub(super) struct Variable {
    pub name: String,
    pub values: Vec<String>,
}

pub(super) static TABLE: LazyLock<Table> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/nccl.json")));

/// A resource of a container that gives it a card for RDMA.
pub(super) fn rdma_resource<'b>(container: &Container<'b>) -> Option<Node<'b>> {
    let resources = container.resources();
    resources
        .get("limits")
        .entries()
        .chain(resources.get("requests").entries())
        .find(|entry| {
            TABLE.rdma_resources.iter().any(|pattern| glob(pattern, entry.key))
                && !entry.value.is("0")
        })
        .map(|entry| entry.value)
}

/// Whether a container may use devices of its node that it does not ask for.
pub(super) fn is_privileged(container: &Container<'_>) -> bool {
    container.node.path("securityContext.privileged").bool() == Some(true)
}

/// Whether a container's own capabilities, or those of its pod's host, let it lock memory.
pub(super) fn may_lock_memory(container: &Container<'_>) -> bool {
    let added = container.node.path("securityContext.capabilities.add");
    is_privileged(container)
        || added.items().any(|capability| {
            matches!(capability.str(), "IPC_LOCK" | "CAP_IPC_LOCK" | "ALL" | "SYS_RESOURCE")
        })
}

/// Whether networks or devices are given to a pod in ways that its resources do not show: Multus,
/// claims, injected annotations.
pub(super) fn has_other_networks(pod: &Pod<'_>) -> bool {
    !pod.spec.get("resourceClaims").is_empty()
        || pod
            .metadata
            .get("annotations")
            .entries()
            .any(|entry| NETWORKS.iter().any(|key| entry.key.starts_with(key)))
}

/// Annotations that give pods more network interfaces, or devices.
pub(super) const NETWORKS: [&str; 4] = [
    "k8s.v1.cni.cncf.io/networks",
    "networking.gke.io/interfaces",
    "v1.multus-cni.io/",
    "devices.gke.io/",
];
