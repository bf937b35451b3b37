"""The queue of one machine: jobs share its CPUs and GPUs with services and with each other."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from custom import eventually
from test_jobs import HERE, Jobs, jobs  # noqa: F401 (a fixture)

CORES = len(os.sched_getaffinity(0))
# Two of these do not fit.
MOST = f"{CORES * 600}m"
HALF = f"{CORES * 400}m"
NVML = HERE.parent.parent / "crates/cli/tests/nvml.c"

CHECKPOINT = "checkpoint: {path: out, grace: 10s}"


def spec(*lines):
    return "\n".join(f"  {line}" for line in (CHECKPOINT, *lines))


def cpu(amount):
    return f"resources: {{cpu: {amount}}}"


def declared(jobs, name, *lines, **options):
    """A job with a folder of its own for checkpoints, of one worker unless it says something else."""
    more = spec(*lines).replace("path: out", f"path: out-{name}")
    return jobs.write(name=name, more=more, **{"workers": 1, **options})


def queue(jobs, name=None):
    all_queues = json.loads(jobs.run("queue", "-o", "json"))
    return next(it for it in all_queues if it["name"] == (name or "machine"))


def waits(jobs, name, reason):
    def holds():
        job = jobs.job(name)
        return job["phase"] == "Waiting" and job["reason"] == reason and job

    return eventually(holds, lambda: jobs.run("status") + jobs.run("queue"))


def runs(jobs, name):
    return eventually(lambda: jobs.job(name)["phase"] == "Running", lambda: jobs.run("status"))


def test_who_does_not_fit_waits_until_there_is_room(jobs):
    first = declared(jobs, "first", cpu(MOST), "deadline: 1h", steps=5000)
    second = declared(jobs, "second", cpu(MOST), steps=30)
    jobs.run("up", "-d", first)
    said = jobs.run("up", "-d", second)
    assert "second waits and starts by itself" in said, said
    waiting = waits(jobs, "second", "QuotaUsed")
    message = waiting["quota"]["message"]
    assert "of CPU, and" in message and "is free" in message and "as things stand it starts by 20" in message
    assert waiting["workers"] == [] and waiting["startsAtMs"] > 0
    table = jobs.run("queue")
    assert re.search(r"first +Running +0 +1 +machine +nominal", table), table
    assert re.search(r"second +0 +1 +- +20\S+Z +QuotaUsed", table), table
    seen = queue(jobs)
    assert [it["job"] for it in seen["admitted"]] == ["first"]
    used = next(it for it in seen["usage"] if it["resource"] == "cpu")
    assert used["used"] in (MOST, str(CORES * 600 // 1000)), used
    # It is told wherever people look.
    assert "second: waits in the queue `machine`" in jobs.run("status")
    described = jobs.run("describe", "second")
    assert "QuotaReserved" in described and "is free" in described, described
    assert "QuotaUsed" in jobs.run("events", "second")
    assert jobs.run("queue", "nothing", code=2).count("no queue `nothing`") == 1
    jobs.run("down", "first")
    assert jobs.over("second")["phase"] == "Succeeded"
    events = jobs.run("events", "second")
    assert events.index("QuotaUsed") < events.index("Admitted") < events.index("Started"), events


def test_those_who_fit_run_beside_each_other_and_nobody_gets_half(jobs):
    jobs.run("up", "-d", declared(jobs, "first", cpu(HALF), steps=5000))
    jobs.run("up", "-d", declared(jobs, "second", cpu(HALF), steps=5000))
    assert {jobs.job("first")["phase"], jobs.job("second")["phase"]} == {"Running"}
    # Of two workers one would fit.
    third = declared(jobs, "third", cpu(f"{CORES * 200}m"), workers=2, steps=5)
    jobs.run("up", "-d", third)
    waits(jobs, "third", "QuotaUsed")
    # What asks for nothing is in nobody's way.
    jobs.run("up", declared(jobs, "small", steps=5))
    assert len(jobs.programs()) == 2
    jobs.run("down", "third")
    partly = declared(jobs, "third", cpu(f"{CORES * 200}m"), "queue: any", workers="2, min: 1", steps=30)
    jobs.run("up", "-d", partly)
    assert jobs.over("third")["phase"] == "Succeeded"
    log = jobs.run("logs", "third", "--replica", "third-2-0")
    assert "Admitted" not in jobs.run("events", "third") or "1 worker " in jobs.run("events", "third")
    assert "y = 2.9" in log or "y = " in log
    assert jobs.job("third")["wanted"] == 1


def test_a_higher_priority_takes_the_room_and_costs_nothing_but_time(jobs):
    jobs.run("up", "-d", declared(jobs, "low", cpu(MOST), "deadline: 1h", steps=400, retries=0))
    jobs.step(45, "low")
    jobs.run("up", "-d", declared(jobs, "high", cpu(MOST), "queue: any", "priority: 5", steps=20))
    assert jobs.over("high")["phase"] == "Succeeded"
    saved = int(re.search(r"saved at step (\d+), as asked", jobs.run("logs", "low"))[1])
    assert saved >= 45
    job = jobs.over("low")
    counts = (job["phase"], job["attempts"], job["failures"], job["interruptions"])
    assert counts == ("Succeeded", 2, 0, 0)
    assert f"goes on from step {saved}\n" in jobs.run("logs", "low", "--tail", "-1")
    events = jobs.run("events", "low")
    assert "it makes room for `high`: it goes first in this queue" in events, events
    history = json.loads(jobs.run("get", "tj/low", "-o", "json"))
    assert history["status"]["attempts"] == 2


def steps(jobs, name):
    """Steps whose loss the first worker has printed, in all its attempts."""
    return [int(it) for it in re.findall(r"step (\d+) loss", jobs.run("logs", name, "--tail", "-1"))]


def test_a_job_grows_into_free_room_and_shrinks_for_a_more_important_one(jobs):
    # Beside one that takes half, of two workers one fits; both fit alone.
    first = declared(jobs, "first", cpu(HALF), steps=100000)
    jobs.run("up", "-d", first)
    elastic = declared(jobs, "elastic", cpu(HALF), "queue: any", workers="2, min: 1", retries=0, steps=4000)
    # What a change may cost is what a checkpoint may take: so long has room to be free, and five times
    # that long the job has to run before it grows.
    path = jobs.root / elastic
    path.write_text(path.read_text().replace("grace: 10s", "grace: 1s"))
    jobs.run("up", "-d", elastic)
    runs(jobs, "elastic")

    def has(workers, attempt):
        def holds():
            job = jobs.job("elastic")
            is_so = (job["wanted"], len(job["workers"]), job["attempts"]) == (workers, workers, attempt)
            return is_so and job["phase"] == "Running" and job

        return eventually(holds, lambda: jobs.run("status") + jobs.run("events", "elastic"))

    has(1, 1)
    jobs.step(45, "elastic")
    jobs.run("down", "first")
    grown = has(2, 2)
    assert "it went from 1 to 2 workers, since there is room that nobody waits for" in grown["quota"]["message"]
    saved = int(re.search(r"saved at step (\d+), as asked", jobs.run("logs", "elastic", "--tail", "-1"))[1])
    assert saved >= 45
    jobs.step(saved + 45, "elastic")
    used = next(it for it in queue(jobs)["usage"] if it["resource"] == "cpu")["used"]
    assert used in (f"{2 * CORES * 400}m", str(2 * CORES * 400 // 1000)), used
    high = declared(jobs, "high", cpu(HALF), "queue: any", "priority: 5", steps=100)
    jobs.run("up", "-d", high)
    shrunk = has(1, 3)
    why = "it went from 2 to 1 worker, which makes room for `high`: it goes first in this queue"
    assert why in shrunk["quota"]["message"], shrunk
    jobs.over("high")
    has(2, 4)
    job = jobs.job("elastic")
    assert (job["failures"], job["interruptions"]) == (0, 0), job
    # A supervisor that comes after this one knows what it has.
    os.kill(jobs.supervisor(), signal.SIGKILL)
    eventually(lambda: "no supervisor runs" in jobs.run("status", code=None))
    jobs.run("up", "-d")
    has(2, 4)
    # No step was lost: each start went on from where the one before had saved.
    logs = jobs.run("logs", "elastic", "--tail", "-1")
    saves = {int(it) for it in re.findall(r"saved at step (\d+), as asked", logs)}
    starts = {int(it) for it in re.findall(r"goes on from step (\d+)", logs)}
    assert starts == saves and len(saves) == 3, (starts, saves)
    done = steps(jobs, "elastic")
    assert done == sorted(done), done
    events = jobs.run("events", "elastic")
    # The same message is told once, with how often.
    assert re.search(r"Grown +it goes from 1 to 2 workers.*\(2 times\)", events), events
    assert re.search(r"Shrunk +it goes from 2 to 1 worker, which makes room for `high`", events), events
    jobs.run("down", "elastic")


def test_a_service_takes_its_part_first(jobs):
    (jobs.root / "model.bin").write_bytes(b"model")
    service = (
        "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata: {name: files}\nspec:\n"
        "  model: {uri: 'file://./model.bin'}\n"
        f"  resources: {{cpu: {MOST}}}\n"
        f"  runtime: {{name: custom, command: [{sys.executable}, -m, http.server, $(PORT), --bind, 127.0.0.1]}}\n"
    )
    (jobs.root / "service.yaml").write_text(service)
    manifest = declared(jobs, "line", cpu(MOST), "queue: any", "priority: 9", steps=20)
    jobs.run("up", "-d", "service.yaml", manifest)
    waits(jobs, "line", "QuotaUsed")
    assert [it["job"] for it in queue(jobs)["admitted"]] == ["files"]
    jobs.run("down", "files")
    assert jobs.over("line")["phase"] == "Succeeded"


QUEUES = """\
apiVersion: trainyard.dev/v1alpha1
kind: Queue
metadata: {name: research}
spec:
  quotas: [{pool: default, cpu: {nominal: 500m}}]
  preemption: {withinQueue: lowerPriority}
