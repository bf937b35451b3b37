"""GPU pools from the manifest to kubelet: what the device plugin is told, where pods come to, what is in use, and what
happens when a device breaks or a pool shares its GPUs in another way. Only the devices are not real: node-1 has one
Tesla T4, node-2 two A100 with 80 GiB."""

import hashlib
import json

import pytest

import iris as served
from conftest import AGNHOST, HAS_DRA
from iris import BINARY, answered, condition, gateway, install, is_true, manifest, ready, under_load

SHARED = "nvidia.com/gpu.shared"
WHOLE = "nvidia.com/gpu"
MIG = "nvidia.com/mig-3g.40gb"


def pool(name, **spec):
    return {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "GpuPool", "metadata": {"name": name},
        "spec": {"nodeSelector": {"test-pool": name}, **spec},
    }


def mps(shares=2):
    taint = {"key": "nvidia.com/gpu", "value": "present"}
    return pool("default", product="NVIDIA-A100-SXM4-80GB", sharing={"mode": "mps", "shares": shares}, taint=taint)


def told(cluster, name, kind):
    """A condition of a pool, once it is about the pool as it is now."""
    found = cluster.get("gpupool", name)
    status = found.get("status", {})
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return None
    return next((it for it in status["conditions"] if it["type"] == kind), None)


def allocatable(cluster, resource, node="node-2"):
    return int(cluster.get("node", node)["status"]["allocatable"].get(resource, "0"))


def gpu(cluster, *arguments):
    return json.loads(cluster.exec(BINARY, "gpu", *arguments, "-o", "json").stdout)


def doctor(cluster, namespace):
    done = cluster.exec(BINARY, "doctor", "-n", namespace, "-o", "json", check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)["findings"]


def in_use(cluster, node="node-2"):
    node = next(it for it in gpu(cluster, "nodes") if it["name"] == node)
    return {it["resource"]: it["allocated"] for it in node["units"]}


def template(cluster, namespace):
    return cluster.get("-n", namespace, "deployment", "iris")["spec"]["template"]["spec"]


def limits(cluster, namespace):
    return template(cluster, namespace)["containers"][0]["resources"]["limits"]


@pytest.fixture(scope="module")
def pools(cluster, image, namespace):
    """Trainyard, which may label nodes, and a pool of node-2's cards cut in two."""
    install(cluster, image, "--manage-gpu-nodes")
    served.claim(cluster, namespace)
    cluster.kubectl("label", "node", "node-2", "test-pool=default")
    cluster.apply(mps())
    cluster.until("the pool", lambda: is_true(told(cluster, "default", "Ready")))
    yield
    cluster.kubectl("delete", "gpupools", "--all", check=False)
    cluster.kubectl("-n", namespace, "delete", "modelservices", "--all", check=False)
    cluster.until("bare nodes", lambda: not marks(cluster))
    cluster.kubectl("label", "nodes", "--all", "test-pool-")
    served.remove(cluster, namespace)


def marks(cluster, node="node-2"):
    """What pools have put on a node; nothing if it is bare."""
    node = cluster.get("node", node)
    labels = node["metadata"]["labels"].items()
    labels = {name: value for name, value in labels if name.startswith("trainyard.dev/") or name.endswith(".config")}
    taints = [it for it in node["spec"].get("taints", []) if it["key"] == WHOLE]
    return (labels, taints) if labels or taints else None


def service(namespace, replicas=2, gpu={"memory": "20Gi"}, **spec):
    resources = {"cpu": "100m", "memory": "256Mi", "gpu": gpu}
    return manifest(namespace, replicas=replicas, resources=resources, **spec)


def test_a_pool_configures_its_nodes(cluster, pools):
    labels, [taint] = marks(cluster)
    assert labels["trainyard.dev/gpu-pool"] == "default" and taint["effect"] == "NoSchedule"
    entry = labels["nvidia.com/device-plugin.config"]
    config = cluster.get("-n", "trainyard", "configmap", "trainyard-gpus")
    assert "replicas: 2" in config["data"][entry] and "mps:" in config["data"][entry]
    assert config["metadata"]["ownerReferences"][0]["kind"] == "GpuPool"
    cluster.until("four shares", lambda: allocatable(cluster, SHARED) == 4)
    status = cluster.until("them in the status", lambda: (s := cluster.get("gpupool", "default")["status"])["units"] == 4 and s)
    assert (status["nodes"], status["gpus"], status["memory"]) == (1, 2, "80Gi")
    assert status["resources"] == [{"name": SHARED, "capacity": 4, "allocatable": 4, "allocated": 0}]
    columns = cluster.kubectl("get", "gp").stdout.splitlines()
    assert columns[0].split() == ["NAME", "READY", "SHARING", "NODES", "GPUS", "UNITS", "ALLOCATED", "AGE"]
    assert columns[1].split()[:6] == ["default", "True", "mps", "1", "2", "4"]


