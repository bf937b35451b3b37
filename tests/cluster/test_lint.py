"""`trainyard lint --cluster`: what is in a cluster, with what its nodes are known to have."""

import json
import os

import pytest
from conftest import BINARY, workload

POD = {"spec": {
    "nodeSelector": {"accelerator": "a100"},
    "containers": [{
        "name": "main", "image": "a:1",
        "env": [{"name": "HF_TOKEN", "value": "hf_abcdefghijklmnop"}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"nvidia.com/gpu": "1"}},
    }],
}}
SECRET = {
    "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
    "stringData": {"token": "never-to-be-seen"},
}


def lint(cluster, *arguments, code=1):
    done = cluster.exec(BINARY, "lint", "--cluster", "--format", "json", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "never-to-be-seen" not in done.stdout + done.stderr
    found = json.loads(done.stdout)["findings"]
    return {(it["rule"], it["object"]) for it in found}, done.stderr


@pytest.fixture(scope="module")
def deployed(cluster, namespace):
    deployment = workload("Deployment", POD)
    for item in (deployment, SECRET):
        item["metadata"]["namespace"] = namespace
        cluster.apply(item)
    cluster.until("a pod is made", lambda: cluster.get("-n", namespace, "pods")["items"])
    return cluster, namespace


def test_objects_are_checked_where_they_were_declared(deployed):
    cluster, namespace = deployed
    found, notes = lint(cluster, "-n", namespace)
    assert ("SRV13", f"Deployment/{namespace}/a") in found and notes == ""
    assert {it[1] for it in found if it[0] == "SRV13"} == {f"Deployment/{namespace}/a"}
    assert all(it[1].split("/")[1] == namespace for it in found)
    everywhere, _ = lint(cluster)
    assert found <= everywhere


def test_labels_of_nodes_are_known(deployed):
    cluster, namespace = deployed
    mistake = ("GPU07", f"Deployment/{namespace}/a")
    assert mistake in lint(cluster, "-n", namespace)[0]
    cluster.kubectl("label", "node", "node-1", "accelerator=a100")
    try:
        assert mistake not in lint(cluster, "-n", namespace)[0]
    finally:
        cluster.kubectl("label", "node", "node-1", "accelerator-")


def test_an_account_with_few_rights_gets_what_it_may_see(deployed):
    cluster, namespace = deployed
    cluster.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    cluster.kubectl("create", "role", "reader", "-n", namespace, "--verb=list", "--resource=deployments.apps")
    cluster.kubectl("create", "rolebinding", "reader", "-n", namespace, "--role=reader",
                    f"--serviceaccount={namespace}:reader")
    token = cluster.kubectl("create", "token", "reader", "-n", namespace).stdout.strip()
    # The administrator's kubeconfig with another user.
    view = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json").stdout)
    view["users"][0]["user"] = {"token": token}
    path = f"/tmp/trainyard-lint-{os.getpid()}.json"
    with open(path, "w") as file:
        json.dump(view, file)
    try:
        found, notes = lint(cluster, "-n", namespace, "--kubeconfig", path)
    finally:
        os.unlink(path)
    assert ("SRV13", f"Deployment/{namespace}/a") in found
    assert "pods of v1 cannot be listed" in notes and "secret" not in notes
