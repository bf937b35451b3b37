"""The product's image on a real cluster: it serves on every node, under the restricted standard."""

import json

import pytest

from conftest import AGNHOST, ROOT, labelled

REQUEST = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}


@pytest.fixture(scope="module")
def iris(cluster, namespace, image):
    """One model server on each node, with the example model from a ConfigMap."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    model = ROOT / "examples/iris/model.onnx"
    cluster.kubectl("-n", namespace, "create", "configmap", "iris", f"--from-file={model}")
    container = {
        "name": "server",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["serve", "--host", "0.0.0.0", "--name", "iris", "/models/iris/model.onnx"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": "http"}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "model", "mountPath": "/models/iris"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        # The user is the image's own.
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "model", "configMap": {"name": "iris"}}, {"name": "tmp", "emptyDir": {}}],
    }
    selector = {"app": "iris"}
    cluster.apply(
        labelled("DaemonSet", "apps/v1", namespace, "iris", {
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": selector}, "spec": pod},
        }),
        labelled("Service", "v1", namespace, "iris", {
            "selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        }),
    )
    return cluster.until("a server on each node", lambda: two(cluster.ready_pods(namespace, "app=iris")))


def two(pods):
    return pods if len(pods) == 2 else None


def test_it_is_ready_on_both_nodes(iris):
    assert {pod["spec"]["nodeName"] for pod in iris} == {"node-1", "node-2"}


def test_each_predicts_with_onnx_runtime(cluster, namespace, iris):
    for pod in iris:
        path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}:8080/proxy/v2"
        server = json.loads(cluster.kubectl("get", "--raw", path).stdout)
        assert "onnxruntime" in json.dumps(server).lower(), server
        body = json.dumps(REQUEST)
        answer = cluster.kubectl("create", "--raw", path + "/models/iris/infer", "-f", "-", stdin=body)
        outputs = {it["name"]: it["data"] for it in json.loads(answer.stdout)["outputs"]}
        assert ["setosa"] in outputs.values(), outputs


def test_a_name_leads_to_it_from_another_pod(cluster, namespace, iris):
    cluster.kubectl("create", "namespace", "elsewhere")
    try:
        client = {"containers": [{"name": "client", "image": AGNHOST, "imagePullPolicy": "Never", "args": ["pause"]}]}
        cluster.apply(labelled("Pod", "v1", "elsewhere", "client", client))
        cluster.until("the client", lambda: cluster.ready_pods("elsewhere", "app=client"))
        connect = ["exec", "-n", "elsewhere", "client", "--", "/agnhost", "connect", "--timeout=10s"]
        cluster.kubectl(*connect, f"iris.{namespace}.svc.cluster.local:80")
        cluster.kubectl(*connect, f"iris.{namespace}:80")
        wrong = cluster.kubectl(*connect, f"nobody.{namespace}:80", check=False)
        assert wrong.returncode != 0 and "DNS" in wrong.stdout + wrong.stderr, wrong
    finally:
        cluster.kubectl("delete", "namespace", "elsewhere", "--wait=false")
