"""Trainyard as its users have it in a cluster: installed, called through the gateway, changed under load."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.request

import pytest

from conftest import ROOT, XTASK

BINARY = os.environ["TRAINYARD_BIN"]
HOME = "trainyard"
INFER = "/v2/models/iris/infer"
BODY = json.dumps(
    {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
)
# A host folder that every node sees at this path: the claim's volume.
FOLDER = pathlib.Path("/tmp/trainyard-cluster-models")


def trainyard(cluster, *arguments, **options):
    return cluster.exec(BINARY, *arguments, **options)


def install(cluster, image):
    done = trainyard(cluster, "install", "--image", image, "--image-pull-policy", "IfNotPresent", "--timeout", "3m")
    return done.stdout


@pytest.fixture(scope="module")
def installed(cluster, image):
    said = install(cluster, image)
    yield said
    trainyard(cluster, "uninstall", check=False)
    cluster.kubectl("delete", "namespace", HOME, "--wait=false", check=False)


def manifest(namespace, model="model.onnx", **spec):
    return {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
        "metadata": {"name": "iris", "namespace": namespace},
        "spec": {
            "model": {"uri": f"pvc://model/{model}"},
            "resources": {"cpu": "100m", "memory": "256Mi"},
            "replicas": 2,
            **spec,
        },
    }


def volume(namespace, name):
    """A claim of that name, and its volume on the nodes' folder."""
    claim = {"accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": f"{namespace}-{name}"}
    return [
        {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{namespace}-{name}"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "storageClassName": "",
                "hostPath": {"path": str(FOLDER)}, "claimRef": {"namespace": namespace, "name": name},
            },
        },
        {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace},
            "spec": {**claim, "resources": {"requests": {"storage": "1Gi"}}},
        },
    ]


@pytest.fixture(scope="module")
def iris(cluster, installed, namespace):
    """The example model in two replicas, from a claim."""
    FOLDER.mkdir(exist_ok=True)
    FOLDER.chmod(0o755)
    shutil.copy(ROOT / "examples/iris/model.onnx", FOLDER / "model.onnx")
    (FOLDER / "wrong.onnx").write_text("no model")
    cluster.apply(*volume(namespace, "model"))
    cluster.apply(manifest(namespace))
    yield cluster.until("iris", lambda: ready(cluster, namespace))
    cluster.kubectl("delete", "pv", f"{namespace}-model", "--wait=false", check=False)


def condition(cluster, namespace, name):
    service = cluster.get("-n", namespace, "modelservice", "iris")
    found = [it for it in service.get("status", {}).get("conditions", []) if it["type"] == name]
    current = service["metadata"]["generation"] == service.get("status", {}).get("observedGeneration")
    return found[0] if found and current else None


def ready(cluster, namespace):
    seen = condition(cluster, namespace, "Ready")
    return seen if seen and seen["status"] == "True" else None


def gateway(cluster):
    """The gateway's address inside the cluster's network."""
    return cluster.get("-n", HOME, "service", "trainyard-gateway")["spec"]["clusterIP"] + ":80"


def call(cluster, address, path=INFER, host=None):
    """Status and answer of one request."""
    program = (
        "import http.client,sys\n"
        "address,path,host,body=sys.argv[1:]\n"
        "client=http.client.HTTPConnection(address,timeout=30)\n"
        "client.request('POST',path,body,{'Host':host,'Content-Type':'application/json'})\n"
        "answer=client.getresponse()\n"
        "print(answer.status);print(answer.read().decode())\n"
    )
    done = cluster.exec(sys.executable, "-c", program, address, path, host or address, BODY)
    status, _, body = done.stdout.partition("\n")
    return int(status), json.loads(body)


