"""Jobs that another scheduler of the cluster places: the scheduler as its tester brings it, and what they all are asked.

A folder with the scheduler's images as archives (`*.tar`) and its manifests (`*.yaml`) is named by a variable:
what is not to be had as a Go module cannot be built here."""

import contextlib
import json
import os
import pathlib
import time

import iris
import python_image
from conftest import IMAGE as ARCHIVE, IMAGE_NAME, Cluster
from iris import trainyard

TEAM = "team"
IMAGE = "localhost/train-line:test"
# A program that ends when it is told to.
SLEEP = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep({})"
)


@contextlib.contextmanager
def cluster_with(variable, suffix, namespace):
    """A cluster of its own, with a GPU on each node and what the folder has, whose Deployments are in that
    namespace."""
    folder = pathlib.Path(os.environ[variable])
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    cluster = Cluster(os.environ.get("TRAINYARD_TEST_CLUSTER", "tests") + worker + suffix)
    cluster.xtask("up", "--replace", "--gpus", "all=1,claims=none", timeout=2700)
    try:
        for archive in sorted(folder.glob("*.tar")):
            cluster.xtask("load", str(archive))
        for manifest in sorted(folder.glob("*.yaml")):
            # Nothing is ever pulled here.
            text = manifest.read_text().replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent")
            cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)
        cluster.kubectl("-n", namespace, "rollout", "status", "deployment", "--timeout=120s")
        yield cluster
    finally:
        cluster.xtask("down")


def install(cluster, tmp_path):
    """Trainyard, which looks once what else there is, and a namespace for jobs."""
    path = tmp_path / "train.tar"
    python_image.write(path, IMAGE, {})
    cluster.xtask("load", ARCHIVE)
    cluster.xtask("load", str(path))
    cluster.kubectl("create", "namespace", TEAM)
    iris.install(cluster, IMAGE_NAME)


def manifest(name, seconds, cpu="100m", **spec):
    """A job of two workers that sleep; what is None is left out."""
    whole = {
        "framework": "generic", "image": IMAGE, "command": ["python3", "-c", SLEEP.format(seconds)],
        "resources": {"cpu": cpu, "memory": "64Mi"}, "workers": {"count": 2}, "queue": "team-a", **spec,
    }
    return {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name, "namespace": TEAM},
        "spec": {field: value for field, value in whole.items() if value is not None},
    }


def status(cluster, name):
    return cluster.get("-n", TEAM, "trainingjob", name).get("status", {})


def condition(found, kind="QuotaReserved"):
    return next((it for it in found.get("conditions", []) if it["type"] == kind), {})


def until(cluster, groups, name, wanted, seconds=90, says=""):
    """Waits for a phase, the reason of `QuotaReserved` if one is named, and words of its message. `groups` are
    shown where that does not come."""
    phase, _, reason = wanted.partition(" ")

    def holds():
        found = status(cluster, name)
        held = condition(found)
        is_so = found.get("phase") == phase and (not reason or held.get("reason") == reason)
        return found if is_so and says in held.get("message", "") else None

    try:
        return cluster.until(f"{name} to be {wanted} {says}", holds, seconds)
    except AssertionError as error:
        there = cluster.kubectl("-n", TEAM, "get", f"jobs,{groups}", "-o", "yaml", check=False).stdout
        raise AssertionError(f"{error}\n{json.dumps(status(cluster, name), indent=1)}\n{there}") from error


def pods(cluster, name):
    return cluster.get("-n", TEAM, "pods", "-l", f"trainyard.dev/job={name}")["items"]


def placed(cluster, name):
    """The nodes of its pods; of one that waits there is none."""
    return [pod["spec"]["nodeName"] for pod in pods(cluster, name) if "nodeName" in pod["spec"]]


def patch(cluster, name, **spec):
    cluster.kubectl("-n", TEAM, "patch", "tj", name, "--type=merge", "-p", json.dumps({"spec": spec}))


def delete(cluster, name):
    cluster.kubectl("-n", TEAM, "delete", "tj", name, "--wait=false")


def shown(cluster, queue):
    (found,) = [it for it in json.loads(trainyard(cluster, "queue", queue, "-o", "json").stdout) if it["name"] == queue]
    return found


def events(cluster, name):
    return trainyard(cluster, "events", name, "-n", TEAM).stdout


def most_of_a_node(cluster):
    """CPU of which a node has room for one, and not for two."""
    said = cluster.get("node", "node-1")["status"]["allocatable"]["cpu"]
    cores = int(said.removesuffix("m")) / 1000 if said.endswith("m") else int(said)
    return f"{int(cores * 600)}m"


def filler(node, cpu):
    """A pod of somebody else's that takes a node's room."""
    container = {
        "name": "sleeps", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", SLEEP.format(600)], "resources": {"requests": {"cpu": cpu}},
    }
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filler", "namespace": TEAM},
        "spec": {"nodeName": node, "containers": [container]},
    }


def plain_objects_are_a_gang_too(cluster, system):
    """What `render` writes for a job that names its queue: nobody but the scheduler acts on it."""
    most = most_of_a_node(cluster)
    cluster.apply(filler("node-1", most))
    cluster.until("the filler", lambda: cluster.get("-n", TEAM, "pod", "filler")["status"]["phase"] == "Running", 60)
    job = json.dumps(manifest("plain", 2, cpu=most, queue="wide", queuedBy=system))
    image = ("--image", IMAGE_NAME, "--image-pull-policy", "IfNotPresent")
    text = trainyard(cluster, "render", "-f", "-", *image, stdin=job).stdout
    cluster.kubectl("apply", "-f", "-", stdin=text)
    cluster.until("its pods", lambda: len(pods(cluster, "plain")) == 2, 30)
    for _ in range(8):
        assert not placed(cluster, "plain")
        time.sleep(1)
    cluster.kubectl("-n", TEAM, "delete", "pod", "filler", "--grace-period=1")
    cluster.until("its end", lambda: cluster.get("-n", TEAM, "job", "plain")["status"].get("succeeded") == 2, 60)
    assert sorted(placed(cluster, "plain")) == ["node-1", "node-2"]
    cluster.kubectl("delete", "-f", "-", "--wait=false", stdin=text)
