"""Where workers of training jobs come to, and what `gpu defrag` would move: node-1 has one GPU, node-2 has two. Only the
devices are not real."""

import json

import pytest

import iris
from conftest import AGNHOST, labelled
from iris import BINARY, install

WHOLE = "nvidia.com/gpu"
HOST = "kubernetes.io/hostname"


def pod(name, namespace, gpus=0, cpu="50m", node=None):
    resources = {"requests": {"cpu": cpu}, **({"limits": {WHOLE: str(gpus)}} if gpus else {})}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": AGNHOST, "imagePullPolicy": "Never", "args": ["pause"], "resources": resources}],
        **({"nodeSelector": {HOST: node}} if node else {}),
    }
    return labelled("Pod", "v1", namespace, name, spec)


def deployment(name, namespace, gpus):
    spec = pod(name, namespace, gpus)["spec"]
    template = {"metadata": {"labels": {"app": name}}, "spec": spec}
    return labelled(
        "Deployment", "apps/v1", namespace, name, {"selector": {"matchLabels": {"app": name}}, "template": template}
    )


def training(namespace, name, **spec):
    return {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "framework": "generic", "image": AGNHOST, "command": ["/agnhost", "pause"],
            "resources": {"cpu": "50m", "memory": "64Mi", "gpu": {"count": 1}}, **spec,
        },
    }


def node_of(cluster, namespace, selector):
    def found():
        pods = cluster.get("-n", namespace, "pods", "-l", selector)["items"]
        return pods and pods[0]["spec"].get("nodeName")

    return cluster.until(f"a node for {selector}", found)


@pytest.fixture(scope="module")
def packed(cluster, image, namespace):
    """Trainyard, and one pool of whole GPUs on both nodes, of which node-1 is busy otherwise."""
    install(cluster, image, "--manage-gpu-nodes")
    cluster.kubectl("label", "nodes", "node-1", "node-2", "test-pool=default")
    cluster.apply({
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "GpuPool", "metadata": {"name": "default"},
        "spec": {"nodeSelector": {"test-pool": "default"}, "sharing": {"mode": "none"}},
    })
    units = lambda: (cluster.get("gpupool", "default").get("status") or {}).get("units")
    cluster.until("three GPUs", lambda: units() == 3)
    cluster.apply(pod("busy", namespace, cpu="600m", node="node-1"))
    cluster.until("node-1 to be busy", lambda: cluster.ready_pods(namespace, "app=busy"))
    yield namespace
    cluster.kubectl("-n", namespace, "delete", "trainingjobs,deployments,pods", "--all", "--wait=false", check=False)
    cluster.kubectl("delete", "gpupools", "--all", check=False)
    cluster.kubectl("label", "nodes", "--all", "test-pool-")
    iris.uninstall(cluster)


def test_workers_go_where_they_pack_best(cluster, packed):
    # The scheduler alone takes the node with more cores left, and cuts its pair of GPUs in two.
    cluster.apply(pod("alone", packed, gpus=1))
    assert node_of(cluster, packed, "app=alone") == "node-2"
    cluster.kubectl("-n", packed, "delete", "pod", "alone")
    cluster.apply(training(packed, "pack"))
    assert node_of(cluster, packed, "trainyard.dev/job=pack,trainyard.dev/attempt") == "node-1"
    (job,) = cluster.get("-n", packed, "jobs", "-l", "trainyard.dev/job=pack,trainyard.dev/attempt")["items"]
    affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    preferred = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    named = [(it["weight"], it["preference"]["matchExpressions"][0]["values"]) for it in preferred]
    assert named == [(100, ["node-1"]), (50, ["node-2"])]
    # A preference only: the next one finds node-1 full.
    cluster.apply(training(packed, "next"))
    assert node_of(cluster, packed, "trainyard.dev/job=next,trainyard.dev/attempt") == "node-2"
    end_jobs(cluster, packed)


def end_jobs(cluster, namespace):
    cluster.kubectl("-n", namespace, "delete", "trainingjobs", "--all")
    gone = lambda: not cluster.get("-n", namespace, "pods", "-l", "trainyard.dev/job")["items"]
    cluster.until("the workers to go", gone)


def test_workers_of_a_gang_are_within_one_rack(cluster, packed):
    cluster.kubectl("label", "node", "node-1", "test-rack=a")
    cluster.kubectl("label", "node", "node-2", "test-rack=b")
    # node-1 alone would pack better, and has no room for both.
    placement = {"topology": {"required": "test-rack"}}
    cluster.apply(training(packed, "near", workers={"count": 2}, placement=placement))

    def nodes():
        pods = cluster.get("-n", packed, "pods", "-l", "trainyard.dev/job=near,trainyard.dev/attempt")["items"]
        found = [pod["spec"].get("nodeName") for pod in pods]
        return len(found) == 2 and all(found) and found

    assert cluster.until("both workers to have a node", nodes) == ["node-2", "node-2"]
    end_jobs(cluster, packed)
    cluster.kubectl("label", "nodes", "--all", "test-rack-")


def test_a_move_makes_room_for_a_large_pod(cluster, packed):
    cluster.kubectl("cordon", "node-1")
    cluster.apply(deployment("small", packed, 1))
    assert node_of(cluster, packed, "app=small") == "node-2"
    cluster.kubectl("uncordon", "node-1")
    cluster.apply(deployment("large", packed, 2))

    def waits():
        pods = cluster.get("-n", packed, "pods", "-l", "app=large")["items"]
        return any("Insufficient" in it.get("message", "") for p in pods for it in p["status"].get("conditions", []))

    cluster.until("the large pod to wait", waits)
    done = cluster.exec(BINARY, "gpu", "defrag", "--dry-run", "-o", "json", check=False)
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    (move,) = answer["moves"]
    assert (move["owner"]["name"], move["from"], move["to"]) == ("small", "node-2", "node-1")
    (waiting,) = [it for it in answer["waiting"] if it["owner"]["name"] == "large"]
    assert (waiting["outcome"], waiting["node"], waiting["moves"]) == ("FitsAfterMoves", "node-2", 1)
    # As the page says how.
    cluster.kubectl("cordon", "node-2")
    cluster.kubectl("-n", packed, "delete", "pod", move["pod"]["name"])
    assert node_of(cluster, packed, "app=small") == "node-1"
    cluster.kubectl("uncordon", "node-2")
    assert node_of(cluster, packed, "app=large") == "node-2"
    # A budget keeps what moved.
    budget = {"selector": {"matchLabels": {"app": "small"}}, "minAvailable": 1}
    cluster.apply(labelled("PodDisruptionBudget", "policy/v1", packed, "small", budget))
    seen = lambda: (cluster.get("-n", packed, "pdb", "small").get("status") or {}).get("expectedPods") == 1
    cluster.until("the budget to be counted", seen)
    done = cluster.exec(BINARY, "gpu", "defrag", "--dry-run", "-o", "json", check=False)
    stays = {it["pod"]["name"]: it["why"] for it in json.loads(done.stdout)["stays"]}
    (why,) = [why for name, why in stays.items() if name.startswith("small-")]
    assert "lets no pod go now" in why
    # The simulator starts from the same cluster.
    done = cluster.exec(BINARY, "plan", "simulate", "--cluster", "--load", "0.5", "--runs", "1", "-o", "json")
    assert json.loads(done.stdout)["policies"][0]["allocated_percent"]["mean"] == 100
