"""What a training loses while its checkpoints are uploaded: prints what `docs/performance.md` shows.

    python tests/local/upload_cost.py [--rounds N] [--mebibytes N] [--store URI] [--busy N]

with TRAINYARD_BIN set, as root (perf looks at the scheduler). A program multiplies matrices, one thread
on the first core, and notes every step; `trainyard agent run` is with it as with each worker. By turns
nothing happens, and a new checkpoint (of which every chunk is new) comes into its folder by a rename and
goes to the store.

Steps a second also show what the machine's other processes do, which may be much more. So the loss is
told in its two parts, which they move little: the share of the core that the agent's threads took
there (the program never sleeps, so it lost just that), and how much more processor time a step took,
since caches and memory are shared. `--busy 2` has a second such program on the other core, so that
the agent has no core of its own.
"""

import argparse
import bisect
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

CHUNK = 16 << 20
SIZE = 384

WORKER = """
import json, os, signal, sys, time
os.sched_setaffinity(0, {int(sys.argv[2])})
import numpy
def leave(*_):
    with open(sys.argv[1], "w") as file:
        json.dump(steps, file)
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
a = numpy.random.default_rng(0).random((SIZE, SIZE), dtype="float32")
b, steps = a.copy(), []
while True:
    for _ in range(4):
        b = a @ b
        b /= b.max()
    steps.append((time.monotonic(), time.process_time()))
""".replace("SIZE", str(SIZE))


class Agent:
    """An agent with a program, and the folder of its checkpoints."""

    def __init__(self, root, store, core):
        self.folder, self.log, self.steps = root / "out", root / "agent.log", root / "steps.json"
        self.folder.mkdir()
        threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        command = [os.environ["TRAINYARD_BIN"], "agent", "run", "--checkpoint-path", self.folder, "--checkpoint-uri", store]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.metrics = f"127.0.0.1:{probe.getsockname()[1]}"
        command += ["--metrics", self.metrics, "--checkpoint-keep", "1", "--grace", "5s", "--", sys.executable, "-c", WORKER, self.steps, str(core)]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **threads})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def saved(self):
        """Checkpoints that are durable."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return next((float(it.split()[-1]) for it in lines if it.startswith("trainyard_training_checkpoints_saved")), 0)

    def read(self):
        """Bytes that it has read: the program itself reads none."""
        counters = dict(line.split(": ") for line in pathlib.Path(f"/proc/{self.process.pid}/io").read_text().splitlines())
        return int(counters["rchar"])

    def cpu(self):
        """Seconds of a processor that it has used."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return json.loads(self.steps.read_text())


