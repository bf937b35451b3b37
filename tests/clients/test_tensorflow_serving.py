"""TensorFlow Serving's REST and gRPC APIs, with its own client package."""

import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
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
