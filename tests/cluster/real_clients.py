"""Unmodified clients against a gateway inside the cluster's network: python real_clients.py HTTP GRPC

Prints what each has got for one flower, as JSON.
"""

import json
import sys

import grpc
import numpy as np
import tensorflow as tf
import tritonclient.grpc
import tritonclient.http
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

http, rpc = sys.argv[1:]
flower = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
said = {}

for name, module, address in (("triton http", tritonclient.http, http), ("triton grpc", tritonclient.grpc, rpc)):
    client = module.InferenceServerClient(address)
    tensor = module.InferInput("input", flower.shape, "FP32")
    tensor.set_data_from_numpy(flower)
    answer = client.infer("iris", [tensor])
    output = client.get_model_metadata("iris")
    names = [it["name"] for it in output["outputs"]] if isinstance(output, dict) else [it.name for it in output.outputs]
    label = answer.as_numpy(names[0])[0]
    said[name] = label.decode() if isinstance(label, bytes) else str(label)

request = predict_pb2.PredictRequest()
request.model_spec.name = "iris"
request.inputs["input"].CopyFrom(tf.make_tensor_proto(flower))
stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(rpc))
outputs = stub.Predict(request, 30).outputs
said["tensorflow serving"] = outputs[names[0]].string_val[0].decode()
print(json.dumps(said))
