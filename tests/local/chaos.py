"""Training jobs whose parts are killed at random moments, with a store that does not always answer.

    python tests/local/chaos.py --runs 100 --minio PROGRAM

`cargo xtask eval training` calls it with all it needs. Every run must finish with the very result of an
undisturbed one. What each kind of disturbance cost is told at the end, with the goodput: the time that
the steps alone take, over the time that the run took.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from custom import BINARY, is_alive
from test_jobs import Jobs

HERE = pathlib.Path(__file__).parent
PACKAGE = HERE.parents[1] / "python/src"
STEPS, PAUSE, EVERY, BYTES = 300, 0.02, 20, 4 << 20
DISK = 64 << 20
PATIENCE = 240
PRIME = (1 << 61) - 1
KINDS = ["program", "agent", "supervisor", "node", "notice", "store away", "store hangs", "disk full", "torn upload"]


def undisturbed(workers):
    value = 1
    for step in range(STEPS):
        value = sum((value * (2 * rank + 3) + step) % PRIME for rank in range(workers)) % PRIME
    return value


class Minio:
    """A store of one run's own."""

    def __init__(self, program, root):
        self.program, self.root = program, root
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.process = None
        (root / "data/bucket").mkdir(parents=True)

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "server", "--quiet", "--address", f"127.0.0.1:{self.port}", self.root / "data"],
            env={"MINIO_ROOT_USER": "chaos", "MINIO_ROOT_PASSWORD": "chaos-secret", "HOME": str(self.root), "PATH": ""},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait("the store", self.answers)

    def answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def stop(self):
        self.process.kill()
        self.process.wait()

    def variables(self):
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos-secret",
        }