@contextlib.contextmanager
def under_load(cluster, what):
    """Clients that never pause. Nothing of theirs may be lost."""
    script = pathlib.Path(__file__).parent / "under_load.py"
    process = subprocess.Popen(
        [XTASK, "cluster", "--name", cluster.name, "exec", "--", sys.executable, str(script), gateway(cluster), INFER, BODY],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    try:
        yield
    finally:
        counted, _ = process.communicate("", timeout=120)
    counted = json.loads(counted)
    print(f"{what}: {counted['answered']} answered, {counted['lost']} lost")
    assert counted["lost"] == 0, (what, counted["failures"])
    assert counted["answered"] > 0, what


def on(cluster, namespace):
    """The nodes of the ready replicas."""
    pods = cluster.ready_pods(namespace, "trainyard.dev/service=iris")
    return {pod["spec"]["nodeName"] for pod in pods} if len(pods) == 2 else set()


def rolled_out(cluster, namespace, deployment):
    cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{deployment}", "--timeout=180s", timeout=200)


def test_a_second_install_changes_nothing(cluster, image, installed):
    assert "deployment.apps/trainyard-operator created" in installed, installed
    again = install(cluster, image).splitlines()
    changed = [line for line in again if line.split()[-1] in ("created", "changed", "deleted")]
    assert not changed and any(line.endswith("unchanged") for line in again), again


def test_it_predicts_through_the_gateway(cluster, namespace, iris):
    status, answer = cluster.until("a route", lambda: answered(cluster))
    assert ["setosa"] in [output["data"] for output in answer["outputs"]], answer
    url = cluster.get("-n", namespace, "modelservice", "iris")["status"]["url"]
    assert url == f"http://trainyard-gateway.{HOME}.svc"
    # By host, as where several teams have a model of one name.
    assert call(cluster, gateway(cluster), host=f"iris.{namespace}.svc.cluster.local")[0] == 200
    status, answer = call(cluster, gateway(cluster), "/v2/models/nobody/infer")
    assert status == 404 and "nobody" in answer["error"]


def test_unmodified_clients_get_the_same_answer(cluster, namespace, iris):
    cluster.until("a route", lambda: answered(cluster))
    http = gateway(cluster)
    script = pathlib.Path(__file__).parent / "real_clients.py"
    said = cluster.exec(sys.executable, script, http, http.replace(":80", ":8001"), timeout=120)
    answers = json.loads(said.stdout.splitlines()[-1])
    assert answers == {name: "setosa" for name in ("triton http", "triton grpc", "tensorflow serving")}


def test_one_machine_gives_the_same_answer(cluster, namespace, iris, tmp_path):
    cluster.until("a route", lambda: answered(cluster))
    _, in_cluster = call(cluster, gateway(cluster))
    state = ["--state-dir", str(tmp_path)]
    up = [BINARY, "up", "-d", "--port", "0", *state, str(ROOT / "examples/iris")]
    subprocess.run(up, check=True, capture_output=True, timeout=120)
    try:
        status = subprocess.run([BINARY, "status", "--json", *state], check=True, capture_output=True, timeout=60)
        address = json.loads(status.stdout)["address"]
        request = urllib.request.Request(
            f"http://{address}{INFER}", BODY.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            here = json.load(answer)
    finally:
        subprocess.run([BINARY, "down", *state], check=True, capture_output=True, timeout=60)
    assert here["outputs"] == in_cluster["outputs"]


def answered(cluster):
    status, answer = call(cluster, gateway(cluster))
    return (status, answer) if status == 200 else None


def test_nothing_is_lost_while_things_change(cluster, namespace, iris):
    cluster.until("a route", lambda: answered(cluster))
    with under_load(cluster, "a new revision"):
        # Another argument is another revision.
        cluster.apply(manifest(namespace, runtime={"name": "onnx", "args": ["--max-queue", "500"]}))
        cluster.until("the new revision", lambda: ready(cluster, namespace))
    with under_load(cluster, "a rollback"):
        trainyard(cluster, "rollback", "iris", "-n", namespace)
        cluster.until("the old revision", lambda: ready(cluster, namespace))
    with under_load(cluster, "a pod is deleted"):
        pod = cluster.ready_pods(namespace, "trainyard.dev/service=iris")[0]["metadata"]["name"]
        cluster.kubectl("-n", namespace, "delete", "pod", pod, timeout=120)
        cluster.until("a new pod", lambda: ready(cluster, namespace))
    with under_load(cluster, "a node is drained"):
        cluster.xtask("chaos", "drain", "node-1", timeout=280)
        cluster.until("all of it on the other node", lambda: ready(cluster, namespace) and on(cluster, namespace) == {"node-2"})
    cluster.xtask("chaos", "uncordon", "node-1")
    with under_load(cluster, "the gateway restarts"):
        cluster.kubectl("-n", HOME, "rollout", "restart", "deployment/trainyard-gateway")
        rolled_out(cluster, HOME, "trainyard-gateway")
    with under_load(cluster, "the operator restarts"):
        cluster.kubectl("-n", HOME, "rollout", "restart", "deployment/trainyard-operator")
        rolled_out(cluster, HOME, "trainyard-operator")


def test_a_broken_release_takes_no_traffic(cluster, namespace, iris):
    cluster.until("a route", lambda: answered(cluster))
    with under_load(cluster, "a broken release"):
        cluster.apply(manifest(namespace, model="wrong.onnx"))
        stalled = cluster.until("the cause", lambda: is_true(condition(cluster, namespace, "Stalled")), 60)
        assert stalled["reason"] == "CrashLoop", stalled
    trainyard(cluster, "rollback", "iris", "-n", namespace)
    cluster.until("the old revision", lambda: ready(cluster, namespace))


def is_true(seen):
    return seen if seen and seen["status"] == "True" else None


def test_others_cannot_reach_the_replicas(cluster, namespace, iris):
    # Nobody is told from a pod of another namespace: the policy lets in the gateway and monitoring.
    policy = cluster.get("-n", namespace, "networkpolicy", "iris")["spec"]
    sources = [source for rule in policy["ingress"] for source in rule.get("from", [])]
    homes = [source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for source in sources]
    assert sorted(homes) == ["monitoring", HOME], policy


def test_services_outlive_what_is_uninstalled(cluster, image, namespace, iris):
    pods = [pod["metadata"]["uid"] for pod in cluster.ready_pods(namespace, "trainyard.dev/service=iris")]
    trainyard(cluster, "uninstall")
    deployments = cluster.get("-n", HOME, "deployments")["items"]
    assert all("deletionTimestamp" in it["metadata"] for it in deployments), deployments
    after = [pod["metadata"]["uid"] for pod in cluster.ready_pods(namespace, "trainyard.dev/service=iris")]
    assert after == pods and len(pods) == 2
    cluster.until("the end of the pods", lambda: not cluster.get("-n", HOME, "pods")["items"])
    install(cluster, image)
    cluster.until("iris again", lambda: ready(cluster, namespace))
    assert [pod["metadata"]["uid"] for pod in cluster.ready_pods(namespace, "trainyard.dev/service=iris")] == pods
