"""KServe's own inference clients, v1 and v2."""

import asyncio

import kserve
import numpy as np


def rest(protocol):
    return kserve.InferenceRESTClient(kserve.RESTConfig(protocol=protocol, timeout=30))


def test_v1(every_model):
    async def talk():
        client = rest("v1")
        assert await client.is_model_ready(every_model.url, "iris_logistic")
        body = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
        return await client.infer(every_model.url, body, model_name="iris_logistic")

    answer = asyncio.run(talk())
    assert answer["predictions"][0]["output_label"] == 0


def test_v2(every_model):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    async def talk(binary):
        client = rest("v2")
        assert await client.is_server_live(every_model.url)
        assert await client.is_server_ready(every_model.url)
        assert await client.is_model_ready(every_model.url, "identity_fp32")
        tensor = kserve.InferInput("x", [2, 3], "FP32")
        tensor.set_data_from_numpy(array, binary_data=binary)
        request = kserve.InferRequest(model_name="identity_fp32", infer_inputs=[tensor])
        return await client.infer(every_model.url, request, model_name="identity_fp32")

    for binary in (True, False):
        answer = asyncio.run(talk(binary))
        np.testing.assert_array_equal(answer.outputs[0].as_numpy(), array)


def test_grpc(every_model):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    async def talk():
        client = kserve.InferenceGRPCClient(every_model.address)
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("identity_fp32")
        tensor = kserve.InferInput("x", [2, 3], "FP32")
        tensor.set_data_from_numpy(array)
        request = kserve.InferRequest(model_name="identity_fp32", infer_inputs=[tensor])
        return await client.infer(request)

    answer = asyncio.run(talk())
    np.testing.assert_array_equal(answer.outputs[0].as_numpy(), array)
