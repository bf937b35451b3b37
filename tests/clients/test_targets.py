"""Every layout that people keep models in, as the tools that make it write it."""

import json
import shutil
import subprocess
import time

import mlflow.onnx
import numpy as np
import onnx
import pytest
from mlflow.models import infer_signature

import zoo as model_zoo
from conftest import BINARY, serving

ROW = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}


def label(running, model):
    status, answer = running.json(f"/v2/models/{model}/infer", ROW)
    assert status == 200, answer
    return {output["name"]: output["data"] for output in answer["outputs"]}["output_label"]


def test_file_and_folder(zoo, tmp_path):
    folder = tmp_path / "flowers"
    folder.mkdir()
    shutil.copy(zoo / "iris_forest.onnx", folder / "model.onnx")
    with serving(tmp_path, zoo / "iris_logistic.onnx", folder) as running:
        assert label(running, "iris_logistic") == [0]
        assert label(running, "flowers") == [0]


def test_mlflow_folder(zoo, tmp_path):
    model = onnx.load(zoo / "iris_logistic.onnx")
    signature = infer_signature(np.zeros((1, 4), np.float32))
    mlflow.onnx.save_model(model, tmp_path / "flowers", signature=signature)
    with serving(tmp_path / "serve", tmp_path / "flowers") as running:
        assert label(running, "flowers") == [0]


def test_mlflow_folder_without_onnx_is_refused(tmp_path):
    folder = tmp_path / "pickle"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    refused = subprocess.run([BINARY, "serve", folder], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "onnx" in refused.stderr and "sklearn" in refused.stderr


def test_numbered_versions(zoo, tmp_path):
    base = tmp_path / "flowers"
    for version in (3, 12):
        (base / str(version)).mkdir(parents=True)
        shutil.copy(zoo / "iris_logistic.onnx", base / str(version) / "model.onnx")
    with serving(tmp_path / "serve", base) as running:
        assert label(running, "flowers") == [0]
        assert running.json("/v2/models/flowers")[1]["versions"] == ["12"]


def test_new_version_is_found(tmp_path):
    root = tmp_path / "repository"
    (root / "simple/1").mkdir(parents=True)
    model_zoo.sum_difference(root, 1, root / "simple/1")
    arguments = [root, "--model-control", "poll", "--poll-interval", "200ms"]
    with serving(tmp_path / "serve", *arguments) as running:
        # Whole before it is seen: a folder that is still being copied must not be loaded.
        hidden = tmp_path / "staged"
        hidden.mkdir()
        model_zoo.sum_difference(root, 2, hidden)
        hidden.rename(root / "simple/2")
        deadline = time.monotonic() + 30
        while running.json("/v2/models/simple")[1]["versions"] != ["2"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    "config, says",
    [
        ('backend: "python"', "python"),
        ('name: "other"', "other"),
        ("max_batch_sise: 4", "max_batch_size"),
        ("max_batch_size: 4\ninput [ {", ":2:"),
    ],
)
def test_configuration_mistakes_are_named(zoo, tmp_path, config, says):
    folder = tmp_path / "repository/iris/1"
    folder.mkdir(parents=True)
    shutil.copy(zoo / "iris_logistic.onnx", folder / "model.onnx")
    (folder.parent / "config.pbtxt").write_text(config)
    command = [BINARY, "serve", tmp_path / "repository"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert says in refused.stderr and "config.pbtxt" in refused.stderr


def test_nothing_to_serve(tmp_path):
    for target in [tmp_path, tmp_path / "nosuch.onnx"]:
        refused = subprocess.run(
            [BINARY, "serve", target], capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 2 and str(target) in refused.stderr


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_truncated_model(zoo, tmp_path, length):
    content = (zoo / "iris_forest.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[:length])
    refused = subprocess.run(
        [BINARY, "serve", tmp_path / "cut.onnx"], capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 2 and "cut.onnx" in refused.stderr


def test_curl(every_model):
    command = ["curl", "-sS", "--fail-with-body", f"{every_model.url}/v2/models/iris_named/infer"]
    done = subprocess.run(
        [*command, "-d", json.dumps(ROW)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout
    outputs = {one["name"]: one for one in json.loads(done.stdout)["outputs"]}
    names = [one for name, one in outputs.items() if one["datatype"] == "BYTES"]
    assert names[0]["data"] == ["setosa"]
