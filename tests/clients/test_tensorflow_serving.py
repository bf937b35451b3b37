"""TensorFlow Serving's REST and gRPC APIs, with its own client package."""

import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)


@pytest.fixture
def channel(repository):
    with grpc.insecure_channel(repository.address) as channel:
        yield channel


def predict(channel, model, inputs, version=None, output_filter=()):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    request.output_filter.extend(output_filter)
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, 30)


def test_grpc_predict(channel, sixteen):
    answer = predict(channel, "simple", {"INPUT0": sixteen[0], "INPUT1": sixteen[1]})
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["OUTPUT0"]), sum(sixteen) + 200)
    assert answer.model_spec.version.value == 3


def test_grpc_constant_tensors_are_spread(channel):
    # make_tensor_proto writes a constant array as one value.
    constant = tf.constant(5, tf.int32, [1, 16])
    request = {"INPUT0": constant, "INPUT1": constant}
    answer = predict(channel, "simple", request, version=1, output_filter=["OUTPUT0"])
    assert list(answer.outputs) == ["OUTPUT0"]
    assert (tf.make_ndarray(answer.outputs["OUTPUT0"]) == 10).all()


def test_grpc_strings(every_model):
    with grpc.insecure_channel(every_model.address) as channel:
        answer = predict(channel, "identity_bytes", {"x": [["a", "ü"]]})
        assert tf.make_ndarray(answer.outputs["y"]).tolist() == [[b"a", "ü".encode()]]


