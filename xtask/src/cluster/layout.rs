//! Names, addresses and folders of one cluster.

use std::path::PathBuf;

use anyhow::bail;

use crate::paths;

/// The control plane's address on the bridge that all nodes hang on.
pub(crate) const CONTROL_PLANE: &str = "10.200.0.1";
/// The range of Services; its first address is the API server's, its tenth DNS.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
pub(crate) const DNS: &str = "10.96.0.10";
/// All pods; node `i` has the `i`-th /24 of it.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// Node `i` has the address 10.200.0.(10 + i).
pub(crate) const MAX_NODES: u8 = 100;

/// A cluster's name and everything that follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) name: String,
}

impl Layout {
    pub(crate) fn of(name: &str) -> anyhow::Result<Self> {
        let fits = (1..=20).contains(&name.len())
            && name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
            && !name.starts_with('-');
        if !fits {
            bail!("a cluster's name has 1 to 20 of a-z, 0-9 and `-`, not first: `{name}` does not");
        }
        Ok(Self { name: name.to_owned() })
    }

    /// Folder of everything this cluster writes.
    pub(crate) fn folder(&self) -> PathBuf {
        paths::cache().join("cluster/state").join(&self.name)
    }

    /// Held while a cluster is started, ended or changed.
    pub(crate) fn lock(&self) -> PathBuf {
        paths::cache().join("cluster/state").join(format!("{}.lock", self.name))
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.folder().join("cluster.json")
    }

    /// Written once all is up: without it, a cluster is what a killed run has left.
    pub(crate) fn complete(&self) -> PathBuf {
        self.folder().join("complete")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.folder().join("pki")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.pki().join("admin.kubeconfig")
    }

    /// Where the nodes' mount namespaces are held.
    pub(crate) fn mount_namespaces(&self) -> PathBuf {
        self.folder().join("ns")
    }

    /// The control group, below each hierarchy's root, that all processes of the cluster are in.
    pub(crate) fn cgroup(&self) -> String {
        format!("ty-{}", self.name)
    }

    /// The network namespace of the control plane.
    pub(crate) fn network(&self) -> String {
        format!("{}cp", self.network_prefix())
    }

    fn network_prefix(&self) -> String {
        // A dot cannot be in a name, so no cluster's prefix begins another's.
        format!("ty.{}.", self.name)
    }

    /// Whether a network namespace is one of this cluster's.
    pub(crate) fn owns_network(&self, namespace: &str) -> bool {
        namespace.starts_with(&self.network_prefix())
    }

    pub(crate) fn node(&self, number: u8) -> NodeLayout {
        NodeLayout { cluster: self.clone(), number }
    }

    /// A node by its name, such as `node-2`, of a cluster with so many.
    pub(crate) fn node_named(&self, name: &str, nodes: u8) -> anyhow::Result<NodeLayout> {
        let number = name.strip_prefix("node-").and_then(|it| it.parse::<u8>().ok());
        match number {
            Some(number) if (1..=nodes).contains(&number) => Ok(self.node(number)),
            _ => bail!("there is no node `{name}`; the nodes are node-1 to node-{nodes}"),
        }
    }
}

/// One node of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct NodeLayout {
    pub(crate) cluster: Layout,
    /// From 1.
    pub(crate) number: u8,
}

impl NodeLayout {
    pub(crate) fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.cluster.folder().join(self.name())
    }

    pub(crate) fn network(&self) -> String {
        format!("{}{}", self.cluster.network_prefix(), self.name())
    }

    /// The file that holds the node's mount namespace.
    pub(crate) fn mount_namespace(&self) -> PathBuf {
        self.cluster.mount_namespaces().join(self.name())
    }

    pub(crate) fn address(&self) -> String {
        format!("10.200.0.{}", 10 + self.number)
    }

    pub(crate) fn pods(&self) -> String {
        format!("10.244.{}.0/24", self.number)
    }

    /// The end of the node's cable in the control plane's namespace.
    pub(crate) fn cable(&self) -> String {
        format!("node{}", self.number)
    }

    /// Control group of the node's pods.
    pub(crate) fn pods_cgroup(&self) -> String {
        format!("{}/{}", self.cluster.cgroup(), self.name())
    }

    /// Control group of the node's own daemons.
    pub(crate) fn daemons_cgroup(&self) -> String {
        format!("{}/{}-daemons", self.cluster.cgroup(), self.name())
    }

    /// containerd's socket as the host sees it.
    pub(crate) fn containerd(&self) -> PathBuf {
        self.folder().join("run-containerd/containerd.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["default", "a", "dev-cluster", "0"] {
            assert!(Layout::of(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a/b", "a.b", "a b", "twenty-one-characters"] {
            assert!(Layout::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_cluster_never_owns_anothers_namespaces() {
        let (short, long) = (Layout::of("a").unwrap(), Layout::of("a-cp").unwrap());
        assert!(short.owns_network(&short.network()));
        assert!(short.owns_network(&short.node(1).network()));
        assert!(!short.owns_network(&long.network()));
        assert!(!long.owns_network(&short.network()));
    }

    #[test]
    fn only_nodes_of_the_cluster_are_found() {
        let layout = Layout::of("a").unwrap();
        assert_eq!(layout.node_named("node-2", 2).unwrap().number, 2);
        for bad in ["node-3", "node-0", "node-", "2", "node-300"] {
            assert!(layout.node_named(bad, 2).is_err(), "{bad}");
        }
    }
}
