"""The main example, served by the product's own image."""

import json
import os
import pathlib
import shutil
import urllib.request

import pytest

from api import condition, until
from conftest import kubectl

IMAGE = os.environ.get("TRAINYARD_TEST_IMAGE")
EXAMPLE = pathlib.Path(__file__).parents[3] / "examples/iris/model.onnx"
# The claim's volume is the nodes' own folder, which is the host's.
FOLDER = pathlib.Path("/tmp/m")


@pytest.mark.skipif(IMAGE is None, reason="the image is not in the cluster")
def test_iris_serves_and_a_wrong_model_does_not(api, operator, services, namespace):
    FOLDER.mkdir(exist_ok=True)
    FOLDER.chmod(0o755)
    shutil.copy(EXAMPLE, FOLDER / "model.onnx")
    (FOLDER / "wrong.onnx").write_text("no model")
    spec = {"resources": {"cpu": "100m", "memory": "256Mi"}, "runtime": {"name": "onnx", "image": IMAGE}}
    services.apply(model={"uri": "pvc://model/m/model.onnx"}, **spec)
    try:
        until("a ready service", services.is_ready, 120)
    except AssertionError as error:
        raise AssertionError(condition(services.get(), "Ready")["message"]) from error
    address = kubectl("-n", namespace, "get", "pods", "-l", "trainyard.dev/service=iris", "-o", "jsonpath={.items[0].status.podIP}")
    with urllib.request.urlopen(f"http://{address}:8080/v2/models/iris", timeout=10) as answer:
        inputs = json.load(answer)["inputs"]
    tensor = {"name": inputs[0]["name"], "shape": [1, 4], "datatype": inputs[0]["datatype"], "data": [5.1, 3.5, 1.4, 0.2]}
    request = urllib.request.Request(
        f"http://{address}:8080/v2/models/iris/infer", json.dumps({"inputs": [tensor]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["outputs"]
    services.apply(model={"uri": "pvc://model/m/wrong.onnx"}, **spec)
    def told():
        service = services.get()
        seen = condition(service, "Stalled")
        return seen["reason"] == "CrashLoop" and service
    service = until("the cause", told, 60)
    print(condition(service, "Stalled")["message"])
    assert service["status"]["readyReplicas"] == 1
