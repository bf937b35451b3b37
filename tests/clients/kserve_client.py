"""What KServe's own inference clients do with the server: `kserve_client.py v1|v2|grpc ADDRESS`."""

import asyncio
import sys

import kserve
import numpy as np

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def rest(protocol):
    return kserve.InferenceRESTClient(kserve.RESTConfig(protocol=protocol, timeout=30))


def request(binary):
    tensor = kserve.InferInput("x", [2, 3], "FP32")
    tensor.set_data_from_numpy(ARRAY, binary_data=binary)
    return kserve.InferRequest(model_name="identity_fp32", infer_inputs=[tensor])


async def v1(address):
    client = rest("v1")
    url = f"http://{address}"
    assert await client.is_model_ready(url, "iris_logistic")
    body = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    answer = await client.infer(url, body, model_name="iris_logistic")
    assert answer["predictions"][0]["output_label"] == 0


async def v2(address):
    client = rest("v2")
    url = f"http://{address}"
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "identity_fp32")
    for binary in (True, False):
        answer = await client.infer(url, request(binary), model_name="identity_fp32")
        np.testing.assert_array_equal(answer.outputs[0].as_numpy(), ARRAY)


async def grpc(address):
    client = kserve.InferenceGRPCClient(address)
    assert await client.is_server_live() and await client.is_server_ready()
    assert await client.is_model_ready("identity_fp32")
    answer = await client.infer(request(binary=True))
    np.testing.assert_array_equal(answer.outputs[0].as_numpy(), ARRAY)


if __name__ == "__main__":
    asyncio.run({"v1": v1, "v2": v2, "grpc": grpc}[sys.argv[1]](sys.argv[2]))
