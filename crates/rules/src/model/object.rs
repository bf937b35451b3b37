//! Kubernetes objects.

use crate::yaml::Node;

/// An object of a bundle. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Object<'b> {
    /// Its position in [`Bundle::objects`](super::Bundle::objects).
    pub index: usize,
    pub root: Node<'b>,
    pub api_version: &'b str,
    pub kind: &'b str,
    /// `metadata.name`, or `metadata.generateName`; empty if it has neither.
    pub name: &'b str,
    /// `metadata.namespace`; empty if unset, which means any: kubectl, Helm and kustomize set it.
    pub namespace: &'b str,
}

impl<'b> Object<'b> {
    /// An object, if a node has what makes one.
    pub(super) fn read(index: usize, root: Node<'b>) -> Option<Self> {
        let api_version = root.get("apiVersion").text()?;
        let kind = root.get("kind").text()?;
        let metadata = root.get("metadata");
        let name = metadata.get("name");
        let name = if name.is_set() { name } else { metadata.get("generateName") };
        let (name, namespace) = (name.str(), metadata.get("namespace").str());
        Some(Self { index, root, api_version, kind, name, namespace })
    }

    /// The API group, empty for the core group.
    #[must_use]
    pub fn group(&self) -> &'b str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    #[must_use]
    pub fn metadata(&self) -> Node<'b> {
        self.root.get("metadata")
    }

    #[must_use]
    pub fn spec(&self) -> Node<'b> {
        self.root.get("spec")
    }

    #[must_use]
    pub fn label(&self, key: &str) -> Node<'b> {
        self.metadata().get("labels").get(key)
    }

    #[must_use]
    pub fn annotation(&self, key: &str) -> Node<'b> {
        self.metadata().get("annotations").get(key)
    }

    /// Whether it is of a kind of a group; versions do not matter. The core group is `""`.
    #[must_use]
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.kind == kind && self.group() == group
    }

    /// Whether its kind comes from elsewhere than Kubernetes.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        let group = self.group();
        group.contains('.') && !group.ends_with(".k8s.io")
    }

    /// Whether both may be in one namespace: equal ones, or one that is not set.
    #[must_use]
    pub fn may_share_namespace(&self, other: &Object<'_>) -> bool {
        may_be_same_namespace(self.namespace, other.namespace)
    }

    /// `Deployment/web/server`, or without the namespace where none is set.
    #[must_use]
    pub fn reference(&self) -> String {
        if self.namespace.is_empty() {
            format!("{}/{}", self.kind, self.name)
        } else {
            format!("{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

pub(super) fn may_be_same_namespace(a: &str, b: &str) -> bool {
    a == b || a.is_empty() || b.is_empty()
}
