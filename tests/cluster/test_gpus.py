"""The fake device plugin, as kubelet and the scheduler see it."""

from conftest import AGNHOST, labelled


def allocatable(cluster, node, resource):
    return int(cluster.get("node", node)["status"]["allocatable"].get(resource, "0"))


def client(namespace, name, resource, count=1):
    return labelled("Pod", "v1", namespace, name, {
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "main", "image": AGNHOST, "imagePullPolicy": "Never", "args": ["pause"],
            "resources": {"limits": {resource: str(count)}},
        }],
    })


def test_nodes_have_what_was_asked_for(cluster):
    cluster.until("the GPU", lambda: allocatable(cluster, "node-1", "nvidia.com/gpu") == 1)
    cluster.until("the shares", lambda: allocatable(cluster, "node-2", "nvidia.com/gpu.shared") == 4)
    labels = cluster.get("node", "node-1")["metadata"]["labels"]
    assert labels["nvidia.com/gpu.product"] == "Tesla-T4"
    assert labels["nvidia.com/gpu.memory"] == "15360"
    assert cluster.get("node", "node-2")["metadata"]["labels"]["nvidia.com/gpu.sharing-strategy"] == "mps"


def test_a_pod_gets_one_and_the_next_waits(cluster, namespace):
    cluster.until("the GPU", lambda: allocatable(cluster, "node-1", "nvidia.com/gpu") == 1)
    cluster.apply(client(namespace, "first", "nvidia.com/gpu"))
    cluster.until("the first", lambda: cluster.ready_pods(namespace, "app=first"))
    cluster.apply(client(namespace, "second", "nvidia.com/gpu"))

    def is_unschedulable():
        conditions = cluster.get("-n", namespace, "pod", "second")["status"].get("conditions", [])
        return any("Insufficient nvidia.com/gpu" in it.get("message", "") for it in conditions)

    cluster.until("the second to be refused", is_unschedulable)
    cluster.kubectl("-n", namespace, "delete", "pod", "first")
    cluster.until("the second", lambda: cluster.ready_pods(namespace, "app=second"))
    cluster.kubectl("-n", namespace, "delete", "pod", "second")


def test_health_can_be_flipped(cluster):
    cluster.xtask("chaos", "gpu-health", "node-2", 0, "unhealthy")
    cluster.until("half of the shares", lambda: allocatable(cluster, "node-2", "nvidia.com/gpu.shared") == 2)
    cluster.xtask("chaos", "gpu-health", "node-2", 0, "healthy")
    cluster.until("all shares", lambda: allocatable(cluster, "node-2", "nvidia.com/gpu.shared") == 4)