---
apiVersion: trainyard.dev/v1alpha1
kind: Queue
metadata: {name: closed}
spec: {quotas: [{pool: default, cpu: {nominal: 0}, memory: {nominal: 0}}]}
"""


def test_queues_of_manifests_hold_here(jobs):
    (jobs.root / "queues.yaml").write_text(QUEUES)
    first = declared(jobs, "first", cpu("400m"), "queue: research", steps=5000)
    jobs.run("up", "-d", "queues.yaml", first)
    second = declared(jobs, "second", cpu("400m"), "queue: research", steps=20)
    none = declared(jobs, "none", cpu("100m"), "queue: closed", steps=20)
    lost = declared(jobs, "lost", cpu("100m"), "queue: nowhere", steps=20)
    free = declared(jobs, "free", cpu("100m"), steps=20)
    jobs.run("up", "-d", second, none, lost, free, code=1)
    waits(jobs, "second", "QuotaUsed")
    assert "the queue can have 0 at most" in waits(jobs, "none", "ExceedsQuota")["quota"]["message"]
    assert "there is no queue `nowhere`" in waits(jobs, "lost", "NoSuchQueue")["quota"]["message"]
    assert jobs.over("free")["phase"] == "Succeeded"
    assert "Stalled        True" in jobs.run("describe", "lost") or "NoSuchQueue" in jobs.run("describe", "lost")
    research = queue(jobs, "research")
    assert [it["job"] for it in research["admitted"]] == ["first"]
    assert [it["job"] for it in research["waiting"]] == ["second"]
    # A supervisor that comes after this one knows them, and what each job has.
    os.kill(jobs.supervisor(), signal.SIGKILL)
    eventually(lambda: "no supervisor runs" in jobs.run("status", code=None))
    jobs.run("up", "-d")
    waits(jobs, "second", "QuotaUsed")
    assert jobs.job("first")["attempts"] == 1
    assert queue(jobs, "research")["usage"][0]["used"] == "400m"
    # A raised quota lets it in; a queue that stands in no file any more is none.
    (jobs.root / "queues.yaml").write_text(QUEUES.split("---")[0].replace("500m", "900m"))
    jobs.run("up", "-d", "queues.yaml")
    assert jobs.over("second")["phase"] == "Succeeded"
    waits(jobs, "none", "NoSuchQueue")
    taken = QUEUES.split("---")[0].replace("name: research", "name: machine")
    (jobs.root / "taken.yaml").write_text(taken)
    assert "has the name of the machine" in jobs.run("up", "-d", "taken.yaml", code=2)


def test_one_that_waits_can_be_taken_down_and_outlives_a_kill(jobs):
    jobs.run("up", "-d", declared(jobs, "first", cpu(MOST), steps=5000))
    jobs.run("up", "-d", declared(jobs, "second", cpu(MOST), steps=20))
    waits(jobs, "second", "QuotaUsed")
    os.kill(jobs.supervisor(), signal.SIGKILL)
    eventually(lambda: "no supervisor runs" in jobs.run("status", code=None))
    jobs.run("up", "-d")
    waits(jobs, "second", "QuotaUsed")
    jobs.run("restart", "--gateway")
    waits(jobs, "second", "QuotaUsed")
    assert jobs.job("first")["attempts"] == 1
    jobs.run("down", "second")
    job = jobs.job("second")
    assert (job["phase"], job["attempts"]) == ("Interrupted", 0)


SHOW = "import os, time; print('sees', os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); time.sleep({})"


@pytest.fixture
def gpus(tmp_path):
    """Two GPUs, as a small library with NVML's names tells."""
    folder = tmp_path / "driver"
    folder.mkdir()
    library = folder / "libnvidia-ml.so.1"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(NVML)], check=True)
    return str(folder)