def test_grpc_status_and_metadata(channel):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "simple"
    status = stub.GetModelStatus(request, 10)
    available = [one.version for one in status.model_version_status if one.state == 30]
    assert sorted(available) == [1, 3]
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "simple"
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    answer = stub.GetModelMetadata(request, 10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    inputs = signatures.signature_def["serving_default"].inputs
    assert inputs["INPUT0"].dtype == tf.int32.as_datatype_enum
    assert [one.size for one in inputs["INPUT0"].tensor_shape.dim] == [-1, 16]


def test_grpc_errors(channel, sixteen):
    with pytest.raises(grpc.RpcError) as caught:
        predict(channel, "half", {"x": sixteen[0]})
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert "Servable not found for request: Latest(half)" in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        predict(channel, "simple", {"INPUT0": sixteen[0]})
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "INPUT1" in caught.value.details()


def test_rest_rows_and_columns(repository, sixteen):
    row = {"INPUT0": sixteen[0][0].tolist(), "INPUT1": sixteen[1][0].tolist()}
    status, rows = repository.json("/v1/models/simple:predict", {"instances": [row, row]})
    assert status == 200
    assert rows["predictions"][1]["OUTPUT0"] == (sum(sixteen)[0] + 200).tolist()
    body = {"inputs": {name: [values] for name, values in row.items()}}
    status, columns = repository.json("/v1/models/simple/versions/1:predict", body)
    assert status == 200 and columns["outputs"]["OUTPUT1"] == [
        (sixteen[0] - sixteen[1])[0].tolist()
    ]


def test_rest_status_and_metadata(repository):
    _, status = repository.json("/v1/models/simple")
    states = {one["version"]: one["state"] for one in status["model_version_status"]}
    assert states["1"] == "AVAILABLE" and states["3"] == "AVAILABLE"
    _, metadata = repository.json("/v1/models/simple/metadata")
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["INPUT0"]["dtype"] == "DT_INT32"
    assert metadata["model_spec"]["version"] == "3"


def test_rest_floats_and_not_a_number(every_model):
    body = b'{"instances": [[1, 2.5, NaN, Infinity, -Infinity]]}'
    status, _, text = every_model.request("/v1/models/identity_fp32:predict", body)
    assert status == 200
    assert b"NaN" in text and b"-Infinity" in text and b"1.0" in text
    back = json.loads(text)["predictions"][0]
    assert back[:2] == [1.0, 2.5] and back[3] == float("inf")


def test_rest_errors(repository, every_model):
    status, error = repository.json("/v1/models/half:predict", {"instances": [1]})
    assert status == 404 and "Servable not found for request: Latest(half)" in error["error"]
    status, error = repository.json("/v1/nothing")
    assert status == 400 and "Malformed request" in error["error"]
    status, error = every_model.json("/v1/models/identity_int32:predict", {"instances": [[1.5]]})
    assert status == 400 and "1.5" in error["error"]


ARRAYS = {
    "bool": np.array([[True, False, True]]),
    "uint8": np.array([[0, 255]], np.uint8),
    "uint16": np.array([[0, 65535]], np.uint16),
    "uint32": np.array([[0, 2**32 - 1]], np.uint32),
    "uint64": np.array([[0, 2**64 - 1]], np.uint64),
    "int8": np.array([[-128, 127]], np.int8),
    "int16": np.array([[-32768, 32767]], np.int16),
    "int32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "int64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "fp16": np.array([[0.5, np.inf, -2]], np.float16),
    "bf16": np.array([[0.5, -2]], tf.bfloat16.as_numpy_dtype),
    "fp32": np.array([[0.1, np.nan, -np.inf]], np.float32),
    "fp64": np.array([[0.1, 1e300]], np.float64),
    "bytes": np.array([[b"\xff\x00", b"", "ü".encode()]], object),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_grpc_every_type(every_model, name):
    array = ARRAYS[name]
    with grpc.insecure_channel(every_model.address) as channel:
        for sent in (array, np.repeat(array[:, :1], 5, axis=1), array[:0]):
            answer = predict(channel, f"identity_{name}", {"x": sent})
            back = tf.make_ndarray(answer.outputs["y"])
            assert back.dtype == sent.dtype
            np.testing.assert_array_equal(back, sent)


@pytest.mark.parametrize("name", sorted(set(ARRAYS) - {"bytes", "bf16"}))
def test_rest_every_type(every_model, name):
    rows = ARRAYS[name].tolist()
    path = f"/v1/models/identity_{name}:predict"
    for form, answered in [("instances", "predictions"), ("inputs", "outputs")]:
        status, answer = every_model.json(path, {form: rows})
        assert status == 200, answer
        back = np.array(answer[answered], ARRAYS[name].dtype)
        np.testing.assert_array_equal(back, ARRAYS[name])


def test_rest_base64(every_model):
    body = {"instances": [["plain", {"b64": "aGk="}], [{"b64": "/w=="}, ""]]}
    _, answer = every_model.json("/v1/models/identity_bytes:predict", body)
    # Not text as a whole, so all of it is in base64.
    assert answer["predictions"][1] == [{"b64": "/w=="}, {"b64": ""}]
    _, answer = every_model.json("/v1/models/identity_bytes:predict", {"instances": [["é"]]})
    assert answer["predictions"] == [["é"]]


FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


def examples(input, rows):
    for row in rows:
        example = input.example_list.examples.add()
        example.features.feature["X"].float_list.value.extend(row)


def test_classify(every_model):
    body = {"examples": [{"X": row} for row in FLOWERS]}
    status, answer = every_model.json("/v1/models/iris_logistic:classify", body)
    assert status == 200, answer
    best = [max(row, key=lambda pair: pair[1])[0] for row in answer["results"]]
    assert best == ["0", "2"]
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "iris_logistic"
    examples(request.input, FLOWERS)
    with grpc.insecure_channel(every_model.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        rows = stub.Classify(request, 30).result.classifications
    found = [[(one.label, pytest.approx(one.score)) for one in row.classes] for row in rows]
    assert found == [[tuple(pair) for pair in row] for row in answer["results"]]


def test_regress_and_several_at_once(every_model):
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "identity_fp32"
    for value in (0.5, -2):
        example = request.input.example_list_with_context.examples.add()
        if value > 0:
            example.features.feature["x"].float_list.value.append(value)
    request.input.example_list_with_context.context.features.feature["x"].int64_list.value[:] = [-2]
    with grpc.insecure_channel(every_model.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        values = [one.value for one in stub.Regress(request, 30).result.regressions]
        assert values == [0.5, -2]
        both = inference_pb2.MultiInferenceRequest()
        for method in ("classify", "regress"):
            task = both.tasks.add(method_name=f"tensorflow/serving/{method}")
            task.model_spec.name = "identity_fp32"
        both.input.CopyFrom(request.input)
        first, second = stub.MultiInference(both, 30).results
        assert first.classification_result.classifications[0].classes[0].score == 0.5
        assert second.regression_result.regressions[1].value == -2
    body = {"context": {"x": -2}, "examples": [{"x": 0.5}, {}]}
    status, answer = every_model.json("/v1/models/identity_fp32:regress", body)
    assert status == 200 and answer["results"] == [0.5, -2]


def test_reload_follows_the_repository(repository):
    request = model_management_pb2.ReloadConfigRequest()
    for name in ("simple", "iris"):
        config = request.config.model_config_list.config.add()
        config.name, config.base_path = name, f"/models/{name}"
    with grpc.insecure_channel(repository.address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        assert stub.HandleReloadConfigRequest(request, 30).status.error_code == 0
        request.config.model_config_list.config[0].base_path = "/models/other"
        with pytest.raises(grpc.RpcError) as caught:
            stub.HandleReloadConfigRequest(request, 30)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "--model-control" in caught.value.details()
