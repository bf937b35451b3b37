"""The operator as a process beside a real cluster, under the very rights that it prints.

To be run inside the cluster's network, with KUBECONFIG, kubectl on the path and the variable
TRAINYARD_BIN: `cargo xtask cluster exec -- pytest tests/cluster/operator`. The cluster has the image
`localhost/agnhost:2.56` and logs writes (`up --agnhost --audit`).
"""

import json
import os
import signal
import subprocess
import time
import urllib.request
import uuid

import pytest

from api import Api, condition, path, until

TRAINYARD = os.environ["TRAINYARD_BIN"]
AGNHOST = "localhost/agnhost:2.56"


def kubectl(*arguments, stdin=None):
    done = subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"kubectl {arguments}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def api():
    crds = subprocess.check_output([TRAINYARD, "crds"], text=True)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=crds)
    kubectl("wait", "--for=condition=Established", "crd/modelservices.trainyard.dev")
    return Api()


@pytest.fixture
def namespace(api):
    """A namespace of the test's own, with a claim that holds a model."""
    name = f"ty-{uuid.uuid4().hex[:8]}"
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "",
            "hostPath": {"path": "/tmp", "type": "DirectoryOrCreate"},
            "claimRef": {"namespace": name, "name": "model"},
        },
    }
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "model", "namespace": name},
        "spec": {
            "accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    kubectl("create", "namespace", name)
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [volume, claim]}))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
    kubectl("delete", "pv", name, "--wait=false")


class Operator:
    """One operator process."""

    def __init__(self, namespace, folder, *flags, kubeconfig=None, rights=True):
        self.namespace, self.folder, self.flags = namespace, folder, flags
        self.number = 0
        self.process = None
        self.kubeconfig = kubeconfig
        if kubeconfig is None and rights:
            self.kubeconfig = own_rights(namespace, folder)

    def start(self, wait=True):
        self.number += 1
        self.log = self.folder / f"operator-{os.getpid()}-{id(self)}-{self.number}.log"
        self.address = f"127.0.0.1:{free_port()}"
        command = [
            TRAINYARD, "operator", "--namespace", self.namespace, "--address", self.address,
            "--watch-namespace", self.namespace, "--image", "localhost/trainyard:test",
            "--image-pull-policy", "IfNotPresent", *self.flags,
        ]
        environment = {**os.environ, "RUST_LOG": "info,kube_client=off,trainyard_operator=debug"}
        if self.kubeconfig is not None:
            environment["KUBECONFIG"] = str(self.kubeconfig)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        if wait:
            until("a ready operator", self.is_ready, 30)
        return self

    def is_ready(self):
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://{self.address}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def metric(self, name, **labels):
        """The sum of a metric over all series that have these labels."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        total = 0.0
        for line in text.splitlines():
            if line.split("{")[0].split(" ")[0] == name and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def leads(self):
        return self.metric("leader_election_master_status") == 1

    def kill(self):
        """As a node's end would."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """As a kubelet does."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(40) == 0, self.log.read_text()[-3000:]


def own_rights(namespace, folder):
    """A kubeconfig for a service account that may do what `--print-rbac` says, and no more."""
    account = "trainyard-operator"
    rights = subprocess.check_output(
        [TRAINYARD, "operator", "--print-rbac", "--namespace", namespace,
         "--watch-namespace", namespace, "--service-account", account],
        text=True,
    )
    existing = kubectl("-n", namespace, "get", "serviceaccount", account, "--ignore-not-found")
    if not existing:
        kubectl("-n", namespace, "create", "serviceaccount", account)
    kubectl("apply", "-f", "-", stdin=rights)
    token = kubectl("-n", namespace, "create", "token", account, "--duration=1h").strip()
    view = ["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]
    config = json.loads(kubectl(*view))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = folder / f"{namespace}.kubeconfig"
    file.write_text(json.dumps(config))
    return file


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def operator(api, namespace, tmp_path):
    running = Operator(namespace, tmp_path).start()
    yield running
    running.kill()


class Services:
    """ModelServices of one namespace."""

    def __init__(self, api, namespace):
        self.api, self.namespace = api, namespace

    def path(self, name):
        return path("modelservices", self.namespace, name)

    def apply(self, name="iris", **spec):
        body = {
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        }
        return self.api.apply(self.path(name), body)

    def server(self, name="iris", arguments=(), command=None, image=AGNHOST, **spec):
        """A server that needs no model: agnhost, which answers by HTTP."""
        command = command or ["/agnhost", "netexec", "--http-port=$(PORT)", "--udp-port=-1"]
        runtime = {"name": "custom", "image": image, "command": command, "args": list(arguments)}
        spec.setdefault("resources", {"cpu": "20m", "memory": "64Mi"})
        return self.apply(name, model={"uri": "pvc://model/m"}, runtime=runtime, **spec)

    def get(self, name="iris"):
        return self.api.find(self.path(name))

    def is_ready(self, name="iris", replicas=None):
        service = self.get(name)
        is_done = condition(service, "Progressing")["status"] == "False"
        is_serving = condition(service, "Ready")["status"] == "True"
        is_current = service.get("status", {}).get("observedGeneration") == service["metadata"]["generation"]
        count = service.get("status", {}).get("readyReplicas")
        fits = replicas is None or count == replicas
        return is_current and is_serving and is_done and fits and service

    def delete(self, name="iris"):
        self.api.delete(self.path(name))


@pytest.fixture
def services(api, namespace):
    return Services(api, namespace)
