"""A node is lost and comes back."""


def test_a_killed_node_comes_back(cluster):
    cluster.xtask("chaos", "kill-node", "node-2")
    # The controller manager's grace period, 50 s, and a little.
    cluster.until("the node to be given up", lambda: not cluster.is_node_ready("node-2"), seconds=120)
    cluster.xtask("chaos", "restart-node", "node-2")
    cluster.until("the node", lambda: cluster.is_node_ready("node-2"))
    # Kubelet has started anew, and the device plugin has registered with it again.
    shares = lambda: cluster.get("node", "node-2")["status"]["allocatable"].get("nvidia.com/gpu.shared")
    cluster.until("the GPU's shares", lambda: shares() == "4")
    cluster.until("CoreDNS on it", lambda: len(cluster.ready_pods("kube-system", "k8s-app=kube-dns")) == 2)
