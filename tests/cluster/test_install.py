"""Trainyard as its users have it in a cluster: installed, called through the gateway, changed under load."""

import json
import pathlib
import subprocess
import sys
import urllib.request

import pytest

import iris as served
from conftest import ROOT
from iris import (
    BINARY, BODY, HOME, INFER, answered, call, condition, gateway, install, is_true, manifest, on, ready, rolled_out,
    trainyard, under_load,
)


@pytest.fixture(scope="module")
def installed(cluster, image):
    yield install(cluster, image)
    served.uninstall(cluster)


@pytest.fixture(scope="module")
def iris(cluster, installed, namespace):
    """The example model in two replicas, from a claim."""
    served.claim(cluster, namespace)
    cluster.apply(manifest(namespace))
    yield cluster.until("iris", lambda: ready(cluster, namespace))
    cluster.kubectl("delete", "pv", f"{namespace}-model", "--wait=false", check=False)


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


def test_a_model_is_called_by_the_name_that_it_is_given(cluster, namespace, iris):
    path = "/v2/models/My_Iris/infer"
    annotate = ("-n", namespace, "annotate", "--overwrite", "modelservice", "iris")
    try:
        cluster.kubectl(*annotate, "trainyard.dev/model-name=My_Iris")
        cluster.until("the name", lambda: call(cluster, gateway(cluster), path)[0] == 200)
    finally:
        cluster.kubectl(*annotate, "trainyard.dev/model-name-")
    cluster.until("the name before", lambda: answered(cluster))


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
