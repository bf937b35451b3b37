"""KServe's own inference clients, v1 and v2.

They run in a process of their own: their gRPC messages have the names of tritonclient's, and one
process cannot hold both.
"""

import pathlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_client(every_model, protocol):
    script = pathlib.Path(__file__).with_name("kserve_client.py")
    command = [sys.executable, script, protocol, every_model.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
