"""MPI over several agents, which stand in for ssh: as in pods, each has a network and a host name of its own."""

import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest
from custom import BINARY, eventually

PROGRAM = pathlib.Path(__file__).parent.parent / "shared/training/mpi_sum.py"
# Open MPI's package for Python has it beside the interpreter.
PATH = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
SAVES = ["--checkpoint-signal", "SIGUSR1", "--grace", "20s"]

# Two hosts with a cable between them; each lives as long as its process, which waits for standard input to end.
HOSTS = """
set -e
mount -t tmpfs none /run 2>/dev/null || true
ip link set lo up
hostname worker-0
unshare --net --uts sh -c 'hostname worker-1; echo $$; exec cat' <&3 | {
    read second
    ip link add cable-0 type veth peer name cable-1 netns $second
    ip addr add 10.9.0.1/24 dev cable-0
    ip link set cable-0 up
    nsenter --target $second --net sh -c 'ip link set lo up; ip addr add 10.9.0.2/24 dev cable-1; ip link set cable-1 up'
    echo $$ $second
    cat
}
"""


@pytest.fixture
def hosts():
    """What to put before a command to have it run on each of two hosts."""
    if not all(map(shutil.which, ["ip", "unshare", "nsenter"])):
        pytest.skip("this machine has no `ip`, `unshare` or `nsenter`")
    new = ["unshare", "--net", "--uts", "--mount"] + ([] if os.getuid() == 0 else ["--user", "--map-root-user"])
    process = subprocess.Popen(
        [*new, "sh", "-c", f"exec 3<&0; {HOSTS}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )
    made = process.stdout.readline().split()
    if len(made) != 2:
        process.stdin.close()
        pytest.skip(f"no network of its own can be made here: {process.stderr.read()}")
    user = [] if os.getuid() == 0 else ["--user", "--preserve-credentials"]
    yield [["nsenter", "--target", pid, "--net", "--uts", *user, "--"] for pid in made]
    process.stdin.close()
    process.wait(timeout=10)


class Workers:
    def __init__(self, hosts, root):
        self.hosts, self.root, self.started = hosts, root, []
        (root / "token").write_text(secrets.token_hex(32))
        shutil.copy(PROGRAM, root)
        # Names of sockets are short.
        self.temporary = pathlib.Path(tempfile.mkdtemp(prefix="mpi-"))

    def start(self, index, *flags, command=("python3", "mpi_sum.py", "2", "0"), token="token", path=PATH, launcher="mpirun"):
        """An agent of two, with two ranks each."""
        workers = [{"host": f"10.9.0.{at}", "port": 29500} for at in (1, 2)]
        gang = {
            "job": "sums", "attempt": 1, "framework": "mpi", "launcher": "agent", "processes": 2, "workers": workers,
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TRAINYARD_")}
        environment |= {"TRAINYARD_GANG": json.dumps(gang), "PATH": path, "MARK": f"of-{index}", "TMPDIR": str(self.temporary)}
        log = open(self.root / f"log-{index}", "w")
        process = subprocess.Popen(
            [*self.hosts[index], BINARY, "agent", "run", "--index", str(index), "--token-file", str(self.root / token),
             "--report", str(self.root / f"report-{index}"), *flags, "--", launcher, "-n", "4", *command],
            cwd=self.root, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )
        log.close()
        self.started.append(process)
        return process

    def both(self, *flags, **options):
        return [self.start(index, *flags, **options) for index in (1, 0)][::-1]

    def log(self, index):
        return (self.root / f"log-{index}").read_text()

    def logs(self):
        return "".join(f"worker {index}:\n{self.log(index)}" for index in (0, 1) if (self.root / f"log-{index}").exists())

    def ended(self, index):
        return json.loads((self.root / f"report-{index}").read_text())["ended"]

    def codes(self, seconds=30):
        """In the order of their start."""
        try:
            return [process.wait(timeout=seconds) for process in self.started]
        except subprocess.TimeoutExpired as error:
            raise AssertionError(self.logs()) from error


@pytest.fixture
def workers(hosts, tmp_path):
    workers = Workers(hosts, tmp_path)
    yield workers
    for process in workers.started:
        if process.poll() is None:
            process.terminate()
    for process in workers.started:
        process.wait(timeout=60)
    shutil.rmtree(workers.temporary)


def test_ranks_of_two_hosts_find_each_other(workers):
    workers.both()
    assert workers.codes() == [0, 0], workers.logs()
    log = workers.log(0)
    assert "summed over 4 ranks, 10" in log
    placed = {line.split("rank ", 1)[1] for line in log.splitlines() if "is at worker" in line}
    assert placed == {
        f"{rank} of 4 is at worker {rank // 2} of 2 on worker-{rank // 2}" for rank in range(4)
    }, workers.logs()
    token = (workers.root / "token").read_text()
    assert token not in workers.logs()
    assert not list(workers.temporary.glob("trainyard-mpi-*")), "files of mpirun are left behind"


# Open MPI of the package for Python, and of Debian; MPICH.
@pytest.mark.parametrize("launcher", ["mpirun", "mpirun.openmpi", "mpiexec.hydra"])
def test_each_rank_has_what_its_own_worker_has_and_the_token_is_in_none(workers, launcher):
    if not shutil.which(launcher, path=PATH):
        pytest.skip(f"this machine has no {launcher}")
    look = "cat /proc/*/cmdline /proc/self/environ 2>/dev/null | tr '\\0' '\\n' | grep -c -f token || true"
    script = f"echo $TRAINYARD_WORKER $MARK at $(hostname) is ${{OMPI_COMM_WORLD_RANK:-$PMI_RANK}}; {look}"
    workers.both(command=("sh", "-c", script), launcher=launcher)
    assert workers.codes() == [0, 0], workers.logs()
    lines = workers.log(0).splitlines()
    assert sorted(line for line in lines if " at worker-" in line) == [
        f"{rank // 2} of-{rank // 2} at worker-{rank // 2} is {rank}" for rank in range(4)
    ], workers.logs()
    assert [line for line in lines if line.isdigit()] == ["0"] * 4, workers.logs()


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -KILL $$", 137)])
def test_a_rank_that_fails_fails_both_workers(workers, script, code):
    workers.both(command=("sh", "-c", f"test $OMPI_COMM_WORLD_RANK = 3 || exec sleep 60; {script}"))
    assert workers.codes() == [code, code], workers.logs()
    assert workers.ended(1)["message"] == f"the program ended with exit code {code}"


def test_a_launcher_that_is_not_there(workers):
    workers.both(launcher="mpirun.none")
    assert workers.codes() == [127, 127], workers.logs()
    assert "cannot start `mpirun.none`" in workers.ended(1)["message"]


@pytest.mark.parametrize("index", [0, 1])
def test_a_signal_to_one_worker_reaches_its_ranks_and_all_leave_together(workers, index):
    both = workers.both(*SAVES, command=("python3", "mpi_sum.py", "3000", "0.02"))
    eventually(lambda: "the first step is done" in workers.log(0), workers.logs)
    both[index].send_signal(signal.SIGTERM)
    assert workers.codes() == [143, 143] if index == 0 else workers.codes()[0] == 143, workers.logs()
    saved = [line for line in workers.log(0).splitlines() if "saves after step" in line]
    assert len(saved) == 4 and len({line.split()[-1] for line in saved}) == 1, workers.logs()


def test_a_program_that_hangs_shows_the_stacks_of_all_ranks(workers):
    workers.both("--progress-timeout", "3s", command=("python3", "mpi_sum.py", "3000", "1000"))
    assert workers.codes(60) == [98, 98], workers.logs()
    assert workers.log(0).count("Fatal Python error: Aborted") == 4, workers.logs()


def test_an_agent_that_is_killed_takes_the_others_with_it(workers):
    both = workers.both(command=("python3", "mpi_sum.py", "3000", "0.02"))
    eventually(lambda: "the first step is done" in workers.log(0), workers.logs)
    both[1].kill()
    assert both[0].wait(timeout=30) not in (0, 143), workers.logs()


def test_the_first_agent_that_is_killed_leaves_nobody_waiting(workers):
    both = workers.both(command=("python3", "mpi_sum.py", "3000", "0.02"))
    eventually(lambda: "the first step is done" in workers.log(0), workers.logs)
    both[0].kill()
    assert both[1].wait(timeout=30) == 1
    assert workers.ended(1)["message"] == "the first worker is gone"


def test_who_has_another_token_leads_nobody(workers):
    (workers.root / "other").write_text(secrets.token_hex(32))
    workers.start(1, "--await-workers", "5s")
    first = workers.start(0, "--await-workers", "5s", token="other")
    assert first.wait(timeout=30) == 1
    assert "the worker `10.9.0.2` cannot be led: the token is another one" in workers.log(0)
    assert workers.started[0].wait(timeout=30) == 1
    assert workers.ended(1)["message"] == "the first worker did not come in 5 s"


STRANGERS = """
import socket, time
def connect():
    return socket.create_connection(("10.9.0.2", 29500), 5)
deadline = time.monotonic() + 20
while True:
    try:
        first = connect()
        break
    except OSError:
        assert time.monotonic() < deadline
        time.sleep(0.1)
greeting = first.recv(100)
assert greeting.startswith(b"tyremot1") and len(greeting) == 40, greeting
first.sendall(bytes(32) + b"q" + (15).to_bytes(4, "big") + b'{"run":"touch"}')
answer = first.recv(1000)
assert b"the token is another one" in answer, answer
held = [connect() for _ in range(40)]
for each, nonsense in zip(held, [b"GET / HTTP/1.1" * 10, b"\\xff" * 100, bytes(32) + b"q\\xff\\xff\\xff\\xff"]):
    each.sendall(nonsense)
print("held", flush=True)
time.sleep(60)
"""


def test_strangers_get_nothing_and_hold_nobody_up(workers):
    """Many connections that say nothing, or nonsense, while a job runs."""
    workers.start(1)
    process = subprocess.Popen(
        [*workers.hosts[0], sys.executable, "-c", STRANGERS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said = process.stdout.readline()
        assert said == "held\n", said + process.stdout.read()
        workers.start(0)
        # Those who say nothing are sent away after 10 s, which the others wait for at most thrice.
        assert workers.codes(60) == [0, 0], workers.logs()
    finally:
        process.kill()
        process.wait()
    assert "summed over 4 ranks, 10" in workers.log(0)
