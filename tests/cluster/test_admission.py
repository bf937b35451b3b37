"""What `trainyard` refuses of a manifest the API server refuses too, before it is stored; what it cannot
refuse, the operator tells of."""

import json
import os
import pathlib
import sys

import commands
import pytest
from conftest import HAS_POLICIES
from iris import HOME, condition, install, remove

from running import run

BINARY = os.environ["TRAINYARD_BIN"]
ASK = pathlib.Path(__file__).parent / "ask.py"
S3 = {"uri": "s3://models/iris"}


def spec(**fields):
    return {"spec": {"model": S3, **fields}}


def model(**fields):
    return {"spec": {"model": {**S3, **fields}}}


def uri(text):
    return model(uri=text)


def named(name):
    return {"metadata": {"name": name}, "spec": {"model": S3}}


def called(name):
    return {"metadata": {"name": "iris", "annotations": {"trainyard.dev/model-name": name}}, "spec": {"model": S3}}


def tolerating(**fields):
    return spec(placement={"tolerations": [fields]})


def env(**fields):
    return spec(runtime={"name": "onnx", "env": [fields]})


# Every rule of the reader (`crates/api`), by what it is about.
BAD = {
    "no spec": {},
    "no model": {"spec": {}},
    "no place of the model": {"spec": {"model": {}}},
    "no name of a runtime": spec(runtime={}),
    "an unknown field": spec(replica=2),
    "an unknown field below": spec(scaling={"maximum": 2}),
    "a wrong type": spec(replicas="two"),
    "a number for text": spec(resources={"cpu": 0.5}),
    "too many replicas": spec(replicas=1001),
    "negative replicas": spec(replicas=-1),
    "no list of names": spec(runtime={"name": "custom", "command": "serve"}),
    "an empty list": spec(runtime={"name": "custom", "command": []}),
    "an unknown runtime": spec(runtime={"name": "onxx"}),
    "an unknown format": model(format="pickle"),
    "an unknown strategy": spec(rollout={"strategy": "fast"}),
    "a name of upper case": named("Iris"),
    "a name that starts with a digit": named("1iris"),
    "a name that ends with a dash": named("iris-"),
    "a name that is too long": named("x" * 53),
    "no scheme": uri("models/iris"),
    "an unknown scheme": uri("ftp://host/iris"),
    "plain http": uri("http://example.com/iris"),
    "nothing after the scheme": uri("s3://"),
    "a bucket with a space": uri("s3://my models/iris"),
    "a bucket that is a dot": uri("s3://./iris"),
    "a control character": uri("s3://models/iris\t"),
    "a place of three pages": uri("s3://models/" + "x" * 2048),
    "a path out of the volume": uri("pvc://models/../../etc"),
    "a file of a host": uri("file://models/iris"),
    "https without a path": uri("https://example.com"),
    "https with a password": uri("https://me:hunter2@example.com/iris"),
    "https with a space": uri("https://example.com/my model"),
    "no image reference": uri("oci://iris"),
    "no registered model": uri("mlflow://iris"),
    "an empty alias": uri("mlflow://models/iris@"),
    "a version that is no number": uri("mlflow://models/iris/x"),
    "a version of nothing": model(version=0),
    "a digest that is none": model(sha256="abc"),
    "credentials without use": model(uri="pvc://models/iris", credentialsSecret="s"),
    "a CPU that is none": spec(resources={"cpu": "many"}),
    "no CPU": spec(resources={"cpu": "0"}),
    "no CPU, as a number": spec(resources={"cpu": 0}),
    "a negative CPU": spec(resources={"cpu": -1}),
    "more CPU than there is": spec(resources={"cpu": "1000001"}),
    "a memory that is none": spec(resources={"memory": "2GiB"}),
    "no memory": spec(resources={"memory": "0Gi"}),
    "a negative memory": spec(resources={"memory": "-1Gi"}),
    "a memory of thousandths": spec(resources={"memory": "512m"}),
    "a memory that overflows": spec(resources={"memory": "99999999999999Ti"}),
    "two ways to ask for a GPU": spec(resources={"gpu": {"count": 1, "memory": "8Gi"}}),
    "no way to ask for a GPU": spec(resources={"gpu": {"pool": "default"}}),
    "no GPU": spec(resources={"gpu": {"count": 0}}),
    "no memory of a GPU": spec(resources={"gpu": {"memory": "0"}}),
    "a share of more than one": spec(resources={"gpu": {"share": "5/4"}}),
    "a share of nothing": spec(resources={"gpu": {"share": "0/4"}}),
    "a share by nothing": spec(resources={"gpu": {"share": "1/0"}}),
    "a share that is none": spec(resources={"gpu": {"share": "quarter"}}),
    "a time that is none": spec(batching={"maxDelay": "2 ms"}),
    "a time without a unit": spec(batching={"maxDelay": "2"}),
    "a time that overflows": spec(batching={"maxDelay": "99999999999999999999h"}),
    "a time of more than 292 years": spec(batching={"maxDelay": "2562048h"}),
    "a batch of nothing": spec(batching={"maxSize": 0}),
    "a percentage that is none": spec(scaling={"min": 1, "max": 2, "cpu": "70"}),
    "a percentage above all": spec(scaling={"min": 1, "max": 2, "cpu": "170%"}),
    "a percentage of nothing": spec(scaling={"min": 1, "max": 2, "memory": "0.5%"}),
    "max below min": spec(scaling={"min": 3, "max": 2}),
    "scaleToZeroAfter without zero": spec(scaling={"min": 1, "scaleToZeroAfter": "5m"}),
    "maxConcurrency below concurrency": spec(scaling={"concurrency": 4, "maxConcurrency": 2}),
    "steps of a rolling update": spec(rollout={"steps": [10]}),
    "steps that do not grow": spec(rollout={"strategy": "canary", "steps": [50, 10]}),
    "a step of everything": spec(rollout={"strategy": "canary", "steps": [100]}),
    "a pause of a rolling update": spec(rollout={"pause": "1m"}),
    "a mirror of a rolling update": spec(rollout={"mirror": "5%"}),
    "a mirror of more than all": spec(rollout={"strategy": "canary", "mirror": "101%"}),
    "an abort without a reason": spec(rollout={"strategy": "canary", "abort": {}}),
    "more errors than requests": spec(rollout={"strategy": "canary", "abort": {"errorRate": "100.5%"}}),
    "a header with a space": spec(rollout={"stickyHeader": "x user"}),
    "batching of triton": spec(runtime={"name": "triton"}, batching={"maxSize": 8}),
    "a delay of vllm": spec(runtime={"name": "vllm"}, batching={"maxDelay": "2ms"}),
    "a size of torchserve": spec(runtime={"name": "torchserve"}, batching={"maxSize": 8}),
    "onnx with another format": {"spec": {"model": {**S3, "format": "savedmodel"}, "runtime": {"name": "onnx"}}},
    "a command of a preset": spec(runtime={"name": "onnx", "command": ["serve"]}),
    "custom without a command": spec(runtime={"name": "custom"}),
    "a variable with two values": env(name="A", value="b", valueFrom={"secretKeyRef": {"name": "s", "key": "k"}}),
    "a variable without a name": env(value="b"),
    "a variable with a dash": env(name="a-b"),
    "a secret without a name": spec(access={"apiKeysSecret": ""}),
    "a rate of nothing": spec(access={"rateLimit": {"rps": 0}}),
    "a toleration of everything by value": tolerating(operator="Exists", key="a", value="b"),
    "a toleration of no key": tolerating(value="b"),
    "seconds of a taint that evicts nobody": tolerating(key="a", effect="NoSchedule", tolerationSeconds=3),
}
# By a ValidatingAdmissionPolicy; where there is none, the operator tells of it.
BAD_BY_POLICY = {
    "an empty model's name": called(""),
    "a model's name with a slash": called("a/b"),
    "a model's name with a backslash": called("a\\b"),
    "a model's name with a colon": called("a:b"),
    "a model's name that is a flag": called("-x"),
    "a model's name that is a path": called(".."),
    "a model's name with a line's end": called("a\nb"),
    "a model's name with a space behind": called("a "),
    "a model's name that is too long": called("ä" * 128),
}
# What CEL cannot say, as docs/operator.md names it. The operator tells of it.
ONLY_THE_READER = {
    "a CPU finer than a thousandth": spec(resources={"cpu": "0.0001"}),
    "a fraction of a byte": spec(resources={"memory": "1.0001Ki"}),
}
GOOD = {
    "the least": spec(),
    "another name": named("iris-2"),
    "a model's name with a space": called("My Model"),
    "a model's name in another script": called("日本"),
    "a file": uri("file:///models/iris"),
    "a file beside the manifest": uri("file://./model.onnx"),
    "a volume": uri("pvc://models"),
    "a dot in a bucket": uri("gs://my.models/a..b/iris"),
    "https": uri("https://example.com/m.onnx?v=1"),
    "an image": uri("oci://ghcr.io/acme/iris:v1"),
    "an alias": uri("mlflow://models/iris@champion"),
    "a version": uri("mlflow://models/iris/3"),
    "amounts as numbers": spec(resources={"cpu": 2, "memory": 8589934592}),
    "amounts as text": spec(resources={"cpu": "500m", "memory": "1.5Gi"}),
    "large amounts": spec(resources={"cpu": "1e3", "memory": "100Ti"}),
    "a share": spec(resources={"gpu": {"share": "1/4"}}),
    "a whole GPU by shares": spec(resources={"gpu": {"share": "4/4"}}),
    "times": spec(batching={"maxDelay": "1.5ms"}, scaling={"min": 0, "scaleToZeroAfter": "1h30m"}),
    "microseconds": spec(batching={"maxDelay": "300µs"}),
    "microseconds in Greek": spec(batching={"maxDelay": "300μs"}),
    "percentages": spec(scaling={"max": 2, "cpu": "070.5%", "memory": "100%"}),
    "a canary": spec(rollout={"strategy": "canary", "mirror": "100%", "abort": {"errorRate": "0%"}}),
    "a toleration of everything": tolerating(operator="Exists"),
    "a toleration for a while": tolerating(key="a", effect="NoExecute", tolerationSeconds=30),
    "other annotations": {"metadata": {"name": "iris", "annotations": {"example.com/x": "a:b"}}, "spec": {"model": S3}},
}