def test_gpus_are_given_to_one_job_at_a_time(jobs, gpus):
    jobs.environment["LD_LIBRARY_PATH"] = gpus

    def shows(name, seconds, *lines, **options):
        command = [sys.executable, "-c", SHOW.format(seconds)]
        return jobs.write(command, name=name, more=spec(*lines), **{"workers": 1, **options})

    one = "resources: {gpu: {count: 1}}"
    jobs.run("up", "-d", shows("first", 1000, one), shows("second", 1000, one))
    jobs.run("up", "-d", shows("third", 0, one))
    assert "of GPU, and 0 of this machine's 2 is free" in waits(jobs, "third", "QuotaUsed")["quota"]["message"]
    seen = {
        eventually(lambda name=name: re.search(r"sees (\S+)", jobs.run("logs", name)))[1]
        for name in ("first", "second")
    }
    assert len(seen) == 2 and all(it.startswith("GPU-") for it in seen), seen
    jobs.run("down", "first")
    jobs.over("third")
    jobs.run("down", "second")
    # Each worker has its own, and more than there are is refused.
    jobs.run("up", shows("pair", 0, one, workers=2))
    jobs.over("pair")
    logs = jobs.run("logs", "pair")
    assert set(re.findall(r"sees (\S+)", logs)) == seen, logs
    said = jobs.run("up", shows("many", 0, one, workers=3), code=2)
    assert "ask for 3 GPUs together" in re.sub(r"[\s│]+", " ", said), said
