"""Training jobs of two workers on the two nodes of a cluster, with parts killed at random moments.

    python tests/cluster/training_chaos.py [--runs N] [--seed N] [--at-once N] [--minutes N] [--minio PROGRAM]

as root, with TRAINYARD_BIN, TRAINYARD_XTASK and TRAINYARD_IMAGE set. With MinIO, every second run has
its store there, and the others have theirs on a volume. It starts a cluster, by the name in
TRAINYARD_TEST_CLUSTER, and takes it down.

Every job must finish with the very result of an undisturbed one, and its store must verify and hold the
state of an undisturbed one at that step. No start may go on from before a checkpoint that was durable
when the start before it made its last step; no gang may make a step before all of it is there, or
beside another one.

What happens to a node, the store or the operator happens to all jobs that run at that moment.
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
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from interruptions import BUCKET, NODES, WORKERS, Stage, Work, is_agent, is_operator, is_program, kill, processes

NAMESPACE = "chaos"
# Of half of the jobs the program decides when it saves, and of the others the agent, by `checkpoint.interval`.
OWN = Work(steps=400, pause=0.05, every=40, bytes=1 << 20)
PACED = dataclasses.replace(OWN, every=0, interval=5)
DISK = 512 << 20
PATIENCE = 600
OF_ONE_JOB = ["program", "agent", "deleted", "evicted", "torn upload", "disk full"]
OF_ALL = ["operator", "rebooted", "notice", "cut off", "tainted", "store hangs", "store full", "store away"]


# What may keep a checkpoint from the store for as long as it takes.
HOLD_UP = {"store hangs", "store full", "store away", "cut off", "disk full"}


@dataclasses.dataclass
class Over:
    seed: int
    steps: int
    # Seconds from when the first checkpoint that was lost was written until the last step of that start.
    written: float
    # What held up the store, the network or the disk meanwhile.
    meanwhile: list


@dataclasses.dataclass
class Told:
    seed: int
    work: Work
    took: float
    # Steps that were done again at each new start, by what came before it.
    lost: list
    # Of those starts that did more than an interval again.
    over: list
    # Steps that the store's newest checkpoint lacks of the last one that the program wrote.
    behind: int
    attempts: int
    failures: int
    # To this job alone.
    happened: set


class Chaos:
    def __init__(self, stage):
        self.stage = stage
        self.cluster = stage.cluster
        # One thing of those that happen to all jobs at a time.
        self.lock = threading.Lock()
        # Of the jobs; one look for all of them.
        self.statuses = {}
        # When each began and ended: (from, to, kind).
        self.of_all = []
        self.counts = collections.Counter()

    def look(self):
        while True:
            with contextlib.suppress(Exception):
                self.statuses = self.stage.statuses()
            time.sleep(1)

    def status(self, name):
        return self.statuses.get(name, {})

    def happen(self, kind, name, chance):
        """Gives when it began; None if there was nothing that it could have happened to."""
        if kind in OF_ALL:
            with self.lock:
                begun = time.time()
                getattr(self, kind.replace(" ", "_"))(chance)
                self.of_all.append((begun, time.time(), kind))
                self.counts[kind] += 1
                return begun
        # Only the first one saves.
        pod = self.stage.pods(name).get(0 if kind == "disk full" else chance.randrange(WORKERS))
        if pod is None:
            return None
        begun = time.time()
        if kind == "program":
            hit = kill(is_program, pod)
        elif kind == "agent":
            hit = kill(is_agent, pod)
        elif kind == "deleted":
            hit = self.stage.delete(pod, "--grace-period=0", "--force") or True
        elif kind == "evicted":
            hit = self.stage.evict(pod) or True
        elif kind == "torn upload":
            hit, begun = self.torn_upload(name, chance)
        elif kind == "disk full":
            hit = self.disk_full(pod, chance)
        self.counts[kind] += bool(hit)
        return begun if hit else None

    def torn_upload(self, name, chance):
        """Kills the agent that uploads soon after a checkpoint was written."""
        saved = len(self.stage.notes(name, "saved"))
        deadline = time.monotonic() + 10
        while len(self.stage.notes(name, "saved")) == saved and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 2.2))
        pod = self.stage.pods(name).get(0)
        begun = time.time()
        return pod and kill(is_agent, pod), begun

    @staticmethod
    def disk_full(pod, chance):
        """The disk of the first worker's checkpoints has room for what is there, and for a while no more."""
        inside = processes(lambda line: is_program(line) or is_agent(line), pod)
        if not inside:
            return False
        command = [sys.executable, pathlib.Path(__file__).with_name("disk_of_a_pod.py"), str(inside[0])]
        done = subprocess.run([*command, "full", *map(str, inside)], check=False)
        time.sleep(chance.uniform(1, 6))
        # Unless it has ended meanwhile.
        subprocess.run([*command, "room"], stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0

    def operator(self, _):
        for pod in self.cluster.get("-n", "trainyard", "pods", "-l", "app.kubernetes.io/name=trainyard-operator")["items"]:
            kill(is_operator, pod)

    def rebooted(self, chance):
        node = chance.choice(NODES)
        self.cluster.xtask("chaos", "kill-node", node, *(["--silent"] if chance.random() < 0.5 else []))
        time.sleep(chance.uniform(1, 15))
        self.come_back(node)

    def come_back(self, node):
        self.cluster.xtask("chaos", "restart-node", node)
        self.cluster.until("the node", lambda: self.cluster.is_node_ready(node), 180)

    def notice(self, chance):
        """Of the cloud, which takes the machine soon; often a node that is about to go gets no new pods."""
        node = chance.choice(NODES)
        self.stage.metadata[node].say("take")
        if chance.random() < 0.5:
            self.cluster.kubectl("cordon", node)
        time.sleep(chance.uniform(6, 15))
        self.cluster.xtask("chaos", "kill-node", node, "--silent")
        time.sleep(chance.uniform(1, 15))
        self.stage.metadata[node].say("leave")
        self.come_back(node)
        self.cluster.kubectl("uncordon", node)

    def cut_off(self, chance):
        node = chance.choice(NODES)
        self.cluster.xtask("chaos", "partition", node)
        time.sleep(chance.uniform(1, 20))
        self.cluster.xtask("chaos", "heal", node)

    def tainted(self, chance):
        node = chance.choice(NODES)
        self.cluster.xtask("chaos", "taint", node, "example.com/going=soon:NoExecute")
        time.sleep(chance.uniform(1, 5))
        self.cluster.xtask("chaos", "taint", node, "example.com/going:NoExecute-")

    def store_hangs(self, chance):
        subprocess.run(["fsfreeze", "-f", self.stage.store], check=True)
        try:
            time.sleep(chance.uniform(1, 8))
        finally:
            subprocess.run(["fsfreeze", "-u", self.stage.store], check=True)

    def store_away(self, chance):
        if self.stage.minio:
            self.stage.minio.kill()
            time.sleep(chance.uniform(1, 10))
            self.stage.minio.start()

    def store_full(self, chance):
        filler = self.stage.store / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            free = os.statvfs(self.stage.store)
            os.posix_fallocate(file.fileno(), 0, free.f_bfree * free.f_bsize * 98 // 100)
            file.seek(0, os.SEEK_END)
            while file.write(b"x" * 4096):
                pass
        time.sleep(chance.uniform(1, 6))
        filler.unlink()


class Durable(threading.Thread):
    """Notes when each checkpoint was first seen in the store, which gets a manifest last and as a whole."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.seen, self.stop = folder, {}, threading.Event()

    def run(self):
        while not self.stop.wait(0.1):
            try:
                for manifest in (self.folder / "steps").glob("step-*/*/*.json"):
                    self.seen.setdefault(int(manifest.parts[-3].removeprefix("step-")), time.time())
            except OSError:  # It was just removed.
                pass

    def newest(self, at):
        return max((step for step, seen in list(self.seen.items()) if seen <= at), default=0)


def one(chaos, seed):
    chance, name, stage = random.Random(seed), f"run-{seed}", chaos.stage
    work = PACED if seed // 2 % 2 else OWN
    is_bucket = bool(stage.minio) and seed % 2 == 1
    durable = Durable(stage.folder(name, is_bucket))
    durable.start()
    happened = []
    try:
        begun = time.monotonic()
        job = stage.job(name, work, is_bucket)
        # Whose agents ask the cloud.
        job["spec"]["placement"]["spot"] = "prefer"
        stage.cluster.apply(job)
        deadline = begun + PATIENCE

        def phase():
            return chaos.status(name).get("phase")

        def wait(what, holds):
            while not holds():
                if time.monotonic() > deadline:
                    raise AssertionError(f"{what}: not within {PATIENCE} s; {json.dumps(chaos.status(name))}")
                time.sleep(0.5)

        wait("the first step", lambda: stage.reached(name) or phase() == "Failed")
        for _ in range(chance.randrange(2, 4)):
            time.sleep(chance.uniform(0.5, 8))
            if phase() in ("Succeeded", "Failed"):
                break
            kind = chance.choice(OF_ONE_JOB + OF_ALL)
            lives, steps = len(stage.notes(name, "together")), stage.reached(name)
            at = chaos.happen(kind, name, chance)
            if at is None:
                continue
            happened.append((at, kind))
            target = steps + chance.randrange(1, 60)
            wait(f"progress after `{kind}`", lambda: phase() in ("Succeeded", "Failed") or stage.reached(name) >= target
                 or len(stage.notes(name, "together")) > lives)
        wait("the end", lambda: phase() in ("Succeeded", "Failed"))
        took = time.monotonic() - begun
        lost, over, behind = judge(chaos, name, work, durable, happened)
        over = [Over(seed, *it) for it in over]
        status = chaos.status(name)
        return Told(seed, work, took, lost, over, behind, status["attempts"], status["failures"], {kind for _, kind in happened})
    except Exception:
        history = [(round(at, 1), kind) for at, kind in happened]
        notes = [{key: note[key] for key in ("at", "what", "rank", "attempt", "step") if key in note}
                 for note in stage.heard[name] if note["what"] != "step"]
        lines = "\n".join(json.dumps(note) for note in notes)
        return f"run {seed}: {traceback.format_exc()}\nhappened: {history}, to all: {chaos.of_all}\n{lines}\n{seen(stage, name)}"
    finally:
        durable.stop.set()
        stage.cluster.kubectl("-n", NAMESPACE, "delete", "tj", name, "--wait=false", check=False)
        shutil.rmtree(durable.folder, ignore_errors=True)


def seen(stage, name):
    """What the cluster says of a job that did not do as it should."""
    words = [
        ["get", "nodes", "-o", "wide"],
        ["-n", NAMESPACE, "get", "jobs,pods", "-l", f"trainyard.dev/job={name}", "-o", "wide"],
        ["-n", NAMESPACE, "describe", "pods", "-l", f"trainyard.dev/job={name}"],
        ["-n", "trainyard", "get", "pods", "-o", "wide"],
        ["-n", "trainyard", "logs", "-l", "app.kubernetes.io/name=trainyard-operator", "--tail=40"],
    ]
    return "\n".join(stage.cluster.kubectl(*it, check=False).stdout for it in words)


def judge(chaos, name, work, durable, happened):
    stage = chaos.stage
    status = chaos.status(name)
    problems = [it["message"] for it in status["conditions"] if it["type"] == "Stalled"]
    assert status["phase"] == "Succeeded", f"it is {status['phase']}: {problems}"
    assert not stage.notes(name, "wrong"), "a checkpoint had wrong bytes"
    results = stage.results(name)
    assert results == {work.value()}, f"the result is {results}, and not {work.value()}"
    by_attempt = collections.defaultdict(list)
    for note in list(stage.heard[name]):
        by_attempt[int(note["attempt"])].append(note)
    attempts, lost, over = sorted(by_attempt), [], []
    for attempt in attempts:
        lives = collections.defaultdict(set)
        for note in by_attempt[attempt]:
            if note["what"] == "together":
                lives[note["rank"]].add(note["life"])
        steps = [note for note in by_attempt[attempt] if note["what"] == "step"]
        assert not steps or sorted(lives) == list(range(WORKERS)), f"attempt {attempt} ran with ranks {sorted(lives)}"
        assert all(len(found) == 1 for found in lives.values()), f"a rank of attempt {attempt} ran more than once: {lives}"
        starts = [note["step"] for note in by_attempt[attempt] if note["what"] == "together"]
        assert len(set(starts)) <= 1, f"ranks of attempt {attempt} went on from different steps: {starts}"
    for before, after in zip(attempts, attempts[1:]):
        done = [note for note in by_attempt[before] if note["what"] == "step"]
        last = max((note["at"] for note in done), default=0)
        starts = [note for note in by_attempt[after] if note["what"] == "together"]
        first = min((note["at"] for note in by_attempt[after] if note["what"] == "step"), default=None)
        assert first is None or last < first, f"attempt {before} made steps beside attempt {after}"
        if not starts:
            continue
        resumed = starts[0]["step"]
        known = durable.newest(last)
        assert resumed >= known, f"attempt {after} went on from {resumed}, and {known} was durable"
        # A start that came to no step lost none.
        again = max(0, max((note["step"] for note in done), default=0) - resumed)
        lost.append((cause(chaos, happened, last, starts[0]["at"]), again))
        if again > work.most:
            begun = min((note["at"] for note in by_attempt[before] if note["what"] == "saved" and note["step"] > resumed), default=last)
            meanwhile = [kind for at, until, kind in list(chaos.of_all) if at <= last and until >= begun]
            meanwhile += [kind for at, kind in happened if kind in HOLD_UP and begun - 6 <= at <= last]
            over.append((again, last - begun, sorted(HOLD_UP.intersection(meanwhile))))
    with tempfile.TemporaryDirectory() as folder:
        store = durable.folder
        if store == stage.folder(name, is_bucket=True):
            store = f"s3://{BUCKET}/{name}"
        for command in (["verify", store], ["pull", store, "--to", folder]):
            # While nothing happens to the store.
            with chaos.lock:
                done = stage.checkpoints(*command)
            assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(next(pathlib.Path(folder).rglob("state.json")).read_text())
        assert found["value"] == work.value(found["step"]), f"the store's newest has {found}"
    # What did not come onto a full disk, the program could not save itself; of an earlier start, what came last
    # may have been lost with its disk.
    own = by_attempt[attempts[-1]]
    written = max((note["step"] for note in own if note["what"] == "saved"), default=found["step"])
    # Notes are lost where a node is cut off: the store may know of more.
    return lost, over, max(0, written - found["step"])


def cause(chaos, happened, last, started):
    """What came last before the new start: its own, or what happened to all."""
    own = [(at, kind) for at, kind in happened if at <= started]
    of_all = [(at, kind) for at, until, kind in list(chaos.of_all) if at <= started and until >= last - 1]
    return max([*own, *of_all], default=(0, "none"))[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--minio", help="program: every second run has its store there")
    parser.add_argument("--minutes", type=float, default=600, help="after which no further run begins")
    options = parser.parse_args()
    stage = Stage(NAMESPACE)
    chaos, told, failed = Chaos(stage), [], []
    ends = time.monotonic() + options.minutes * 60

    def run(seed):
        return one(chaos, seed) if time.monotonic() < ends else None

    with stage.prepared(DISK, options.minio, on_aws=True), concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        threading.Thread(target=chaos.look, daemon=True).start()
        seeds = range(options.seed, options.seed + options.runs)
        for done in concurrent.futures.as_completed([pool.submit(run, seed) for seed in seeds]):
            if isinstance(result := done.result(), Told):
                told.append(result)
                print(f"{result.seed}: {result.took:.0f} s, {result.attempts} attempts, {result.failures} failures, lost {result.lost}, behind {result.behind}", flush=True)
                for it in result.over:
                    print(f"  more than an interval: {it}", flush=True)
            elif result:
                failed.append(result)
                print(result, flush=True)
    took = sorted(run.took for run in told)
    print(f"\n{len(told)} of {len(told) + len(failed)} runs ended with the right result")
    if told:
        alone = OWN.steps * OWN.pause
        ratios = [alone / it for it in reversed(took)]
        print(f"goodput: median {ratios[len(ratios) // 2]:.2f}, worst {ratios[0]:.2f} (steps alone take {alone:.0f} s)")
    # Of a program that was not killed and had room for what it wrote, nothing is its fault.
    blamed = {run.seed: run.failures for run in told if run.failures and not run.happened & {"program", "disk full"}}
    print(f"{sum(run.failures for run in told)} failures counted; where no program was killed and its disk not full: {blamed}")
    behind = [run.seed for run in told if run.behind]
    print(f"{len(behind)} jobs succeeded without their last checkpoint in the store: {behind}")
    kinds = collections.defaultdict(list)
    for run in told:
        for kind, steps in run.lost:
            kinds[kind].append(steps)
    for work, decides in [(OWN, "the program"), (PACED, "the agent")]:
        runs = [run for run in told if run.work is work]
        over = [it for run in runs for it in run.over]
        free = sorted(it.written for it in over if not it.meanwhile)
        print(f"{decides} decides when to save: {sum(len(run.lost) for run in runs)} new starts, {len(over)} with more than {work.most} steps done again;"
              f" {len(over) - len(free)} of these while something held up the store; of the others a checkpoint had been written for {[round(it, 1) for it in free]} s")
    print("| what happened | times | new starts after it | steps done again, mean | most |\n|---|---|---|---|---|")
    for kind in [*OF_ONE_JOB, *OF_ALL, "none"]:
        steps = kinds[kind]
        mean, most = (f"{sum(steps) / len(steps):.1f}", max(steps)) if steps else ("", "")
        print(f"| {kind} | {chaos.counts[kind]} | {len(steps)} | {mean} | {most} |")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
