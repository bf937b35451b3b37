//! The kinds of objects that a service is made of: one line each.
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
}

/// Index into [`OWNED`]: caches hold tens of thousands of them.
pub(crate) type KindIndex = u8;

/// Every kind that a plan renders to.
pub(crate) const OWNED: &[OwnedKind] = &[
    OwnedKind { group: "", version: "v1", kind: "ServiceAccount", plural: "serviceaccounts" },
    OwnedKind { group: "", version: "v1", kind: "ConfigMap", plural: "configmaps" },
    OwnedKind { group: "", version: "v1", kind: "Service", plural: "services" },
    OwnedKind { group: "apps", version: "v1", kind: "Deployment", plural: "deployments" },
    OwnedKind {
        group: "autoscaling",
        version: "v2",
        kind: "HorizontalPodAutoscaler",
        plural: "horizontalpodautoscalers",
    },
    OwnedKind {
        group: "networking.k8s.io",
        version: "v1",
        kind: "NetworkPolicy",
        plural: "networkpolicies",
    },
    OwnedKind {
        group: "policy",
        version: "v1",
        kind: "PodDisruptionBudget",
        plural: "poddisruptionbudgets",
    },
];

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
    let at = OWNED.iter().position(|owned| {
        owned.kind == kind && owned.api_version() == api_version
    })?;
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