def wait(what, holds, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return found


@dataclasses.dataclass
class Told:
    """What came of one run."""

    seed: int
    took: float
    # Steps that were done again, for each disturbance that made the gang start anew, by its kind.
    lost: list


class Run:
    def __init__(self, seed, minio, root):
        self.seed, self.root = seed, root
        self.chance = random.Random(seed)
        self.jobs = Jobs(root)
        self.minio = Minio(minio, root / "minio")
        self.jobs.environment.update(self.minio.variables(), PYTHONPATH=str(PACKAGE))
        self.out = root / "out"
        self.workers = self.chance.choice([2, 3])
        self.mounted = False

    @contextlib.contextmanager
    def prepared(self):
        shutil.copy(HERE / "chaos_train.py", self.root)
        self.out.mkdir()
        # A disk of its own, that may be filled.
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", self.out], check=True)
        self.minio.start()
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                os.kill(self.minio.process.pid, signal.SIGCONT)
            with contextlib.suppress(Exception):
                self.jobs.run("down", "--now", code=None)
            for pid in self.jobs.programs():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.minio.stop()
            subprocess.run(["umount", "-l", self.out], check=False)

    def reached(self):
        with contextlib.suppress(OSError, ValueError):
            return int((self.root / "reached").read_text())
        return 0

    def starts(self):
        """When the program started, and at which step."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.root / "starts").read_text().splitlines()
            return [(float(at), int(step)) for at, step in (line.split() for line in lines)]
        return []

    def job(self):
        with contextlib.suppress(Exception):
            return self.jobs.job()

    def is_over(self):
        return (self.job() or {}).get("isOver")

    def up(self):
        wait("a supervisor", lambda: self.jobs.run("up", "-d", "line.yaml", code=None) and self.job())

    def durable(self):
        return ((self.job() or {}).get("saved") or {}).get("step") or 0

    def kill(self, pids, by=signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, by)

    def disturb(self, kind):
        """Gives whether the gang had to start anew, and from which step at least."""
        chance = self.chance
        if kind == "program":
            self.kill(chance.sample(self.jobs.programs(), 1) if self.jobs.programs() else [])
        elif kind == "agent":
            self.kill([chance.choice(self.jobs.pids() or [0])] if self.jobs.pids() else [])
        elif kind == "notice":
            self.kill([chance.choice(self.jobs.pids())] if self.jobs.pids() else [], signal.SIGTERM)
        elif kind == "supervisor":
            self.kill([self.jobs.supervisor()])
            wait("the end of the supervisor", lambda: self.job() is None)
            self.up()
        elif kind == "node":
            # The machine with all on it, and its disk.
            durable, agents, programs = self.durable(), self.jobs.pids(), self.jobs.programs()
            self.kill([self.jobs.supervisor(), *agents, *programs])
            wait("the end of all", lambda: not any(map(is_alive, [*agents, *programs])) and not self.job())
            for entry in self.out.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            self.up()
            return durable
        elif kind == "store away":
            self.minio.stop()
            time.sleep(chance.uniform(0.2, 3))
            self.minio.start()
        elif kind == "store hangs":
            os.kill(self.minio.process.pid, signal.SIGSTOP)
            time.sleep(chance.uniform(0.2, 3))
            os.kill(self.minio.process.pid, signal.SIGCONT)
        elif kind == "disk full":
            with contextlib.suppress(OSError), open(self.out / "filler", "wb") as file:
                while True:
                    file.write(b"x" * (1 << 20))
            time.sleep(chance.uniform(0.5, 2))
            (self.out / "filler").unlink()
        elif kind == "torn upload":
            before = {entry.name for entry in self.out.glob("step-*")}
            wait("a checkpoint", lambda: self.is_over() or {it.name for it in self.out.glob("step-*")} - before)
            time.sleep(chance.uniform(0, 0.05))
            first = next((it["pid"] for it in (self.job() or {"workers": []})["workers"] if it["pid"]), None)
            self.kill([first] if first else [])
        return None

    def whole(self):
        command = [sys.executable, "chaos_train.py", *map(str, (STEPS, PAUSE, EVERY, BYTES))]
        checkpoint = f"  checkpoint: {{path: out, uri: 's3://bucket/line', keep: 3, grace: 20s}}"
        self.jobs.write(command, workers=self.workers, retries=100, more=checkpoint)
        begun, lost = time.monotonic(), []
        self.jobs.run("up", "-d", "line.yaml")
        wait("the first step", self.reached)
        for _ in range(self.chance.randrange(2, 5)):
            time.sleep(self.chance.uniform(0.1, 2.5))
            if self.is_over():
                break
            kind = self.chance.choice(KINDS)
            starts, highest = len(self.starts()), self.reached()
            durable = self.disturb(kind)
            target = highest + self.chance.randrange(1, 40)
            wait(f"progress after {kind}", lambda: self.is_over() or len(self.starts()) > starts or self.reached() >= target)
            if len(self.starts()) > starts:
                resumed = self.starts()[starts][1]
                # What it had reached in the end, which the kill's moment may have let grow.
                lost.append((kind, max(0, highest - resumed)))
                if durable is not None and resumed < durable:
                    raise AssertionError(f"step {durable} was told to be durable, and it went on from {resumed}")
        wait("the end", self.is_over)
        took = time.monotonic() - begun
        self.judge()
        return Told(self.seed, took, lost)

    def judge(self):
        job = self.job()
        logs = "\n".join(path.read_text(errors="replace") for path in self.root.glob("state/**/*.log"))
        if job["phase"] != "Succeeded":
            raise AssertionError(f"it ended as {job['phase']}: {job.get('lastError')}")
        for word in ("WRONG", "TWICE"):
            if word in logs:
                raise AssertionError(next(line for line in logs.splitlines() if word in line))
        expected = {"step": STEPS, "value": undisturbed(self.workers)}
        if f"result {self.workers} {expected['value']}" not in logs:
            raise AssertionError("the result is another than that of an undisturbed run")
        self.jobs.run("checkpoints", "verify", "s3://bucket/line")
        self.jobs.run("checkpoints", "pull", "s3://bucket/line", "--to", "pulled")
        found = json.loads(next((self.root / "pulled").rglob("state.json")).read_text())
        if found != expected:
            raise AssertionError(f"the store's newest checkpoint has {found} in place of {expected}")


def one(seed, minio, keep):
    root = pathlib.Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    run = Run(seed, minio, root)
    try:
        with run.prepared():
            return run.whole()
    except Exception:
        return f"run {seed} ({root}):\n{traceback.format_exc()}"
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--minio", required=True)
    parser.add_argument("--keep", action="store_true", help="keep the folders of runs")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.runs)
    told, failed = [], []
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        for result in pool.map(lambda seed: one(seed, options.minio, options.keep), seeds):
            if isinstance(result, Told):
                told.append(result)
            else:
                failed.append(result)
                print(result, flush=True)
            if (len(told) + len(failed)) % 10 == 0:
                print(f"{len(told)} well, {len(failed)} not", file=sys.stderr, flush=True)
    if told:
        ideal = STEPS * PAUSE
        ratios = sorted(ideal / run.took for run in told)
        print(f"{len(told)} of {len(told) + len(failed)} runs ended with the right result")
        print(f"goodput: median {ratios[len(ratios) // 2]:.2f}, worst {ratios[0]:.2f} (steps alone take {ideal:.0f} s)")
        kinds = collections.defaultdict(list)
        for run in told:
            for kind, steps in run.lost:
                kinds[kind].append(steps)
        print("| disturbance | starts anew | steps lost, mean | most |\n|---|---|---|---|")
        for kind in KINDS:
            if steps := kinds[kind]:
                print(f"| {kind} | {len(steps)} | {sum(steps) / len(steps):.1f} | {max(steps)} |")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
