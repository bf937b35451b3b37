"""What `trainyard render` prints, for every runtime and every profile, against the API server's own
schemas (kubeconform) and against what reviewers of manifests look for (kube-score)."""

import json
import os
import pathlib
import re

import pytest
import schemas
from conftest import ROOT
from iris import BODY, INFER, claim, manifest

from running import run

BINARY = os.environ["TRAINYARD_BIN"]
PROFILES = ["generic", "eks", "gke", "aks"]
GATEWAY = ("--gateway", "trainyard", "--kubernetes-version", "1.34")
MODEL = {"uri": "s3://models/iris"}
GPU = {"cpu": "2", "memory": "8Gi", "gpu": {"count": 1, "product": "Tesla-T4"}}
SHARED = {"cpu": "2", "memory": "8Gi", "gpu": {"share": "1/4", "pool": "default"}}
SPECS = {
    "onnx": {"batching": {"maxSize": 8, "maxDelay": "2ms"}, "scaling": {"min": 2, "max": 6, "cpu": "70%", "memory": "80%"}},
    "onnx-volume": {"model": {"uri": "pvc://models/iris"}, "placement": {"spot": "prefer", "spread": "zones"}, "scaling": {"min": 3}},
    "onnx-shared": {"resources": SHARED, "access": {"fromWorkspaces": ["vision"]}, "scaling": {"min": 2}},
    "tensorflow": {"runtime": {"name": "tensorflow"}, "batching": {"maxSize": 16}, "scaling": {"min": 2}},
    "tensorflow-shared": {"runtime": {"name": "tensorflow"}, "resources": SHARED, "scaling": {"min": 2}},
    "triton": {"runtime": {"name": "triton"}, "resources": GPU, "scaling": {"min": 2}},
    "vllm": {"runtime": {"name": "vllm"}, "resources": GPU, "placement": {"spot": "only"}, "scaling": {"min": 2}},
    "vllm-shared": {"runtime": {"name": "vllm"}, "resources": SHARED, "scaling": {"min": 2}},
    "torchserve": {"runtime": {"name": "torchserve"}, "batching": {"maxQueue": 50}, "scaling": {"min": 2}},
    "custom": {
        "runtime": {
            "name": "custom", "image": "example.com/server:1", "command": ["serve", "$(PORT)"],
            "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "value"}}}],
        },
        "model": {**MODEL, "credentialsSecret": "store", "sha256": "0" * 64},
        "placement": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "dedicated", "operator": "Exists"}]},
        "scaling": {"min": 2},
    },
}


JOBS = {
    "train-alone": {"framework": "generic", "deadline": "1h", "ttlAfterFinished": "1h"},
    "train-gang": {
        "framework": "pytorch", "workers": {"count": 2}, "resources": GPU, "priorityClass": "batch",
        "checkpoint": {"path": "out", "uri": "s3://bucket/gang", "credentialsSecret": "store"},
        "progress": {"timeout": "10m"}, "placement": {"spot": "only", "spread": "zones"},
    },
    "train-shared": {
        "framework": "jax", "resources": SHARED, "checkpoint": {"path": "/out", "uri": "pvc://jobs/shared"},
        "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
    },
    "train-tensorflow": {"framework": "tensorflow", "workers": {"count": 3}, "suspend": True},
    "train-mpi": {"framework": "mpi", "workers": {"count": 2}, "processesPerWorker": 4},
}


