"""What `trainyard` refuses of a manifest the API server refuses too, before it is stored."""

import json
import os

import pytest

from running import run

BINARY = os.environ["TRAINYARD_BIN"]
S3 = {"uri": "s3://models/iris"}


def spec(**fields):
    return {"spec": {"model": S3, **fields}}


def uri(text):
    return {"spec": {"model": {"uri": text}}}


def named(name):
    return {"metadata": {"name": name}, "spec": {"model": S3}}


def called(model):
    return {"metadata": {"name": "iris", "annotations": {"trainyard.dev/model-name": model}}, "spec": {"model": S3}}


# Every rule of the reader (`crates/api/src/manifest`), by what it is about.
BAD = {
    "no spec": {},
    "no model": {"spec": {}},
    "an unknown field": spec(replica=2),
    "an unknown field below": spec(scaling={"maximum": 2}),
    "a wrong type": spec(replicas="two"),
    "a number for text": spec(resources={"cpu": 0.5}),
    "too many replicas": spec(replicas=1001),
    "no list of names": spec(runtime={"name": "custom", "command": "serve"}),
    "an unknown runtime": spec(runtime={"name": "onxx"}),
    "an unknown format": {"spec": {"model": {**S3, "format": "pickle"}}},
    "a name of upper case": named("Iris"),
    "a name that starts with a digit": named("1iris"),
    "a name that is too long": named("x" * 53),
    "no scheme": uri("models/iris"),
    "an unknown scheme": uri("ftp://host/iris"),
    "plain http": uri("http://example.com/iris"),
    "nothing after the scheme": uri("s3://"),
    "a bucket with a space": uri("s3://my models/iris"),
    "a control character": uri("s3://models/iris\t"),
    "a path out of the volume": uri("pvc://models/../../etc"),
    "a file of a host": uri("file://models/iris"),
    "https without a path": uri("https://example.com"),
    "https with a password": uri("https://me:hunter2@example.com/iris"),
    "no image reference": uri("oci://iris"),
    "no registered model": uri("mlflow://iris"),
    "an empty alias": uri("mlflow://models/iris@"),
    "a version that is no number": uri("mlflow://models/iris/x"),
    "a digest that is none": {"spec": {"model": {**S3, "sha256": "abc"}}},
    "credentials without use": {"spec": {"model": {"uri": "pvc://models/iris", "credentialsSecret": "s"}}},
    "a CPU that is none": spec(resources={"cpu": "many"}),
    "no CPU": spec(resources={"cpu": "0"}),
    "a memory that is none": spec(resources={"memory": "2GiB"}),
    "a negative memory": spec(resources={"memory": "-1Gi"}),
    "a memory that overflows": spec(resources={"memory": "99999999999999Ti"}),
    "two ways to ask for a GPU": spec(resources={"gpu": {"count": 1, "memory": "8Gi"}}),
    "no way to ask for a GPU": spec(resources={"gpu": {"pool": "default"}}),
    "a share of more than one": spec(resources={"gpu": {"share": "5/4"}}),
    "a share of nothing": spec(resources={"gpu": {"share": "0/4"}}),
    "a share that is none": spec(resources={"gpu": {"share": "quarter"}}),
    "a time that is none": spec(batching={"maxDelay": "2 ms"}),
    "a time without a unit": spec(batching={"maxDelay": "2"}),
    "a time that overflows": spec(batching={"maxDelay": "99999999999999999999h"}),
    "a percentage that is none": spec(scaling={"min": 1, "max": 2, "cpu": "70"}),
    "a percentage above all": spec(scaling={"min": 1, "max": 2, "cpu": "170%"}),
    "max below min": spec(scaling={"min": 3, "max": 2}),
    "scaleToZeroAfter without zero": spec(scaling={"min": 1, "scaleToZeroAfter": "5m"}),
    "maxConcurrency below concurrency": spec(scaling={"concurrency": 4, "maxConcurrency": 2}),
    "steps of a rolling update": spec(rollout={"steps": [10]}),
    "steps that do not grow": spec(rollout={"strategy": "canary", "steps": [50, 10]}),
    "a step of everything": spec(rollout={"strategy": "canary", "steps": [100]}),
    "a pause of a rolling update": spec(rollout={"pause": "1m"}),
    "a mirror of a rolling update": spec(rollout={"mirror": "5%"}),
    "an abort without a reason": spec(rollout={"strategy": "canary", "abort": {}}),
    "a header with a space": spec(rollout={"stickyHeader": "x user"}),
    "batching of triton": spec(runtime={"name": "triton"}, batching={"maxSize": 8}),
    "a delay of vllm": spec(runtime={"name": "vllm"}, batching={"maxDelay": "2ms"}),
    "a size of torchserve": spec(runtime={"name": "torchserve"}, batching={"maxSize": 8}),
    "onnx with another format": {"spec": {"model": {**S3, "format": "savedmodel"}, "runtime": {"name": "onnx"}}},
    "a command of a preset": spec(runtime={"name": "onnx", "command": ["serve"]}),
    "custom without a command": spec(runtime={"name": "custom"}),
    "a variable with two values": spec(
        runtime={"name": "onnx", "env": [{"name": "A", "value": "b", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
    ),
    "a variable without a name": spec(runtime={"name": "onnx", "env": [{"value": "b"}]}),
    "a toleration of everything by value": spec(placement={"tolerations": [{"operator": "Exists", "key": "a", "value": "b"}]}),
    "a model's name with a slash": called("a/b"),
    "a model's name with a colon": called("a:b"),
    "a model's name that is a flag": called("-x"),
    "an empty model's name": called(""),
    "a model's name that is a path": called(".."),
    "a model's name that is too long": called("x" * 256),
}


def document(bad):
    whole = {"apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService", "metadata": {"name": "iris"}}
    return {**whole, **bad}


@pytest.fixture(scope="module")
def definition(cluster):
    crds = run([BINARY, "crds"]).stdout
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=crds)
    cluster.kubectl("wait", "--for=condition=Established", "crd/modelservices.trainyard.dev", "--timeout=60s")
    policies = run([BINARY, "crds", "--policies"]).stdout
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=policies)


def applied(cluster, bad):
    """Whether the API server takes it, and what it says."""
    done = cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-n", "default", "-f", "-",
        stdin=json.dumps(document(bad)), check=False,
    )
    return done.returncode == 0, done.stderr


def test_a_good_one_is_taken(cluster, definition):
    for good in [spec(), named("iris-2"), called("My Model"), called("日本")]:
        taken, said = applied(cluster, good)
        assert taken, said


def test_the_reader_refuses_all_of_them(tmp_path):
    path = tmp_path / "service.yaml"
    taken = []
    for what, bad in BAD.items():
        path.write_text(json.dumps(document(bad)))
        if run([BINARY, "render", "-f", path], check=False).returncode == 0:
            taken.append(what)
    assert not taken, taken


def test_the_api_server_refuses_all_of_them(cluster, definition):
    taken = []
    for what, bad in BAD.items():
        if applied(cluster, bad)[0]:
            taken.append(what)
    assert not taken, taken