def document(part):
    whole = {"apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService", "metadata": {"name": "iris"}}
    return {**whole, **part}


def asked(cluster, table):
    """What the API server says to each manifest of a table; it would store those that say nothing."""
    path = "/apis/trainyard.dev/v1alpha1/namespaces/default/modelservices?dryRun=All&fieldValidation=Strict"
    text = json.dumps([document(part) for part in table.values()])
    return dict(zip(table, json.loads(cluster.exec(sys.executable, ASK, path, stdin=text).stdout)))


def read(table, tmp_path):
    """The same of the reader."""
    path = tmp_path / "service.yaml"
    said = {}
    for what, part in table.items():
        path.write_text(json.dumps(document(part)))
        # Not of pools or nodes.
        done = run([BINARY, "render", "-f", path, "--gpu-pool", "default=1,16Gi"], check=False)
        said[what] = done.stderr if done.returncode else ""
    return said


@pytest.fixture(scope="module")
def installed(cluster, image, namespace):
    install(cluster, image)
    if HAS_POLICIES:
        # The API server compiles a policy some time after it was stored.
        cluster.until("the policy", lambda: asked(cluster, {"bad": called("a:b")})["bad"], 60)
    yield
    remove(cluster, namespace)


def test_the_reader_refuses_what_is_bad(tmp_path):
    taken = [what for what, said in read({**BAD, **BAD_BY_POLICY, **ONLY_THE_READER}, tmp_path).items() if not said]
    assert not taken, taken


