"""Runs the real `trainyard up` with replicas that need no model. Ports are the system's choice."""

import contextlib
import http.client
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

BINARY = os.environ.get("TRAINYARD_BIN", "target/debug/trainyard")
HERE = pathlib.Path(__file__).parent
PATIENCE = 30

MANIFEST = """\
apiVersion: trainyard.dev/v1alpha1
kind: ModelService
metadata: {{name: {name}}}
spec:
  model: {{uri: file://./model.bin}}
  runtime:
    name: custom
    command: [{python}, {server}]
    env:
{env}
  scaling: {scaling}
  {spec}
"""


def eventually(look, what=None):
    """Waits until `look()` is true, and gives what it gave."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, what() if callable(what) else (what or "in vain")
        time.sleep(0.02)


def is_alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Custom:
    """A state folder with a manifest beside it, and the commands on it."""

    def __init__(self, root):
        self.root = root
        self.state = root / "state"
        self.port = 0
        (root / "model.bin").write_bytes(b"model")

    def write(self, says="one", name="echo", scaling="{min: 1}", env=(), file="echo.yaml", more="", spec=""):
        lines = [f"      - {{name: SAYS, value: {says}}}", *(f"      - {line}" for line in env)]
        text = MANIFEST.format(
            name=name, python=sys.executable, server=HERE / "server.py",
            env="\n".join(lines), scaling=scaling, spec=spec,
        )
        path = self.root / file
        # Whole before it is seen, as editors do it.
        staged = path.with_suffix(".tmp")
        staged.write_text(text + more)
        staged.rename(path)
        return path

    def command(self, *arguments):
        first, *rest = map(str, arguments)
        return [BINARY, first, "--state-dir", str(self.state), *rest]

    def run(self, *arguments, code=0, timeout=90, env=None):
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout, cwd=self.root,
            env={**os.environ, **(env or {})},
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def up(self, *targets, code=0, env=None):
        said = self.run("up", "-d", "--port", self.port, *targets, code=code, env=env)
        self.port = int(self.status()["address"].rsplit(":", 1)[1])
        return said

    @contextlib.contextmanager
    def foreground(self, *targets):
        log = open(self.root / "up.log", "ab")
        process = subprocess.Popen(
            self.command("up", "--port", self.port, *targets),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root, start_new_session=True,
        )
        try:
            eventually(lambda: self.is_up() or process.poll() is not None, self.words)
            assert process.poll() is None, self.words()
            self.port = int(self.status()["address"].rsplit(":", 1)[1])
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            log.close()

    def words(self):
        files = [self.root / "up.log", self.state / "supervisor.log"]
        return "\n".join(file.read_text() for file in files if file.exists())

    def is_up(self):
        done = subprocess.run(self.command("status"), capture_output=True, timeout=30)
        return done.returncode == 0

    def status(self):
        return json.loads(self.run("status", "--json"))

    def service(self, name="echo"):
        found = [one for one in self.status()["services"] if one["name"] == name]
        return found[0] if found else None

    def pids(self, name="echo"):
        return [one["pid"] for one in self.service(name)["replicas"] if one["state"] == "ready"]

    def settled(self, ready, name="echo"):
        def look():
            service = self.service(name)
            done = service and service["phase"] == "Stable" and service["ready"] == ready
            return service if done and len(service["replicas"]) == ready else None

        return eventually(look, lambda: f"{self.service(name)}\n{self.run('events')}")

    def ask(self, name="echo", take="0", headers=None):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            client.request("POST", f"/v2/models/{name}/infer", b"{}", {"x-take": take, **(headers or {})})
            answer = client.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if answer.status == 200 else body
        finally:
            client.close()

    def says(self, name="echo"):
        status, answer = self.ask(name)
        assert status == 200, answer
        return answer["says"]

    def events(self):
        return [json.loads(line) for line in self.run("events", "--json", "--limit", "1000").splitlines()]

    def happened(self, reason):
        return [one for one in self.events() if one["reason"] == reason]

    def processes(self):
        """Every process that was started as a replica of this state folder, or by one."""
        found = []
        for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                variables = environ.read_bytes().split(b"\0")
                of_yard = f"YARD={self.root}".encode() in variables
                pid = int(environ.parent.name)
                if of_yard and any(v.startswith(b"TRAINYARD_RUN=") for v in variables) and is_alive(pid):
                    found.append(pid)
        return found

    @contextlib.contextmanager
    def load(self, clients=8, pause=0.002):
        """Keeps clients busy over connections that stay open; gives their failures at the end."""
        stop, failures, answers = threading.Event(), [], []

        def drive():
            client = None
            while not stop.is_set():
                try:
                    if client is None:
                        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
                    client.request("POST", "/v2/models/echo/infer", b"{}")
                    answer = client.getresponse()
                    body = answer.read()
                    if answer.status == 200:
                        answers.append(json.loads(body))
                    else:
                        failures.append((answer.status, body))
                    if answer.will_close:
                        client.close()
                        client = None
                except Exception as error:
                    failures.append(repr(error))
                    client.close()
                    client = None
                time.sleep(pause)
            if client is not None:
                client.close()

        threads = [threading.Thread(target=drive) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert answers, "no request was answered"
        assert failures == [], f"{len(failures)} of {len(answers)}: {failures[:5]}\n{self.run('events')}"
