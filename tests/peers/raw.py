"""Raw ONNX Runtime in process: python raw.py MODEL INPUT SHAPE SECONDS CLIENTS THREADS

Prints runs per second and the median run in microseconds, of CLIENTS threads that share one session
with THREADS threads inside an operator.
"""

import json
import sys
import threading
import time

import numpy as np
import onnxruntime

path, name, shape, seconds, clients, threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feed = {name: np.full([int(one) for one in shape.split("x")], 0.5, np.float32)}
names = [output.name for output in session.get_outputs()]
for _ in range(5):
    session.run(names, feed)
took = []
stop = time.perf_counter() + float(seconds)


def work():
    mine = []
    while (before := time.perf_counter()) < stop:
        session.run(names, feed)
        mine.append(time.perf_counter() - before)
    took.extend(mine)


start = time.perf_counter()
workers = [threading.Thread(target=work) for _ in range(int(clients))]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
elapsed = time.perf_counter() - start
print(json.dumps({"rate": len(took) / elapsed, "p50": float(np.median(took)) * 1e6}))
