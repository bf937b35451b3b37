//! The kinds of objects that services and jobs are made of: one line each.
//!
//! What is watched, what may be applied and deleted, and what RBAC allows follow from this table.

use kube_client::core::{ApiResource, GroupVersionKind};

/// A kind of object that the operator makes, repairs and deletes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwnedKind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    /// A cluster has it only where somebody installed it.
    pub(crate) is_custom: bool,
}

/// Index into [`OWNED`]: caches hold tens of thousands of them.
pub(crate) type KindIndex = u8;

/// Every kind that a plan renders to.
pub(crate) const OWNED: &[OwnedKind] = &[
    built_in("", "v1", "ServiceAccount", "serviceaccounts"),
    built_in("", "v1", "ConfigMap", "configmaps"),
    built_in("", "v1", "Service", "services"),
    built_in("apps", "v1", "Deployment", "deployments"),
    built_in("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    built_in("batch", "v1", "Job", "jobs"),
    built_in("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    built_in("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    custom("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
    custom("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    custom("scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups"),
    // Kubernetes' own from 1.34 on, and in no older one.
    custom("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates"),
];

const fn built_in(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> OwnedKind {
    OwnedKind { group, version, kind, plural, is_custom: false }
}

const fn custom(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> OwnedKind {
    OwnedKind { group, version, kind, plural, is_custom: true }
}

impl OwnedKind {
    pub(crate) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    pub(crate) fn resource(&self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group, self.version, self.kind);
        ApiResource::from_gvk_with_plural(&gvk, self.plural)
    }
}

/// The kind at an index that came from [`index_of`].
pub(crate) fn owned(index: KindIndex) -> &'static OwnedKind {
    &OWNED[usize::from(index)]
}

/// Where a kind stands in the table.
pub(crate) fn index_of(api_version: &str, kind: &str) -> Option<KindIndex> {
    let at =
        OWNED.iter().position(|owned| owned.kind == kind && owned.api_version() == api_version)?;
    KindIndex::try_from(at).ok()
}

#[test]
fn each_kind_is_found() {
    for (index, kind) in OWNED.iter().enumerate() {
        let found = index_of(&kind.api_version(), kind.kind).expect("it is in the table");
        assert_eq!(usize::from(found), index);
        assert_eq!(owned(found).resource().plural, kind.plural);
    }
    assert_eq!(index_of("v1", "Secret"), None);
}