class Switches:
    """Who ran on the first core, by perf."""

    def __init__(self, file):
        self.file = file
        command = ["perf", "record", "-q", "-e", "sched:sched_switch", "-C", "0", "-k", "CLOCK_MONOTONIC", "-o", file]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def seconds(self, threads, began, ended):
        """That these threads ran between two moments; call it once."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        text = subprocess.run(
            ["perf", "script", "-i", self.file, "--ns", "-F", "time,trace"], capture_output=True, text=True, check=True
        ).stdout
        total, since, current = 0.0, None, None
        for line in text.splitlines():
            at, _, fields = line.strip().partition(": ")
            at = float(at)
            if current in threads and since is not None:
                total += max(0.0, min(at, ended) - max(since, began))
            # `prev_comm=… prev_pid=1 … ==> next_comm=… next_pid=2 …`; names may have spaces.
            since, current = at, int(fields.rpartition("next_pid=")[2].split()[0])
        return total


def wait(holds, seconds=300):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def idle():
    """Seconds that all cores together have been idle."""
    fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def freshen(source, turn):
    """Makes every chunk a new one."""
    with open(source, "r+b") as file:
        for at in range(0, source.stat().st_size, CHUNK):
            file.seek(at)
            file.write(turn.to_bytes(8, "big"))


def within(steps, began, ended):
    """Steps a second, and processor time for each."""
    first, last = (bisect.bisect(steps, [at]) for at in (began, ended))
    inside = steps[first:last]
    count = len(inside) - 1
    return count / (inside[-1][0] - inside[0][0]), (inside[-1][1] - inside[0][1]) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--store", help="URI [default: a folder on the same disk]")
    parser.add_argument("--busy", type=int, default=1, help="programs, each on a core of its own")
    options = parser.parse_args()
    # So that it ends its programs when it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = pathlib.Path(folder)
        first = root / "first"
        first.mkdir()
        agent = stack.enter_context(Agent(first, options.store or str(root / "store"), 0))
        for core in range(1, options.busy):
            command = [sys.executable, "-c", WORKER, root / f"steps-{core}.json", str(core)]
            other = subprocess.Popen(command, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
            stack.callback(other.kill)
        source = root / "model.bin"
        with open(source, "wb") as file:
            for _ in range(options.mebibytes):
                file.write(random.randbytes(1 << 20))
        turns = []
        time.sleep(3)
        for turn in range(options.rounds + 1):
            freshen(source, turn)
            staged = root / "staged"
            staged.mkdir()
            # As after a save: what is uploaded is in memory still.
            shutil.copyfile(source, staged / "model.bin")
            (staged / "_SUCCESS").touch()
            with open(staged / "model.bin", "rb+") as file:
                os.fsync(file.fileno())
            for old in agent.folder.iterdir():
                shutil.rmtree(old)
            time.sleep(3)
            switches = Switches(root / "perf.data")
            time.sleep(1)
            saved, read, spent = agent.saved(), agent.read(), agent.cpu()
            before, idle_before = time.monotonic(), idle()
            staged.rename(agent.folder / f"step-{turn + 1}")
            # It looks every 2 s.
            wait(lambda: agent.read() > read + CHUNK)
            began, idle_began = time.monotonic(), idle()
            wait(lambda: agent.saved() > saved)
            ended = time.monotonic()
            spent, idle_ended = agent.cpu() - spent, idle()
            # Its threads stay for a while after they had work.
            threads = {int(it.name) for it in pathlib.Path(f"/proc/{agent.process.pid}/task").iterdir()}
            stolen = switches.seconds(threads, began, ended)
            print(f"{turn}: {ended - began:.1f} s, {100 * stolen / (ended - began):.2f} % of the core", file=sys.stderr, flush=True)
            time.sleep(3)
            quiet = time.monotonic()
            idle_quiet = idle()
            time.sleep(max(2.0, ended - began))
            turns.append({
                "quiet": (quiet, time.monotonic()), "uploading": (began, ended), "agent": spent, "stolen": stolen,
                "idle": ((idle() - idle_quiet) / (time.monotonic() - quiet), (idle_ended - idle_began) / (ended - began)),
            })
        steps = agent.stop()
    # The first warms up.
    rows = []
    print("| round | s | MB/s | agent, s of a processor | of it on the program's core | CPU ms a step alone | uploading | steps/s alone | uploading | cores idle |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for number, turn in enumerate(turns[1:], 1):
        (alone, cost_alone), (beside, cost_beside) = within(steps, *turn["quiet"]), within(steps, *turn["uploading"])
        took = turn["uploading"][1] - turn["uploading"][0]
        share, more = 100 * turn["stolen"] / took, 100 * (cost_beside / cost_alone - 1)
        rows.append((share, more, share + more, 100 * (1 - beside / alone)))
        rate = (options.mebibytes << 20) / 1e6 / took
        print(
            f"| {number} | {took:.1f} | {rate:.0f} | {turn['agent']:.2f} | {turn['stolen']:.3f} | {cost_alone * 1e3:.2f} "
            f"| {cost_beside * 1e3:.2f} | {alone:.1f} | {beside:.1f} | {turn['idle'][1]:.2f} |"
        )
    names = ["of the core taken by the agent", "more processor time a step", "both together", "fewer steps/s"]
    for name, found in zip(names, zip(*rows)):
        low, _, high = statistics.quantiles(found, n=4)
        print(f"{name}: median {statistics.median(found):.2f} %, quartiles {low:.2f} and {high:.2f} %")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