def test_the_reader_takes_what_is_good(tmp_path):
    refused = {what: said for what, said in read(GOOD, tmp_path).items() if said}
    # Files, images and registries can be read, and no node has them.
    assert all("cannot be had in a cluster" in commands.unwrapped(said) for said in refused.values()), refused
    assert len(refused) == 5, refused


def test_the_api_server_refuses_what_is_bad(cluster, installed):
    bad = {**BAD, **(BAD_BY_POLICY if HAS_POLICIES else {})}
    taken = [what for what, said in asked(cluster, bad).items() if not said]
    assert not taken, taken


def test_the_api_server_takes_what_is_good(cluster, installed):
    refused = {what: said for what, said in asked(cluster, GOOD).items() if said}
    assert not refused, refused


def test_messages_say_what_to_write(cluster, installed):
    said = asked(cluster, {**BAD, **BAD_BY_POLICY})
    for what, part in {
        "a file of a host": "spec.model.uri: Invalid value: …: write an absolute path as",
        "a share of more than one": "spec.resources.gpu.share: Invalid value: …: must be above zero and at most one",
        "a memory of thousandths": "spec.resources.memory: Invalid value: …: must be a whole number of bytes",
        "no CPU, as a number": "spec.resources.cpu: Invalid value: …: must be above zero",
        "a mirror of more than all": "`mirror` must be at most 100%",
        "a model's name with a colon": "metadata.annotations[trainyard.dev/model-name]: the name must not hold a `:`",
    }.items():
        if HAS_POLICIES or what not in BAD_BY_POLICY:
            # Between the field and our text the API server names the value or its type, by its version.
            field, _, text = part.partition("…")
            assert field in said[what] and text in said[what], (what, said[what])


