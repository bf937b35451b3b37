"""The example model as users have it in a cluster: Trainyard installed, called through its gateway."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

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


def install(cluster, image, *flags):
    # Another file's tests may just have taken theirs away.
    is_leaving = lambda: (cluster.find("namespace", HOME) or {}).get("status", {}).get("phase") == "Terminating"
    cluster.until("the end of an earlier Trainyard", lambda: not is_leaving())
    done = trainyard(
        cluster, "install", "--image", image, "--image-pull-policy", "IfNotPresent", "--timeout", "3m", *flags
    )
    return done.stdout


def uninstall(cluster):
    trainyard(cluster, "uninstall", check=False)
    cluster.kubectl("delete", "namespace", HOME, "--wait=false", check=False)


def remove(cluster, namespace):
    """Takes the service away, and Trainyard. The namespace goes with the file's other fixtures."""
    cluster.kubectl("-n", namespace, "delete", "modelservices", "--all", check=False)
    uninstall(cluster)
    cluster.kubectl("delete", "pv", f"{namespace}-model", "--wait=false", check=False)
    cluster.until("the end of Trainyard", lambda: not cluster.find("namespace", HOME))


def manifest(namespace, model="model.onnx", **spec):
    """Two replicas, unless `spec` has other fields; those that are None are left out."""
    whole = {
        "model": {"uri": f"pvc://model/{model}"},
        "resources": {"cpu": "100m", "memory": "256Mi"},
        "replicas": 2,
        **spec,
    }
    return {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
        "metadata": {"name": "iris", "namespace": namespace},
        "spec": {name: value for name, value in whole.items() if value is not None},
    }


def volume(namespace, name):
    """A claim of that name with `FOLDER` as its volume, and the volume."""
    claim = {"accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": f"{namespace}-{name}"}
    return (
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
    )


def fill():
    """Puts the example model into `FOLDER`, and a file that is none. Another cluster may read them meanwhile."""
    FOLDER.mkdir(exist_ok=True)
    FOLDER.chmod(0o755)
    content = {"model.onnx": (ROOT / "examples/iris/model.onnx").read_bytes(), "wrong.onnx": b"no model"}
    for name, body in content.items():
        with tempfile.NamedTemporaryFile(dir=FOLDER, delete=False) as file:
            file.write(body)
            os.fchmod(file.fileno(), 0o644)
        os.replace(file.name, FOLDER / name)


def claim(cluster, namespace):
    """A claim `model` with the example model on every node, and a file that is none."""
    fill()
    cluster.apply(*volume(namespace, "model"))


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
def under_load(cluster, what, address=None, clients=64, pause=0, lost=0):
    """Clients that ask over and over, of which each waits so many seconds between two requests. No
    more requests than `lost` may be lost."""
    script = pathlib.Path(__file__).parent / "under_load.py"
    address = address or gateway(cluster)
    process = subprocess.Popen(
        [XTASK, "cluster", "--name", cluster.name, "exec", "--", sys.executable, str(script),
         address, INFER, BODY, str(clients), str(pause)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    try:
        yield
    finally:
        said, _ = process.communicate("", timeout=120)
    counted = json.loads(said.splitlines()[-1])
    print(f"{what}: {counted['answered']} answered, {counted['lost']} lost")
    assert counted["lost"] <= lost, (what, counted["failures"])
    assert counted["answered"] > 0, what


def on(cluster, namespace):
    """The nodes of the ready replicas."""
    pods = cluster.ready_pods(namespace, "trainyard.dev/service=iris")
    return {pod["spec"]["nodeName"] for pod in pods} if len(pods) == 2 else set()


def rolled_out(cluster, namespace, deployment):
    cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{deployment}", "--timeout=180s", timeout=200)


def answered(cluster):
    status, answer = call(cluster, gateway(cluster))
    return (status, answer) if status == 200 else None


def is_true(seen):
    return seen if seen and seen["status"] == "True" else None


def gateway_on(cluster, node):
    """Address of the gateway's pod on a node, as a load balancer with health checks of its own has it."""
    for pod in cluster.ready_pods(HOME, "app.kubernetes.io/name=trainyard-gateway"):
        if pod["spec"]["nodeName"] == node:
            ports = pod["spec"]["containers"][0]["ports"]
            return f"{pod['status']['podIP']}:{ports[0]['containerPort']}"
    return None
