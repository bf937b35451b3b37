"""The main example in the product's own image: ready, and what is said of a wrong model.

That it predicts is tried through the gateway, which alone may reach it: `../test_install.py`.
"""

import os
import pathlib
import shutil

import pytest

from api import condition, until

IMAGE = os.environ.get("TRAINYARD_TEST_IMAGE")
EXAMPLE = pathlib.Path(__file__).parents[3] / "examples/iris/model.onnx"
# The claim's volume is the nodes' own folder, which is the host's.
FOLDER = pathlib.Path("/tmp/m")


@pytest.mark.skipif(IMAGE is None, reason="the image is not in the cluster")
def test_iris_is_ready_and_a_wrong_model_is_not(api, operator, services, namespace):
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
    services.apply(model={"uri": "pvc://model/m/wrong.onnx"}, **spec)
    def told():
        service = services.get()
        seen = condition(service, "Stalled")
        return seen["reason"] == "CrashLoop" and service
    service = until("the cause", told, 60)
    print(condition(service, "Stalled")["message"])
    assert service["status"]["readyReplicas"] == 1
