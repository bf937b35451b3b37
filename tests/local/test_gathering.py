"""Workers that wait for each other's names, from a name server that keeps in mind what it has answered."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from custom import BINARY, eventually

# A network and resolver settings of its own, with the name server.
ALONE = """
set -e
ip link set lo up
mount --bind resolv.conf /etc/resolv.conf
exec "$0" names.py
"""
# Knows the names in a file, and says for ever what it has said once of a name and a type. Worker N has the
# address 127.0.0.N+1.
NAMES = """
import socket

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("started", flush=True)
said = {}
while True:
    packet, asker = server.recvfrom(512)
    question = packet[12:packet.index(0, 12) + 5]
    labels, rest = [], question
    while rest[0]:
        labels.append(rest[1:rest[0] + 1].decode())
        rest = rest[rest[0] + 1:]
    is_known = said.setdefault(question, ".".join(labels) in open("known").read().split())
    has_address = is_known and rest[1:3] == bytes([0, 1])
    address = bytes([192, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, int(labels[0][-1]) + 1]) if has_address else b""
    head = packet[:2] + bytes([0x81, 0x80 if is_known else 0x83, 0, 1, 0, int(has_address), 0, 0, 0, 0])
    server.sendto(head + question + address, asker)
"""
# Says of the second worker what is in a file.
SECOND = """
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        text = open("stage", "rb").read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.2", 9095), Answer).serve_forever()
"""
WORKERS = [f"line-1-{index}.line" for index in range(2)]


class Line:
    """Two workers in a network of their own."""

    def __init__(self, root, new):
        self.root, self.started = root, []
        (root / "resolv.conf").write_text("search team.svc other\nnameserver 127.0.0.1\noptions ndots:5\n")
        (root / "names.py").write_text(NAMES)
        self.server = self.popen([*new, "sh", "-c", ALONE, sys.executable])
        assert self.server.stdout.readline() == "started\n"
        user = [] if os.getuid() == 0 else ["--user", "--preserve-credentials"]
        self.enter = ["nsenter", "--target", str(self.server.pid), "--net", "--mount", f"--wd={root}", *user, "--"]

    def popen(self, command, **environment):
        known = {key: value for key, value in os.environ.items() if not key.startswith("TRAINYARD_")}
        process = subprocess.Popen(
            command, cwd=self.root, text=True, env=known | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.started.append(process)
        return process

    def known(self, *workers):
        (self.root / "known").write_text(" ".join(f"{WORKERS[index]}.team.svc" for index in workers))

    def worker(self, index, *command):
        gang = {
            "job": "line", "attempt": 1, "framework": "generic", "launcher": "agent", "processes": 1,
            "workers": [{"host": host, "port": 29500} for host in WORKERS],
        }
        flags = ["--index", str(index), "--await-workers", "60s", "--metrics", f"127.0.0.{index + 1}:9095"]
        command = [BINARY, "agent", "run", *flags, "--", *command]
        return self.popen([*self.enter, *command], TRAINYARD_GANG=json.dumps(gang))

    def close(self):
        for process in reversed(self.started):
            process.kill()
            process.wait(timeout=10)
            process.stdout.close()


@pytest.fixture
def line(tmp_path):
    if not all(map(shutil.which, ["ip", "unshare", "nsenter"])):
        pytest.skip("this machine has no `ip`, `unshare` or `nsenter`")
    new = ["unshare", "--net", "--mount"] + ([] if os.getuid() == 0 else ["--user", "--map-root-user"])
    if subprocess.run([*new, "true"], capture_output=True).returncode:
        pytest.skip("no network of its own can be made here")
    line = Line(tmp_path, new)
    yield line
    line.close()


def test_the_program_starts_when_all_are_ready_and_who_has_finished_stays_until_all_have_seen_it(line, tmp_path):
    line.known(0)
    process = line.worker(0, "sh", "-c", "echo runs")
    waits = f"trainyard: waits for the worker {WORKERS[1]}, "
    assert process.stdout.readline() == f"{waits}which has no name in the network yet\n"
    # It has been asked for too early: the name server will not say anything else of what it was asked.
    line.known(0, 1)
    assert process.stdout.readline() == f"{waits}whose agent does not say how far it is\n"
    stage = tmp_path / "stage"
    stage.write_text("preparing\n")
    line.popen([*line.enter, sys.executable, "-c", SECOND])
    assert process.stdout.readline() == f"{waits}which restores or fetches what it needs\n"
    stage.write_text("ready\n")
    assert process.stdout.readline() == "runs\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1.5)
    stage.write_text("started\n")
    assert process.wait(timeout=10) == 0


def test_who_is_told_to_end_does_not_stay(line, tmp_path):
    line.known(0, 1)
    (tmp_path / "stage").write_text("ready\n")
    line.popen([*line.enter, sys.executable, "-c", SECOND])
    process = line.worker(0, "sh", "-c", "echo runs")
    eventually(lambda: "runs" in process.stdout.readline())
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0


def test_programs_that_end_at_once_keep_nobody_waiting(line):
    line.known(0, 1)
    first, second = [line.worker(index, "true") for index in range(2)]
    assert (first.wait(timeout=20), second.wait(timeout=20)) == (0, 0)
