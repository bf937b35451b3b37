"""What `trainyard render` prints, for every runtime and every profile, against the API server's own
schemas (kubeconform) and against what reviewers of manifests look for (kube-score)."""

import json
import os
import pathlib

import pytest
import schemas

from running import run

BINARY = os.environ["TRAINYARD_BIN"]
PROFILES = ["generic", "eks", "gke", "aks"]
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


def manifests():
    services = [
        {
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService", "metadata": {"name": name},
            "spec": {"model": MODEL, **spec},
        }
        for name, spec in SPECS.items()
    ]
    return "".join(f"---\n{json.dumps(service)}\n" for service in services)


def rendered(profile, *more):
    flags = ["--profile", profile, "-n", "models", "--gpu-pool", "default=4,16Gi", "--image", "example.com/trainyard:1"]
    return run([BINARY, "render", "-f", "-", *flags, *more], text=manifests()).stdout


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
@pytest.mark.parametrize("more", [(), ("--gateway", "trainyard", "--kubernetes-version", "1.34")], ids=["plain", "gateway"])
def test_the_schemas_take_it(tools, schema_folder, profile, more):
    result = conform(tools, schema_folder, rendered(profile, *more))
    assert result["summary"]["invalid"] == result["summary"]["errors"] == result["summary"]["skipped"] == 0, result
    assert result["summary"]["valid"] >= 5 * len(SPECS), result


def test_the_schemas_are_strict(tools, schema_folder):
    text = rendered("generic").replace("serviceAccountName:", "serviceAcountName:", 1)
    assert conform(tools, schema_folder, text)["summary"]["invalid"] == 1


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("more", [(), ("--gateway", "trainyard", "--kubernetes-version", "1.34")], ids=["plain", "gateway"])
def test_nothing_is_critical(tools, profile, more):
    command = [tools["kube-score"], "score", "--output-format", "ci", "--kubernetes-version", "v1.34", "-"]
    done = run(command, check=False, text=rendered(profile, *more))
    found = [line for line in done.stdout.splitlines() if line.startswith("[CRITICAL]")]
    assert not found, "\n".join(found)
    assert "[OK]" in done.stdout, done.stdout + done.stderr
