"""Models whose names are no names of services: clients use the name that the model has."""

import shutil

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

ROWS = [[1.5, 2.5], [3.5, 4.5]]


@pytest.fixture
def yard(yard, zoo):
    repository = yard.folder / "repository"
    (repository / "my_model" / "1").mkdir(parents=True)
    shutil.copy(zoo / "identity_fp32.onnx", repository / "my_model" / "1" / "model.onnx")
    shutil.copy(zoo / "identity_fp32.onnx", yard.folder / "My Model 2.onnx")
    said = yard.up(repository, yard.folder / "My Model 2.onnx")
    assert "/v2/models/my_model/infer" in said.stdout and "/v2/models/My%20Model%202/infer" in said.stdout
    return yard


def ask(client, module, model):
    given = module.InferInput("x", [2, 2], "FP32")
    given.set_data_from_numpy(np.array(ROWS, np.float32))
    return client.infer(model, [given]).as_numpy("y").tolist()


def test_every_protocol_knows_the_model_by_its_name(yard):
    services = {one["name"]: one["models"] for one in yard.status()["services"]}
    assert services == {"my-model": ["my_model"], "my-model-2": ["My Model 2"]}
    for model, path in [("my_model", "my_model"), ("My Model 2", "My%20Model%202")]:
        assert yard.get(f"/v2/models/{path}")[1]["name"] == model
        assert yard.get(f"/v2/models/{path}/ready")[0] == 200
        assert yard.get(f"/v1/models/{path}")[1]["model_version_status"][0]["state"] == "AVAILABLE"
        status, answer = yard.get(f"/v1/models/{path}:predict", {"instances": ROWS})
        assert (status, answer) == (200, {"predictions": ROWS})
        with tritonclient.http.InferenceServerClient(yard.address) as client:
            assert client.is_model_ready(model)
            assert ask(client, tritonclient.http, model) == ROWS
        with tritonclient.grpc.InferenceServerClient(yard.address) as client:
            assert client.is_model_ready(model)
            assert ask(client, tritonclient.grpc, model) == ROWS
            assert client.get_model_metadata(model).name == model
        data = yard.folder / "rows.json"
        data.write_text(str(ROWS))
        assert "1.5" in yard.run("predict", model, "--input", data).stdout
    assert sorted(yard.get("/v2/models")[1]["models"]) == ["My Model 2", "my_model"]
    index = yard.get("/v2/repository/index", {})[1]
    assert sorted(one["name"] for one in index) == ["My Model 2", "my_model"]
    # The service keeps a name that Kubernetes could take, and commands use that.
    assert yard.get("/v2/models/my-model")[0] == 404
    assert "my_model" in yard.run("status").stdout
    assert yard.run("logs", "my-model").stdout


def test_two_services_of_one_model_are_refused(yard):
    def manifest(service, model):
        path = yard.folder / f"{service}.yaml"
        path.write_text(
            "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\n"
            f"metadata: {{name: {service}, annotations: {{trainyard.dev/model-name: '{model}'}}}}\n"
            "spec: {model: {uri: file://./repository/my_model}}\n"
        )
        return path

    one, two = manifest("one", "shared"), manifest("two", "shared")
    refused = yard.run("up", "-d", one, two, check=False)
    assert refused.returncode == 2 and "both have a model called `shared`" in refused.stderr
    refused = yard.run("up", "-d", manifest("three", "my_model"), check=False)
    assert refused.returncode == 2 and "so has the service `my-model`" in refused.stderr
    refused = yard.run("up", "-d", manifest("four", "a/b"), check=False)
    assert refused.returncode == 2 and "`a/b` is a path" in refused.stderr