def test_the_api_server_refuses_what_the_reader_refuses(cluster, pools):
    bad = {
        "shares": pool("a", sharing={"mode": "mps"}),
        "48 clients": pool("a", sharing={"mode": "mps", "shares": 64}),
        "profiles": pool("a", sharing={"mode": "mig"}),
        "named twice": pool("a", sharing={"mode": "mig", "profiles": [{"name": "1g.10gb", "count": 1}] * 2}),
        "at least one label": {**pool("a"), "spec": {"nodeSelector": {}}},
        "lower-case letter": pool("0a"),
    }
    for part, manifest in bad.items():
        body = json.dumps(manifest)
        done = cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=body, check=False)
        assert done.returncode != 0 and part in done.stderr, (part, done.stderr)


def test_a_service_gets_its_part_and_keeps_to_it(cluster, namespace, pools):
    cluster.apply(service(namespace))
    cluster.until("iris", lambda: ready(cluster, namespace))
    assert limits(cluster, namespace)[SHARED] == "1"
    container = template(cluster, namespace)["containers"][0]
    assert container["args"][container["args"].index("--gpu-memory") + 1] == "20Gi"
    env = {var["name"]: var.get("value") for var in container["env"]}
    assert env["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=20480M"
    assert env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "50"
    pods = cluster.ready_pods(namespace, "trainyard.dev/service=iris")
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-2"}


def test_what_is_where_is_shown(cluster, namespace, pools):
    cluster.until("two units in use", lambda: gpu(cluster, "pools")[0]["units"][0]["allocated"] == 2)
    node = next(it for it in gpu(cluster, "nodes") if it["name"] == "node-2")
    assert node["pools"] == ["default"] and node["memory"] == "80Gi" and node["gpus"] == 2
    [units] = [it for it in node["units"] if it["resource"] == SHARED]
    assert (units["capacity"], units["allocated"], units["memory"]) == (4, 2, "40Gi")
    who = gpu(cluster, "who", "-n", namespace)
    assert [(it["service"], it["node"], it["memory"]) for it in who] == [("iris", "node-2", "40Gi")] * 2
    picture = cluster.exec(BINARY, "gpu", "nodes").stdout
    assert "[■■][□□]" in picture, picture
    cluster.until("it in the status", lambda: cluster.get("gpupool", "default")["status"]["allocated"] == 2)


def test_where_nothing_is_left_it_is_said(cluster, namespace, pools):
    cluster.apply(service(namespace, replicas=5))
    is_short = lambda: (c := condition(cluster, namespace, "Degraded")) and c["reason"] == "Unschedulable" and c
    seen = cluster.until("a word about the fifth", is_short)
    assert f"Insufficient {SHARED}" in seen["message"] and "free a GPU" in seen["message"]
    assert is_true(condition(cluster, namespace, "Ready"))
    [waits] = [it for it in gpu(cluster, "who", "-n", namespace) if "node" not in it]
    assert "Insufficient" in waits["waitsFor"]
    cluster.apply(service(namespace))
    cluster.until("iris as before", lambda: (c := condition(cluster, namespace, "Degraded")) and c["status"] == "False")
    cluster.until("two pods", lambda: len(cluster.get("-n", namespace, "pods")["items"]) == 2)


def test_a_contradiction_names_both_sides(cluster, namespace, pools):
    cluster.apply(service(namespace, runtime={"name": "onnx", "args": ["--gpu-memory=60Gi"]}))
    seen = cluster.until("a stall", lambda: is_true(condition(cluster, namespace, "Stalled")))
    assert seen["reason"] == "InvalidSpec"
    for part in ["`--gpu-memory=60Gi`", "spec.runtime.args[0]", "`spec.resources.gpu.memory: 20Gi`", "`default`"]:
        assert part in seen["message"], seen["message"]
    # What was there goes on.
    assert len(cluster.ready_pods(namespace, "trainyard.dev/service=iris")) == 2
    cluster.apply(service(namespace, gpu={"memory": "60Gi"}))
    seen = cluster.until("another", lambda: (c := is_true(condition(cluster, namespace, "Stalled"))) and "60Gi of a GPU" in c["message"] and c)
    assert "a part of the pool `default` is 40Gi" in seen["message"]
    cluster.apply(service(namespace))
    cluster.until("iris as before", lambda: ready(cluster, namespace))


@pytest.fixture
def broken(cluster, namespace):
    """A card of node-2 that a replica has, which breaks, and is well again for whatever comes after."""
    # Kubelet may have given both replicas one card, whichever.
    held = json.dumps([pod["status"] for pod in cluster.get("-n", namespace, "pods")["items"]])
    # As the device plugin names them; where kubelet does not tell them the test asks nothing of the replicas.
    names = [f"GPU-{hashlib.sha256(f'node-2/{card}/0'.encode()).hexdigest()[:8]}" for card in (0, 1)]
    card = 1 if names[1] in held else 0
    assert not HAS_DRA or names[card] in held, held
    cluster.xtask("chaos", "gpu-health", "node-2", card, "unhealthy")
    yield
    cluster.xtask("chaos", "gpu-health", "node-2", card, "healthy")


def test_a_device_that_breaks(cluster, namespace, pools, broken):
    seen = cluster.until("a word about it", lambda: is_true(told(cluster, "default", "Degraded")))
    assert seen["reason"] == "GpusUnhealthy" and "2 units" in seen["message"] and "`node-2`" in seen["message"]
    about = ("events.events.k8s.io", "--field-selector", "regarding.kind=GpuPool,reason=GpusUnhealthy")
    events = lambda: cluster.get("-n", "default", *about)["items"]
    (event,) = cluster.until("an event", events)
    assert event["type"] == "Warning" and event["regarding"]["name"] == "default" and event["note"] == seen["message"]
    assert cluster.get("gpupool", "default")["status"]["units"] == 2
    node = next(it for it in gpu(cluster, "nodes") if it["name"] == "node-2")
    assert [it["allocatable"] for it in node["units"] if it["resource"] == SHARED] == [2]
    assert "×" in cluster.exec(BINARY, "gpu", "nodes").stdout
    if HAS_DRA:
        # The service that has it is told, with the card's name, though all its replicas still answer.
        seen = cluster.until("a word to its owner", lambda: is_true(condition(cluster, namespace, "Degraded")))
        assert seen["reason"] == "GpuUnhealthy" and "`GPU-" in seen["message"] and "[D48]" in seen["message"]
        assert is_true(condition(cluster, namespace, "Ready"))
        found = [it["object"] for it in doctor(cluster, namespace) if it["diagnosis"] == "D48"]
        pods = [it["name"] for it in found if it["kind"] == "Pod"]
        # Both replicas may share the card.
        assert any(f"`{pod}`" in seen["message"] for pod in pods), (found, seen)


def test_a_device_that_is_well_again(cluster, namespace, pools):
    cluster.until("all units", lambda: cluster.get("gpupool", "default")["status"]["units"] == 4)
    cluster.until("calm", lambda: told(cluster, "default", "Degraded")["status"] == "False")
    cluster.until("iris as before", lambda: (c := condition(cluster, namespace, "Degraded")) and c["status"] == "False")


def test_another_mode_is_rolled_out_under_load(cluster, namespace, pools):
    cluster.until("a route", lambda: answered(cluster))
    revision = lambda: cluster.get("-n", namespace, "modelservice", "iris")["status"]["revision"]
    before = revision()
    profiles = [{"name": "3g.40gb", "count": 2}]
    for sharing, resource, units in [
        ({"mode": "none"}, WHOLE, 2),
        ({"mode": "mig", "profiles": profiles}, MIG, 4),
        ({"mode": "mps", "shares": 2}, SHARED, 4),
    ]:
        changed = mps()
        changed["spec"]["sharing"] = sharing
        with under_load(cluster, f"to {sharing['mode']}", clients=8, pause=0.02):
            cluster.apply(changed)
            cluster.until("the new units", lambda: allocatable(cluster, resource) == units)
            cluster.until("iris on them", lambda: limits(cluster, namespace).get(resource) == "1")
            served.rolled_out(cluster, namespace, "iris")
            cluster.until("iris", lambda: ready(cluster, namespace) and revision() != before)
        cluster.until("the pool", lambda: is_true(told(cluster, "default", "Ready")))
        before = revision()
        # Those that drain have what they had; then only the new units are left.
        cluster.until("the old units to go", lambda: in_use(cluster) == {resource: 2})


def claims(cluster, namespace):
    """Devices of the claims that have some, with the pool that each comes from, and how many wait."""
    found = cluster.get("-n", namespace, "resourceclaims")["items"]
    given = [it["status"]["allocation"]["devices"]["results"] for it in found if it.get("status", {}).get("allocation")]
    return sorted((it["pool"], it["device"]) for results in given for it in results), len(found) - len(given)


def test_devices_by_claim(cluster, namespace, pools):
    cluster.kubectl("label", "node", "node-1", "test-pool=claimed")
    cluster.apply(pool("claimed", product="Tesla-T4", sharing={"mode": "dra"}))
    if not HAS_DRA:
        seen = cluster.until("a stall", lambda: is_true(told(cluster, "claimed", "Stalled")))
        assert "1.34 or newer" in seen["message"]
        return
    cluster.until("the pool", lambda: is_true(told(cluster, "claimed", "Ready")))
    cluster.until("the class", lambda: cluster.find("deviceclass", "trainyard-claimed"))
    # The driver of both nodes offers GPUs; the class takes those of the pool's product alone.
    cluster.until("slices", lambda: len(cluster.get("resourceslices")["items"]) == 2)
    claimed = service(namespace, replicas=1, gpu={"memory": "8Gi", "pool": "claimed"})
    claimed["metadata"]["name"] = "claimed"
    cluster.apply(claimed)
    [made] = cluster.until("a template", lambda: cluster.get("-n", namespace, "resourceclaimtemplates")["items"])
    wanted = made["spec"]["spec"]["devices"]["requests"][0]["firstAvailable"]
    assert [it["deviceClassName"] for it in wanted] == ["trainyard-claimed"] * 2
    cluster.until("the pod on its GPU", lambda: cluster.ready_pods(namespace, "trainyard.dev/service=claimed"))
    assert claims(cluster, namespace) == ([("node-1", "gpu-0")], 0)
    # A training job of the same pool finds the only GPU taken, and everybody says so.
    training = {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
        "metadata": {"name": "second", "namespace": namespace},
        "spec": {
            "framework": "generic", "image": AGNHOST, "command": ["/agnhost", "pause"],
            "resources": {"cpu": "100m", "memory": "64Mi", "gpu": {"count": 1, "pool": "claimed"}},
        },
    }
    cluster.apply(training)
    pending = lambda: (found := doctor(cluster, namespace)) and [it for it in found if it["diagnosis"] == "D07"]
    [seen] = cluster.until("the diagnosis", pending)
    assert seen["object"]["kind"] == "Pod" and seen["object"]["name"].startswith("second"), seen
    assert claims(cluster, namespace) == ([("node-1", "gpu-0")], 1)
    # Once the service gives its GPU back, the job has it.
    cluster.kubectl("-n", namespace, "delete", "modelservice", "claimed")
    running = lambda: [
        it for it in cluster.get("-n", namespace, "pods", "-l", "trainyard.dev/job=second")["items"]
        if it["status"]["phase"] == "Running"
    ]
    cluster.until("the job on the GPU", running)
    assert claims(cluster, namespace) == ([("node-1", "gpu-0")], 0)
    assert not [it for it in doctor(cluster, namespace) if it["diagnosis"] == "D07"]
    cluster.kubectl("-n", namespace, "delete", "trainingjob", "second")
    cluster.until("no template", lambda: not cluster.get("-n", namespace, "resourceclaimtemplates")["items"])
    # A pool that shares in another way needs the class no more.
    cluster.apply(pool("claimed", product="Tesla-T4", sharing={"mode": "none"}))
    cluster.until("no class", lambda: not cluster.find("deviceclass", "trainyard-claimed"))


def test_nodes_are_bare_again_without_a_pool(cluster, namespace, pools):
    cluster.kubectl("delete", "gpupools", "--all")
    cluster.until("bare nodes", lambda: not marks(cluster))
    cluster.until("no ConfigMap", lambda: not cluster.find("-n", "trainyard", "configmap", "trainyard-gpus"))
    # Without the pool nobody knows what a part is: the service says so, and what runs goes on.
    seen = cluster.until("a stall", lambda: is_true(condition(cluster, namespace, "Stalled")))
    assert "from the pool `default`, which there is not" in seen["message"]
    assert is_true(condition(cluster, namespace, "Degraded"))["message"].endswith("the spec is not in effect")
    assert len(cluster.ready_pods(namespace, "trainyard.dev/service=iris")) == 2
