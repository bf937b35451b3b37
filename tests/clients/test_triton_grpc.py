"""tritonclient over gRPC, unary and streaming, on the port that also speaks HTTP."""

import queue

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(repository):
    with triton.InferenceServerClient(repository.address) as client:
        yield client


def inputs(sixteen):
    made = []
    for name, array in zip(["INPUT0", "INPUT1"], sixteen):
        made.append(triton.InferInput(name, array.shape, "INT32"))
        made[-1].set_data_from_numpy(array)
    return made


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("simple") and client.is_model_ready("simple", "1")
    assert not client.is_model_ready("simple", "2")
    assert list(client.get_model_metadata("simple").versions) == ["1", "3"]
    assert "statistics" in client.get_server_metadata().extensions
    config = client.get_model_config("simple").config
    assert config.max_batch_size == 8 and list(config.input[0].dims) == [16]


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_infer(client, sixteen, compression):
    answer = client.infer(
        "simple", inputs(sixteen), request_id="7", compression_algorithm=compression
    )
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), sum(sixteen) + 200)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT1"), sixteen[0] - sixteen[1])
    assert answer.get_response().id == "7" and answer.get_response().model_version == "3"


def test_large_message(every_model):
    with triton.InferenceServerClient(every_model.address) as client:
        big = np.arange(6 << 20, dtype=np.float32).reshape(1, -1)
        tensor = triton.InferInput("x", big.shape, "FP32")
        tensor.set_data_from_numpy(big)
        answer = client.infer("identity_fp32", [tensor])
        np.testing.assert_array_equal(answer.as_numpy("y"), big)


def test_stream_goes_on_after_an_error(client, sixteen):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(20):
        model = "nosuch" if number == 7 else "simple"
        client.async_stream_infer(model, inputs(sixteen), request_id=str(number))
    seen, errors = set(), []
    for _ in range(20):
        result, error = answers.get(timeout=30)
        if error:
            errors.append(str(error))
        else:
            seen.add(result.get_response().id)
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sum(sixteen) + 200)
    client.stop_stream()
    assert seen == {str(number) for number in range(20)} - {"7"}
    assert len(errors) == 1 and "nosuch" in errors[0]


def test_errors_have_canonical_codes(client, sixteen):
    def code(*arguments, **options):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(*arguments, **options)
        return caught.value.status()

    assert code("nosuch", inputs(sixteen)) == "StatusCode.NOT_FOUND"
    assert code("simple", inputs(sixteen)[:1]) == "StatusCode.INVALID_ARGUMENT"
    wide = np.zeros((1, 17), np.int32), np.zeros((1, 17), np.int32)
    assert code("simple", inputs(wide)) == "StatusCode.INVALID_ARGUMENT"


def test_statistics_and_repository(client, sixteen):
    client.infer("simple", inputs(sixteen))
    stats = client.get_inference_statistics("simple").model_stats
    assert {one.version for one in stats} == {"1", "3"}
    assert any(one.inference_count > 0 for one in stats)
    index = client.get_model_repository_index().models
    assert ("simple", "READY") in {(one.name, one.state) for one in index}
    client.unload_model("iris")
    assert not client.is_model_ready("iris")
    client.load_model("iris")
    assert client.is_model_ready("iris")


def test_deadline_is_kept(every_model):
    with triton.InferenceServerClient(every_model.address) as client:
        image = triton.InferInput("image", [8, 3, 224, 224], "FP32")
        image.set_data_from_numpy(np.zeros((8, 3, 224, 224), np.float32))
        with pytest.raises(InferenceServerException) as caught:
            client.infer("resnet50", [image], client_timeout=0.02)
        assert "DEADLINE_EXCEEDED" in str(caught.value)
