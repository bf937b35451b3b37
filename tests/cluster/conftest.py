"""A real Kubernetes for the suite: started once, in namespaces of its own, and ended whatever happens."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/shared"))

from running import run  # noqa: E402  (its folder was added above)

BINARY = os.path.abspath(os.environ.get("TRAINYARD_BIN", ROOT / "target/debug/trainyard"))
XTASK = os.environ.get("TRAINYARD_XTASK", str(ROOT / "target/debug/xtask"))
IMAGE = os.environ.get("TRAINYARD_IMAGE", str(ROOT / "target/image-dev.tar"))
IMAGE_NAME = os.environ.get("TRAINYARD_IMAGE_NAME", "localhost/trainyard:test")

# Of the cluster; the main one where nothing is said.
MINOR = int(os.environ.get("TRAINYARD_TEST_KUBERNETES", "1.34").replace("newest", "1.99").partition(".")[2])
HAS_DRA = MINOR >= 34
# ValidatingAdmissionPolicies, which older API servers do not have.
HAS_POLICIES = MINOR >= 30

# Runs inside the cluster's network, started by `test_operator_suite.py`.
collect_ignore = ["operator"]

# The image that upstream's own network tests use, made by `up --agnhost`.
AGNHOST = "localhost/agnhost:2.56"


class Cluster:
    """`cargo xtask cluster`, for one cluster."""

    def __init__(self, name):
        self.name = name

    def xtask(self, *arguments, check=True, timeout=300, stdin=None, **options):
        command = [XTASK, "cluster", "--name", self.name, *arguments]
        return run(command, check=check, timeout=timeout, text=stdin, **options)

    def exec(self, *command, **options):
        return self.xtask("exec", "--", *command, **options)

    def address(self):
        """This machine's, as pods reach it."""
        (address,) = (
            at["ip"] for subset in self.get("endpoints", "kubernetes")["subsets"] for at in subset["addresses"]
        )
        return address

    @contextlib.contextmanager
    def serving(self, objects, port=9000, certificate=None):
        """An object store that pods reach, by TLS with a file of a certificate and its key; gives its
        address."""
        address, files = self.address(), [str(certificate)] if certificate else []
        command = [XTASK, "cluster", "--name", self.name, "exec", "--", sys.executable, str(ROOT / "tests/shared/store.py")]
        with subprocess.Popen(
            [*command, address, str(port), *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            server.stdin.write(json.dumps(objects) + "\n")
            server.stdin.flush()
            assert server.stdout.readline() == "ready\n"
            yield f"{'https' if certificate else 'http'}://{address}:{port}"
            server.stdin.close()

    def kubectl(self, *arguments, **options):
        return self.exec("kubectl", *arguments, **options)

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def find(self, *arguments):
        """As `get`; None where there is no such object."""
        text = self.kubectl("get", *arguments, "--ignore-not-found", "-o", "json").stdout
        return json.loads(text) if text.strip() else None

    def apply(self, *objects):
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self.kubectl("apply", "-f", "-", stdin=body)

    def until(self, what, holds, seconds=120):
        deadline = time.monotonic() + seconds
        while not (value := holds()):
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{self.state()}"
            time.sleep(0.3)
        return value

    def state(self):
        """What a person would look at first."""
        pods = self.kubectl("get", "pods", "-A", "-o", "wide", check=False).stdout
        events = self.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False).stdout
        return pods + "\n".join(events.splitlines()[-25:])

    def ready_pods(self, namespace, selector):
        pods = self.get("-n", namespace, "pods", "-l", selector)["items"]
        return [
            pod
            for pod in pods
            if any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in pod["status"].get("conditions", [])
            )
        ]

    def is_node_ready(self, node):
        conditions = self.get("node", node)["status"]["conditions"]
        return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)


# These take the longest. Of several workers each takes the next file, so they come first.
FIRST = ["operator_suite", "doctor", "lint_webhook", "releases", "gpu_pools", "admission", "chaos"]


def pytest_collection_modifyitems(items):
    names = [f"test_{name}" for name in FIRST]
    place = {name: at for at, name in enumerate(names)}
    items.sort(key=lambda item: place.get(item.module.__name__, len(place)))


@pytest.fixture(scope="session")
def cluster():
    # A worker of pytest-xdist has a cluster of its own.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    cluster = Cluster(os.environ.get("TRAINYARD_TEST_CLUSTER", "tests") + worker)
    # Building takes minutes where the cache is empty.
    cluster.xtask(
        "up", "--replace", "--netpol", "--agnhost", "--audit", "--metrics-server",
        "--gpus", "node-1=1",
        "--gpus", "node-2=2,product=NVIDIA-A100-SXM4-80GB,memory=80Gi,shared=2",
        timeout=2700,
    )
    try:
        yield cluster
    finally:
        # Images of gigabytes take minutes to remove where the disk is busy.
        cluster.xtask("down", timeout=1200)


@pytest.fixture(scope="session")
def image(cluster):
    """The product's image, on every node."""
    cluster.xtask("load", IMAGE)
    return IMAGE_NAME


@pytest.fixture(scope="module")
def namespace(cluster, request):
    """A namespace for one file's tests."""
    name = request.module.__name__.removeprefix("test_").replace("_", "-")
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def labelled(kind, api, namespace, name, spec, **labels):
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {"app": name}},
        "spec": spec,
    }


def workload(kind, pod):
    """A Pod as the template of another kind."""
    template = {"metadata": {"labels": {"app": "a"}}, "spec": pod["spec"]}
    job = {"template": {"spec": {**pod["spec"], "restartPolicy": "Never"}}}
    api, spec = {
        "Deployment": ("apps/v1", {"selector": {"matchLabels": {"app": "a"}}, "template": template}),
        "Job": ("batch/v1", job),
        "CronJob": ("batch/v1", {"schedule": "0 0 * * *", "jobTemplate": {"spec": job}}),
    }[kind]
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
