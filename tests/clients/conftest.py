"""Starts the real server for the suites. Everything listens on loopback, on ports the system picks."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

import zoo as model_zoo

BINARY = os.environ.get("TRAINYARD_BIN", "target/debug/trainyard")
CACHE = os.environ.get("TRAINYARD_CACHE", str(pathlib.Path.home() / ".cache/trainyard"))


class Running:
    """One server process and where it listens."""

    def __init__(self, process, address, log):
        self.process, self.address, self.log = process, address, log

    @property
    def url(self):
        return f"http://{self.address}"

    def request(self, path, body=None, headers=None, method=None):
        """Status, headers and body of one plain HTTP request."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, body, headers or {}, method=method or ("POST" if body else "GET")
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read()

    def is_ready(self):
        try:
            return self.request("/v2/health/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False  # It has ended, or is about to, perhaps in the middle of an answer.

    def json(self, path, body=None, headers=None, method=None):
        status, _, text = self.request(path, body, headers, method)
        return status, json.loads(text)


@contextlib.contextmanager
def serving(folder, *arguments):
    """Runs `trainyard serve ARGUMENTS` until the block ends, then checks that it drains and exits with 0."""
    folder.mkdir(parents=True, exist_ok=True)
    address = folder / f"address-{time.monotonic_ns()}.json"
    log = open(folder / "serve.log", "ab")
    process = subprocess.Popen(
        [BINARY, "serve", "--port", "0", "--address-file", address, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        deadline = time.monotonic() + 120
        while not address.exists():
            has_ended = process.poll() is not None
            said = (folder / "serve.log").read_text()
            assert not has_ended, f"the server ended: {said}"
            assert time.monotonic() < deadline, f"the server does not listen: {said}"
            time.sleep(0.01)
        running = Running(process, json.loads(address.read_text())["address"], folder / "serve.log")
        while not running.is_ready():
            has_ended = process.poll() is not None
            said = running.log.read_text()
            assert not has_ended, f"the server ended: {said}"
            assert time.monotonic() < deadline, f"the server is not ready: {said}"
            time.sleep(0.02)
        yield running
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, running.log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


@pytest.fixture(scope="session")
def zoo():
    return model_zoo.zoo(CACHE)


@pytest.fixture(scope="session")
def every_model(zoo, tmp_path_factory):
    """All models of the zoo on one server, each named after its file."""
    with serving(tmp_path_factory.mktemp("serve"), *sorted(zoo.glob("*.onnx"))) as running:
        yield running


@pytest.fixture(scope="session")
def repository(zoo, tmp_path_factory):
    """A model repository in Triton's layout, on a server with explicit model control."""
    root = tmp_path_factory.mktemp("repository")
    for version, offset in [(1, 0), (2, 100), (3, 200)]:
        folder = root / "simple" / str(version)
        folder.mkdir(parents=True)
        model_zoo.sum_difference(root, offset, folder)
    (root / "simple/config.pbtxt").write_text(
        """
        name: "simple"
        platform: "onnxruntime_onnx"
        max_batch_size: 8
        version_policy: { specific { versions: [1, 3] } }
        dynamic_batching { max_queue_delay_microseconds: 200 }
        input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
                { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] } ]
        output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
                 { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] } ]
        """
    )
    (root / "iris/1").mkdir(parents=True)
    shutil.copy(zoo / "iris_logistic.onnx", root / "iris/1/model.onnx")
    (root / "iris/labels.txt").write_text("setosa\nversicolor\nvirginica\n")
    (root / "iris/config.pbtxt").write_text(
        """
        backend: "onnxruntime"
        output [ { name: "output_probability" data_type: TYPE_FP32 dims: [ -1, 3 ]
                   label_filename: "labels.txt" } ]
        """
    )
    with serving(tmp_path_factory.mktemp("serve"), root, "--model-control", "explicit") as running:
        running.root = root
        for model in ["simple", "iris"]:
            assert running.request(f"/v2/repository/models/{model}/load", b"{}")[0] == 200
        yield running


@pytest.fixture
def sixteen():
    return np.arange(16, dtype=np.int32).reshape(1, 16), np.ones((1, 16), np.int32)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
