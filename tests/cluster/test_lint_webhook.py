"""The lint rules as a webhook: `trainyard install --lint`."""

import base64
import json
import time

import pytest
import yaml

import iris as served
from conftest import workload
from iris import HOME, install

CONFIGURATION = f"{HOME}.lint.trainyard.dev"
# Certificates are replaced every 20 s, their authority every 80 s.
LIFETIME = "30s"


def pod(name="a", **metadata):
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata},
        "spec": {
            "nodeSelector": {"no": "node"},
            "containers": [{
                "name": "main", "image": "localhost/a:1",
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            }],
        },
    }


def unknown_label():
    """Whether a label is set, only the nodes tell, and whether GPUs are tainted."""
    item = pod()
    item["spec"]["nodeSelector"] = {"accelerator": "v100"}
    item["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = 1
    return item


# An error that the API server lets through.
def token_in_plain_text(name="a", **metadata):
    item = pod(name, **metadata)
    item["spec"]["containers"][0]["env"] = [{"name": "HF_TOKEN", "value": "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"}]
    return item


@pytest.fixture(scope="module")
def webhook(cluster, image):
    install(cluster, image, "--lint", "audit", f"--operator-arg=--lint-certificate-lifetime={LIFETIME}")
    for name, mode in (("lint-audit", None), ("lint-enforce", "enforce"), ("lint-off", "off")):
        cluster.kubectl("create", "namespace", name)
        if mode:
            cluster.kubectl("label", "namespace", name, f"trainyard.dev/lint={mode}")
    cluster.until("an answer", lambda: "SRV13" in create(cluster, token_in_plain_text()).stderr, 90)
    yield cluster
    served.uninstall(cluster)
    cluster.kubectl("delete", "namespace", "lint-audit", "lint-enforce", "lint-off", "--wait=false")


def create(cluster, item, namespace="lint-audit", dry_run=True):
    flags = ["--dry-run=server"] if dry_run else []
    return cluster.kubectl("create", *flags, "-n", namespace, "-f", "-", stdin=yaml.safe_dump(item), check=False)


def test_mistakes_are_warned_of(webhook):
    done = create(webhook, token_in_plain_text())
    assert done.returncode == 0 and "Warning: SRV13: spec.containers[0].env[0]" in done.stderr, done.stderr
    # Nodes' labels are known.
    done = create(webhook, unknown_label())
    assert done.returncode == 0 and "GPU07" in done.stderr and "GPU08" not in done.stderr, done.stderr


@pytest.mark.parametrize("kind", ["Deployment", "Job", "CronJob"])
def test_errors_are_refused_where_the_namespace_enforces(webhook, kind):
    done = create(webhook, workload(kind, token_in_plain_text()), "lint-enforce")
    assert done.returncode != 0, done.stdout
    assert 'admission webhook "enforce.lint.trainyard.dev" denied the request: SRV13' in done.stderr, done.stderr
    assert create(webhook, workload(kind, pod()), "lint-enforce").returncode == 0


def test_what_is_ignored_passes(webhook):
    item = token_in_plain_text(annotations={"trainyard.dev/ignore-srv13": "a test"})
    done = create(webhook, item, "lint-enforce")
    assert done.returncode == 0 and "SRV13" not in done.stderr, done.stderr


@pytest.mark.parametrize("namespace", ["lint-off", "kube-system"])
def test_others_are_left_alone(webhook, namespace):
    done = create(webhook, token_in_plain_text(), namespace)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr


def test_what_was_wrong_before_can_be_changed_and_deleted(webhook):
    item = workload("Deployment", token_in_plain_text())
    item["metadata"] = {"name": "old", "finalizers": ["trainyard.dev/test"]}
    try:
        webhook.kubectl("label", "--overwrite", "namespace", "lint-enforce", "trainyard.dev/lint=off")
        webhook.until("the label", lambda: create(webhook, item, "lint-enforce").returncode == 0, 30)
        assert create(webhook, item, "lint-enforce", dry_run=False).returncode == 0
    finally:
        webhook.kubectl("label", "--overwrite", "namespace", "lint-enforce", "trainyard.dev/lint=enforce")
    at = ("-n", "lint-enforce")
    webhook.until("it enforces", lambda: create(webhook, {**item, "metadata": {"name": "new"}}, "lint-enforce").returncode, 30)
    # Scaled, labelled; not made worse.
    assert "SRV13" in webhook.kubectl(*at, "label", "deployment", "old", "a=b").stderr
    webhook.kubectl(*at, "scale", "deployment", "old", "--replicas=2")
    worse = {"spec": {"template": {"spec": {"containers": [
        {"name": "main", "env": [{"name": "HUGGING_FACE_HUB_TOKEN", "value": "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"}]},
    ]}}}}
    done = webhook.kubectl(*at, "patch", "deployment", "old", "-p", json.dumps(worse), check=False)
    assert done.returncode != 0 and "HUGGING_FACE_HUB_TOKEN" in done.stderr, done.stderr
    assert "`HF_TOKEN`" not in done.stderr.partition("denied")[2], done.stderr
    # Its pods are made by a controller, which hears no warnings.
    webhook.until("a pod", lambda: webhook.get(*at, "pods")["items"])
    webhook.kubectl(*at, "delete", "deployment", "old", "--wait=false")
    webhook.kubectl(*at, "patch", "deployment", "old", "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
    webhook.until("it is gone", lambda: not webhook.find(*at, "deployment", "old"))


def bundle(cluster):
    hooks = cluster.get("validatingwebhookconfiguration", CONFIGURATION)["webhooks"]
    (one,) = {hook["clientConfig"]["caBundle"] for hook in hooks}
    return base64.b64decode(one).decode()


def serving(cluster):
    data = cluster.get("-n", HOME, "secret", "trainyard-lint")["data"]
    return json.loads(base64.b64decode(data["keys.json"]))["serving"]["certificate"]


def test_certificates_change_and_every_question_is_answered(webhook):
    """Through a change of the authority, and the first two certificates that the next one signs."""
    pods = {it["metadata"]["uid"] for it in webhook.get("-n", HOME, "pods")["items"]}
    first, deadline = bundle(webhook).partition("-----END")[0], time.monotonic() + 180
    certificates, changed = [serving(webhook)], None
    while changed is None or len(certificates) < changed + 2:
        assert time.monotonic() < deadline, (len(certificates), changed)
        assert "SRV13" in create(webhook, token_in_plain_text()).stderr, (len(certificates), changed)
        if (now := serving(webhook)) != certificates[-1]:
            certificates.append(now)
        if changed is None and bundle(webhook).partition("-----END")[0] != first:
            changed = len(certificates)
    assert {it["metadata"]["uid"] for it in webhook.get("-n", HOME, "pods")["items"]} == pods
    assert bundle(webhook).count("BEGIN CERTIFICATE") <= 2


def test_without_operators_everything_passes(webhook):
    deployment = ("-n", HOME, "scale", "deployment", "trainyard-operator")
    try:
        webhook.kubectl(*deployment, "--replicas=0")
        webhook.until("no operator", lambda: not webhook.get(
            "-n", HOME, "pods", "-l", "app.kubernetes.io/name=trainyard-operator")["items"])
        done = create(webhook, token_in_plain_text(), "lint-enforce")
        assert done.returncode == 0, done.stderr
    finally:
        webhook.kubectl(*deployment, "--replicas=2")


def test_an_installation_without_it_takes_it_away(webhook, image):
    told = install(webhook, image)
    assert f"validatingwebhookconfiguration.admissionregistration.k8s.io/{CONFIGURATION} deleted" in told, told
    assert not webhook.find("validatingwebhookconfiguration", CONFIGURATION)
    assert not webhook.find("-n", HOME, "secret", "trainyard-lint")
    done = create(webhook, token_in_plain_text(), "lint-enforce")
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