def test_the_operator_tells_of_the_rest(cluster, namespace, installed):
    assert set(asked(cluster, ONLY_THE_READER).values()) == {""}
    for part in ONLY_THE_READER.values():
        whole = document(part)
        whole["metadata"] = {"name": "iris", "namespace": namespace}
        cluster.apply(whole)
        stalled = cluster.until("the cause", lambda: told(cluster, namespace), 30)
        assert stalled["reason"] == "InvalidSpec" and "spec.resources." in stalled["message"], stalled
        cluster.kubectl("-n", namespace, "delete", "ms", "iris")


@pytest.mark.skipif(not HAS_POLICIES, reason="this Kubernetes has no ValidatingAdmissionPolicies")
def test_nobody_is_locked_out(cluster, namespace, installed):
    """A name that was stored before the policy came stays until somebody changes it."""
    name = f"{HOME}.modelservices.trainyard.dev"
    binding = cluster.get("validatingadmissionpolicybinding", name)
    cluster.kubectl("delete", "validatingadmissionpolicybinding", name)
    whole = document(called("a:b"))
    whole["metadata"]["namespace"] = namespace
    cluster.until("no policy", lambda: not asked(cluster, {"bad": called("a:b")})["bad"], 60)
    cluster.apply(whole)
    stalled = cluster.until("the cause", lambda: told(cluster, namespace), 30)
    assert stalled["reason"] == "InvalidSpec" and "holds a `:`" in stalled["message"], stalled
    for field in ("uid", "resourceVersion", "creationTimestamp"):
        binding["metadata"].pop(field, None)
    cluster.apply(binding)
    cluster.until("the policy", lambda: asked(cluster, {"bad": called("a:b")})["bad"], 60)
    cluster.kubectl("-n", namespace, "label", "ms", "iris", "team=vision")
    wrong = cluster.kubectl("-n", namespace, "annotate", "--overwrite", "ms", "iris", "trainyard.dev/model-name=a/b", check=False)
    assert wrong.returncode != 0 and "must not be a path" in wrong.stderr, wrong
    cluster.kubectl("-n", namespace, "annotate", "--overwrite", "ms", "iris", "trainyard.dev/model-name=a_b")
    cluster.kubectl("-n", namespace, "delete", "ms", "iris")


def told(cluster, namespace):
    seen = condition(cluster, namespace, "Stalled")
    return seen if seen and seen["status"] == "True" else None
