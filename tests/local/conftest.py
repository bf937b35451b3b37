"""Runs the real binary as a user does: `up -d`, then the other commands against its state folder."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

TESTS = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "clients"), str(TESTS / "shared")]

import zoo as model_zoo  # noqa: E402  (its folder was added above)
from custom import Custom  # noqa: E402
from running import run  # noqa: E402

BINARY = os.path.abspath(os.environ.get("TRAINYARD_BIN", "target/debug/trainyard"))
ROOT = TESTS.parent
CACHE = os.environ.get("TRAINYARD_CACHE", str(pathlib.Path.home() / ".cache/trainyard"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Up:
    """One supervisor with a state folder and a port of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state"
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"

    def run(self, *arguments, check=True, timeout=120):
        environment = {**os.environ, "TRAINYARD_STATE_DIR": str(self.state)}
        command = [BINARY, *arguments]
        return run(command, check=check, timeout=timeout, env=environment, cwd=self.folder)

    def up(self, *targets, **options):
        return self.run("up", "-d", "--port", self.port, *targets, **options)

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def get(self, path, body=None, headers=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://{self.address}{path}", data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as answer:
            return answer.code, json.loads(answer.read() or b"null")

    def until(self, holds, seconds=60):
        deadline = time.monotonic() + seconds
        while not (value := holds()):
            assert time.monotonic() < deadline, self.run("status", check=False).stdout
            time.sleep(0.1)
        return value


@pytest.fixture
def yard(tmp_path):
    yard = Up(tmp_path)
    yield yard
    yard.run("down", check=False)


@pytest.fixture
def custom(tmp_path, monkeypatch):
    """Replicas that are small Python servers; none of their processes may be left at the end."""
    monkeypatch.setenv("YARD", str(tmp_path))
    custom = Custom(tmp_path)
    yield custom
    subprocess.run(custom.command("down", "--now"), capture_output=True, timeout=90)
    left = custom.processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == [], "processes were left"


@pytest.fixture(scope="session")
def zoo():
    return model_zoo.zoo(CACHE)