def manifests():
    def declared(kind, name, spec):
        return {"apiVersion": "trainyard.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}

    program = {"image": "example.com/train:1", "command": ["python3", "train.py"]}
    all = [declared("ModelService", name, {"model": MODEL, **spec}) for name, spec in SPECS.items()]
    all += [declared("TrainingJob", name, {**program, **spec}) for name, spec in JOBS.items()]
    return "".join(f"---\n{json.dumps(one)}\n" for one in all)


def examples():
    """Those of the pages whose model is where nodes can get it."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = [text for page in pages for text in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.M | re.S)]
    found = [text for text in found if "kind: ModelService" in text and "file://" not in text]
    assert len(found) >= 2
    return "---\n".join(found)


def rendered(profile, *more, text=None):
    flags = ["--profile", profile, "-n", "models", "--gpu-pool", "default=4,16Gi", "--image", "example.com/trainyard:1"]
    return run([BINARY, "render", "-f", "-", *flags, *more], text=text or manifests()).stdout


@pytest.fixture(scope="session")
def tools(cluster):
    folders = cluster.xtask("build", "kubeconform", "kube-score", timeout=1500).stdout.split()
    return {name: pathlib.Path(folder) / name for name, folder in zip(["kubeconform", "kube-score"], folders)}


@pytest.fixture(scope="session")
def schema_folder(cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("schemas")
    schemas.write(json.loads(cluster.kubectl("get", "--raw", "/openapi/v2").stdout), folder)
    return folder


def conform(tools, schema_folder, text):
    location = f"{schema_folder}/{schemas.LOCATION}"
    command = [tools["kubeconform"], "-strict", "-summary", "-output", "json", "-schema-location", location, "-"]
    done = run(command, check=False, text=text)
    return json.loads(done.stdout)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("more", [(), GATEWAY], ids=["plain", "gateway"])
def test_the_schemas_take_it(tools, schema_folder, profile, more):
    result = conform(tools, schema_folder, rendered(profile, *more))
    assert result["summary"]["invalid"] == result["summary"]["errors"] == result["summary"]["skipped"] == 0, result
    assert result["summary"]["valid"] >= 5 * len(SPECS), result


def test_examples_of_the_pages(tools, schema_folder):
    text = rendered("generic", text=examples())
    result = conform(tools, schema_folder, text)
    assert result["summary"]["invalid"] == result["summary"]["errors"] == result["summary"]["skipped"] == 0, result
    assert not critical(tools, text)


def test_the_schemas_are_strict(tools, schema_folder):
    text = rendered("generic").replace("serviceAccountName:", "serviceAcountName:", 1)
    assert conform(tools, schema_folder, text)["summary"]["invalid"] == 1


def critical(tools, text):
    command = [tools["kube-score"], "score", "--output-format", "ci", "--kubernetes-version", "v1.34", "-"]
    done = run(command, check=False, text=text)
    assert "[OK]" in done.stdout, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("[CRITICAL]")]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("more", [(), GATEWAY], ids=["plain", "gateway"])
def test_nothing_is_critical(tools, profile, more):
    found = critical(tools, rendered(profile, *more))
    assert not found, "\n".join(found)


def test_what_is_critical_is_told(tools):
    text = rendered("generic").replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
    assert critical(tools, text)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_api_server_takes_it(cluster, namespace, profile):
    """Defaults, quantities and cross-field rules, which no schema has."""
    text = rendered(profile).replace("namespace: models", f"namespace: {namespace}")
    done = cluster.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert len(done.stdout.splitlines()) >= 5 * len(SPECS), done.stdout


def test_it_serves_without_the_operator(cluster, image, namespace):
    claim(cluster, namespace)
    flags = ["--image", image, "--image-pull-policy", "IfNotPresent", "-n", namespace]
    text = run([BINARY, "render", "-f", "-", *flags], text=json.dumps(manifest(namespace))).stdout
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=text)
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/iris", "--timeout=120s")
    # The policy lets in pods of this namespace; what is forwarded comes from the pod itself.
    script = (
        'kubectl -n "$0" port-forward service/iris 18080:80 >/dev/null & trap "kill $!" EXIT\n'
        "until curl -sfo /dev/null http://127.0.0.1:18080/v2/health/ready; do sleep 0.1; done\n"
        f"curl -sSf http://127.0.0.1:18080{INFER} -d '{BODY}'"
    )
    answer = json.loads(cluster.exec("sh", "-ec", script, namespace, timeout=60).stdout)
    assert ["setosa"] in [output["data"] for output in answer["outputs"]], answer
    cluster.kubectl("delete", "pv", f"{namespace}-model", "--wait=false")
