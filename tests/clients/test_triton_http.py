"""tritonclient over HTTP: its defaults are the binary tensor extension, both ways."""

import json

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(repository):
    with triton.InferenceServerClient(repository.address, concurrency=8) as client:
        yield client


def inputs(sixteen, binary=True):
    made = []
    for name, array in zip(["INPUT0", "INPUT1"], sixteen):
        made.append(triton.InferInput(name, array.shape, "INT32"))
        made[-1].set_data_from_numpy(array, binary_data=binary)
    return made


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("simple") and client.is_model_ready("simple", "3")
    assert not client.is_model_ready("simple", "2")
    assert not client.is_model_ready("nosuch")
    server = client.get_server_metadata()
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(server["extensions"])
    model = client.get_model_metadata("simple")
    assert model["versions"] == ["1", "3"]
    assert model["inputs"][0] == {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]}


@pytest.mark.parametrize("binary", [True, False])
def test_infer(client, sixteen, binary):
    answer = client.infer("simple", inputs(sixteen, binary), request_id="é-7")
    assert answer.get_response()["model_version"] == "3"
    assert answer.get_response()["id"] == "é-7"
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), sum(sixteen) + 200)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT1"), sixteen[0] - sixteen[1])


def test_outputs_are_filtered_and_ordered(client, sixteen):
    wanted = [
        triton.InferRequestedOutput("OUTPUT1", binary_data=False),
        triton.InferRequestedOutput("OUTPUT0", binary_data=True),
    ]
    answer = client.infer("simple", inputs(sixteen), model_version="1", outputs=wanted)
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["OUTPUT1", "OUTPUT0"]
    assert answer.get_response()["model_version"] == "1"
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), sum(sixteen))


@pytest.mark.parametrize("way", ["gzip", "deflate"])
def test_compression_both_ways(client, sixteen, way):
    answer = client.infer(
        "simple",
        inputs(sixteen),
        request_compression_algorithm=way,
        response_compression_algorithm=way,
    )
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), sum(sixteen) + 200)


def test_async_requests_come_back_right(client):
    pending = []
    for number in range(64):
        pair = np.full((1, 16), number, np.int32), np.ones((1, 16), np.int32)
        pending.append((number, client.async_infer("simple", inputs(pair))))
    for number, one in pending:
        assert (one.get_result().as_numpy("OUTPUT0") == number + 201).all()


def test_classification(client):
    flowers = triton.InferInput("X", [2, 4], "FP32")
    flowers.set_data_from_numpy(np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3, 5.2, 2.3]], np.float32))
    wanted = [triton.InferRequestedOutput("output_probability", class_count=2)]
    best = client.infer("iris", [flowers], outputs=wanted).as_numpy("output_probability")
    assert [one.decode().split(":")[1:] for one in best.reshape(-1, 2)[:, 0]] == [
        ["0", "setosa"],
        ["2", "virginica"],
    ]


def test_errors_name_what_is_wrong(client, sixteen):
    def message(*arguments, **options):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(*arguments, **options)
        return caught.value.message()

    assert "Request for unknown model: 'nosuch'" in message("nosuch", inputs(sixteen))
    assert "2" in message("simple", inputs(sixteen), model_version="2")
    assert "INPUT1" in message("simple", inputs(sixteen)[:1])
    wide = np.zeros((1, 17), np.int32), np.zeros((1, 17), np.int32)
    said = message("simple", inputs(wide))
    assert "INPUT0" in said and "17" in said and "16" in said
    many = np.zeros((9, 16), np.int32), np.zeros((9, 16), np.int32)
    assert "8" in message("simple", inputs(many))
    floats = triton.InferInput("INPUT0", [1, 16], "FP32")
    floats.set_data_from_numpy(np.zeros((1, 16), np.float32))
    said = message("simple", [floats, inputs(sixteen)[1]])
    assert "INT32" in said and "FP32" in said


def test_statistics_count_batch_elements(client, sixteen):
    before = client.get_inference_statistics("simple", "3")["model_stats"][0]
    pair = tuple(np.repeat(array, 4, axis=0) for array in sixteen)
    client.infer("simple", inputs(pair))
    after = client.get_inference_statistics("simple", "3")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]


def test_configuration(client):
    config = client.get_model_config("simple")
    assert config["max_batch_size"] == 8
    assert config["input"][0]["data_type"] == "TYPE_INT32"
    assert config["input"][0]["dims"] == [16]
    assert "dynamic_batching" in config


def test_repository_control(client, repository, zoo):
    index = {(one["name"], one.get("version")): one for one in client.get_model_repository_index()}
    assert index["simple", "1"]["state"] == "READY"
    client.unload_model("iris")
    assert not client.is_model_ready("iris")
    states = {one["name"]: one for one in client.get_model_repository_index()}
    assert states["iris"]["state"] == "UNAVAILABLE" and states["iris"]["reason"] == "unloaded"
    client.load_model("iris")
    assert client.is_model_ready("iris")

    with pytest.raises(InferenceServerException, match="failed to load"):
        client.load_model("nosuch")


def test_load_with_files(client, zoo, sixteen):
    config = json.dumps({"backend": "onnxruntime", "max_batch_size": 0})
    content = (zoo / "simple.onnx").read_bytes()
    client.load_model("uploaded", config=config, files={"file:1/model.onnx": content})
    answer = client.infer("uploaded", inputs(sixteen))
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), sum(sixteen))
    client.unload_model("uploaded")
