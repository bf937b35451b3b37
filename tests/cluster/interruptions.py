"""Trainings on a cluster that tell all they do, and what may happen to them there.

`goodput.py` and `training_chaos.py` use it. They start the cluster, and take it down.
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import iris
import python_image
from conftest import BINARY, IMAGE, IMAGE_NAME, ROOT, XTASK, Cluster

TRAIN_IMAGE = "localhost/train-exact:test"
PROGRAM = "exact.py"
PRIME = (1 << 61) - 1
NODES = ["node-1", "node-2"]
WORKERS = 2
# Of the control plane, which pods reach.
HOME = "10.200.0.1"
NOTES = (HOME, 9100)
# Of every cloud's metadata service.
METADATA = "169.254.169.254"
BUCKET = "checkpoints"
KEYS = {
    "AWS_ENDPOINT_URL": f"http://{HOME}:9000", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "trainyard-test", "AWS_SECRET_ACCESS_KEY": "trainyard-test-secret",
}
# Without any, no client of a store opens, even if its store speaks no TLS.
CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
LISTEN = """
import select, socket, sys
notes = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
notes.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
notes.bind((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    readable, _, _ = select.select([notes, sys.stdin], [], [])
    if sys.stdin in readable:
        break
    print(notes.recv(65536).decode(), flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Work:
    """What a training has to do: `steps` of `pause` seconds each, with a checkpoint every `every`, and whenever
    the agent asks for one, if an interruption may cost `interval` seconds."""

    steps: int
    pause: float
    every: int
    bytes: int
    interval: int | None = None

    @property
    def most(self):
        """Steps that an interruption may cost."""
        return round(self.interval / self.pause) if self.interval else self.every

    def arguments(self):
        return list(map(str, (self.steps, self.pause, self.every, self.bytes)))

    def value(self, step=None):
        """Of an undisturbed training, after a step or in the end."""
        value = 1
        for done in range(self.steps if step is None else step):
            value = sum((value * (2 * rank + 3) + done) % PRIME for rank in range(WORKERS)) % PRIME
        return value


class Minio:
    """An S3 store on the control plane, with its files on the stage's disk."""

    def __init__(self, program, cluster, root):
        self.program, self.cluster, self.root, self.process = program, cluster, root, None

    def start(self):
        (self.root / BUCKET).mkdir(parents=True, exist_ok=True)
        command = [XTASK, "cluster", "--name", self.cluster.name, "exec", "--"]
        command += ["env", f"HOME={self.root}", self.program, "server", "--quiet", "--address", f"{HOME}:9000", self.root]
        secrets = {"MINIO_ROOT_USER": KEYS["AWS_ACCESS_KEY_ID"], "MINIO_ROOT_PASSWORD": KEYS["AWS_SECRET_ACCESS_KEY"]}
        self.process = subprocess.Popen(
            command, env={**os.environ, **secrets, "MINIO_UPDATE": "off"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.cluster.until("MinIO", self.answers, 60)

    def answers(self):
        probe = f"import socket; socket.create_connection(('{HOME}', 9000), timeout=1)"
        return self.cluster.xtask("exec", "--", sys.executable, "-c", probe, check=False).returncode == 0

    def kill(self):
        """Ends it at once, in whatever it does."""
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if words[0] == os.fsencode(self.program) and os.fsencode(self.root) in words:
                    os.kill(int(process.name), signal.SIGKILL)
        self.process.kill()
        self.process.wait()


class Metadata:
    """A cloud's metadata service, as the pods of one node reach it."""

    def __init__(self, cluster, node):
        self.inside = ["ip", "netns", "exec", f"ty.{cluster.name}.{node}"]
        self.address("add")
        command = [*self.inside, sys.executable, ROOT / "tests/shared/metadata.py", METADATA, "80"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)

    def address(self, what, check=True):
        subprocess.run([*self.inside, "ip", "address", what, f"{METADATA}/32", "dev", "lo"], check=check)

    def say(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        # A node that was off may not have it any more.
        self.address("delete", check=False)


class Stage:
    """A namespace with a store, Trainyard, the program's image, and somebody who hears the notes."""

    def __init__(self, namespace):
        self.cluster = Cluster(os.environ.get("TRAINYARD_TEST_CLUSTER", "tests"))
        self.namespace = namespace
        self.store = pathlib.Path(f"/tmp/{namespace}-{self.cluster.name}")
        self.heard = collections.defaultdict(list)
        self.minio = None
        self.metadata = {}

    @contextlib.contextmanager
    def prepared(self, store_bytes=1 << 30, minio=None, on_aws=False):
        cluster = self.cluster
        with contextlib.ExitStack() as stack:
            # Nodes see what is mounted when they start.
            stack.enter_context(disk(self.store, store_bytes))
            stack.callback(cluster.xtask, "down", check=False, timeout=1200)
            cluster.xtask("up", "--replace", timeout=2700)
            cluster.xtask("load", IMAGE)
            with tempfile.TemporaryDirectory() as folder:
                image = pathlib.Path(folder) / "image.tar"
                program = (ROOT / "tests/shared/training" / PROGRAM).read_bytes()
                certificates = [(CERTIFICATES, str(CERTIFICATES).lstrip("/"))] if CERTIFICATES.exists() else []
                python_image.write(image, TRAIN_IMAGE, {PROGRAM: program}, trees=certificates)
                cluster.xtask("load", str(image))
            iris.install(cluster, IMAGE_NAME, *(["--operator-arg=--profile=eks"] if on_aws else []))
            for node in NODES if on_aws else []:
                self.metadata[node] = Metadata(cluster, node)
                stack.callback(self.metadata[node].end)
            cluster.kubectl("create", "namespace", self.namespace)
            volume, claim = iris.volume(self.namespace, "store")
            volume["spec"]["hostPath"]["path"] = str(self.store)
            for spec in (volume["spec"], claim["spec"]):
                spec["accessModes"] = ["ReadWriteMany"]
            cluster.apply(volume, claim)
            stack.enter_context(self.listening())
            if minio:
                self.minio = Minio(minio, cluster, self.store / "minio")
                stack.callback(self.minio.kill)
                self.minio.start()
                metadata = {"name": "keys", "namespace": self.namespace}
                cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": KEYS})
            yield self

    @contextlib.contextmanager
    def listening(self):
        command = [XTASK, "cluster", "--name", self.cluster.name, "exec", "--", sys.executable, "-c", LISTEN]
        with subprocess.Popen(
            [*command, NOTES[0], str(NOTES[1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as listener:
            assert listener.stdout.readline() == "ready\n"

            def hear():
                for line in listener.stdout:
                    note = json.loads(line)
                    self.heard[note["job"]].append(note)

            thread = threading.Thread(target=hear, daemon=True)
            thread.start()
            try:
                yield
            finally:
                listener.stdin.close()

    def notes(self, job, what):
        return [note for note in list(self.heard[job]) if note["what"] == what]

    def reached(self, job):
        return max((note["step"] for note in self.notes(job, "step")), default=0)

    def folder(self, name, is_bucket=False):
        """Where a job's store is on the stage's disk."""
        return self.store / "minio" / BUCKET / name if is_bucket else self.store / name

    def checkpoints(self, *words):
        """`trainyard checkpoints`, which can ask MinIO."""
        command = [XTASK, "cluster", "--name", self.cluster.name, "exec", "--", BINARY, "checkpoints", *words]
        return subprocess.run(command, env={**os.environ, **KEYS}, capture_output=True, text=True, check=False)

    def job(self, name, work, is_bucket=False):
        """A TrainingJob with its checkpoints in the store: a volume, or MinIO's bucket."""
        store = {"uri": f"pvc://store/{name}"}
        if is_bucket:
            store = {"uri": f"s3://{BUCKET}/{name}", "credentialsSecret": "keys"}
        if work.interval:
            store["interval"] = f"{work.interval}s"
        return {
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "framework": "generic", "image": TRAIN_IMAGE, "command": ["python3", PROGRAM], "args": work.arguments(),
                "workers": {"count": WORKERS}, "resources": {"cpu": "50m", "memory": "128Mi"}, "retries": 100,
                "env": [{"name": "NOTES", "value": "%s:%s" % NOTES}, {"name": "JOB", "value": name}],
                "checkpoint": {"path": "checkpoints", "grace": "10s", **store},
                "placement": {"spread": "nodes"},
            },
        }

    def statuses(self):
        """Of all TrainingJobs, by name."""
        items = self.cluster.get("-n", self.namespace, "trainingjobs")["items"]
        return {item["metadata"]["name"]: item.get("status", {}) for item in items}

    def results(self, name, label="trainyard.dev/job"):
        """What workers said to be the result. A note is lost where a node is cut off; what was printed is not."""
        told = [note["value"] for note in self.notes(name, "over")]
        if not told:
            logs = self.cluster.kubectl("-n", self.namespace, "logs", "-l", f"{label}={name}", "--tail=-1", check=False)
            told = [int(line.split()[1]) for line in logs.stdout.splitlines() if line.startswith("result ")]
        return set(told)

    def pods(self, name, label="trainyard.dev/job"):
        """Those that run and are not on their way out, by index."""
        pods = self.cluster.get("-n", self.namespace, "pods", "-l", f"{label}={name}")["items"]
        return {
            int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]): pod for pod in pods
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        }

    def delete(self, pod, *flags):
        command = ["-n", self.namespace, "delete", "pod", pod["metadata"]["name"], "--wait=false", *flags]
        self.cluster.kubectl(*command, check=False)

    def evict(self, pod):
        name = pod["metadata"]["name"]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.namespace}}
        at = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        self.cluster.kubectl("create", "--raw", at, "-f", "-", stdin=json.dumps(body), check=False)


@contextlib.contextmanager
def disk(folder, size):
    """A disk of its own, which may be filled and may hang."""
    subprocess.run(["umount", "-l", folder], capture_output=True, check=False)
    folder.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile() as file:
        os.truncate(file.fileno(), size)
        subprocess.run(["mkfs.ext4", "-q", "-F", file.name], check=True)
        subprocess.run(["mount", "-o", "loop", file.name, folder], check=True)
        # Owners of files in a folder of a node are not changed for a pod.
        folder.chmod(0o777)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
            # With what somebody wrote to it while there was no disk.
            shutil.rmtree(folder)


def is_program(line):
    return line.startswith(f"python3 {PROGRAM}")


def is_agent(line):
    return " agent run " in line


def is_operator(line):
    return " operator --" in line


def processes(chosen, pod):
    """Those of a pod whose command line is chosen.

    Nodes are namespaces of this machine: it sees all that runs in their pods."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            # The control group of a pod's processes has its UID in its name.
            if chosen(line) and pod["metadata"]["uid"] in (process / "cgroup").read_text():
                found.append(int(process.name))
    return found


def kill(chosen, pod):
    """Kills the processes of a pod whose command line is chosen; gives how many there were."""
    count = 0
    for process in processes(chosen, pod):
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
            count += 1
    return count
