"""LitServe with an ONNX model: python lit_server.py MODEL PORT WORKERS"""

import sys

import litserve
import numpy as np
import onnxruntime


class Api(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            sys.argv[1], options, providers=["CPUExecutionProvider"]
        )
        self.name = self.session.get_inputs()[0].name

    def decode_request(self, request):
        return np.array(request["input"], np.float32)

    def predict(self, rows):
        return self.session.run(None, {self.name: rows})

    def encode_response(self, outputs):
        return {"label": outputs[0].tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(), accelerator="cpu", workers_per_device=int(sys.argv[3]), track_requests=False
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error"
    )
