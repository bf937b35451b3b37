"""Queues of jobs on a real cluster: who waits and why, who makes room, what was lent comes back."""

import json

import pytest
import python_image
from conftest import ROOT
from iris import HOME, install, trainyard, uninstall
from test_training import STORE, store

IMAGE = "localhost/train-line:test"
QUEUES = ("one", "two", "lender", "borrower")
# A program that ends when it is told to.
SLEEP = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep({})"
)

# The example, which says first how many it is of.
TELLING = (
    "import os, runpy; print('one of', os.environ['TRAINYARD_WORKERS'], 'of', os.environ['WORLD_SIZE'], flush=True);"
    "runpy.run_path('train.py', run_name='__main__')"
)


@pytest.fixture(scope="module")
def team(cluster, image, tmp_path_factory, namespace):
    path = tmp_path_factory.mktemp("image") / "train.tar"
    python_image.write(path, IMAGE, {"train.py": (ROOT / "examples/train-line/train.py").read_bytes()})
    cluster.xtask("load", str(path))
    install(cluster, image)
    cluster.apply(
        queue("one", cpu={"nominal": "100m"}, preemption={"withinQueue": "lowerPriority"}),
        queue("two", cpu={"nominal": "200m"}, preemption={"withinQueue": "lowerPriority"}),
        queue("lender", cpu={"nominal": "100m"}, cohort="all", preemption={"reclaimWithinCohort": "any"}),
        queue("borrower", cpu={"nominal": "10m"}, cohort="all"),
    )
    yield namespace
    cluster.kubectl("-n", namespace, "delete", "trainingjobs", "--all", check=False)
    cluster.kubectl("delete", "queues.trainyard.dev", *QUEUES, "--wait=false", check=False)
    uninstall(cluster)


def queue(name, cpu, **spec):
    return {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "Queue", "metadata": {"name": name},
        "spec": {"quotas": [{"pool": "default", "cpu": cpu}], **spec},
    }


def manifest(namespace, name, queue, seconds, **spec):
    return {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "framework": "generic", "image": IMAGE, "command": ["python3", "-c", SLEEP.format(seconds)],
            "resources": {"cpu": "100m", "memory": "64Mi"}, "queue": queue, **spec,
        },
    }


def status(cluster, namespace, name):
    return cluster.get("-n", namespace, "trainingjob", name).get("status", {})


def until(cluster, namespace, name, wanted, seconds=60):
    """Waits for a phase, and for the reason that the queue gives, if one is named."""
    phase, _, reason = wanted.partition(" ")

    def holds():
        found = status(cluster, namespace, name)
        reserved = condition(found)
        is_so = found.get("phase") == phase and (not reason or reserved.get("reason") == reason)
        return found if is_so else None

    try:
        return cluster.until(f"{name} to be {wanted}", holds, seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{json.dumps(status(cluster, namespace, name), indent=1)}") from error


def condition(found, kind="QuotaReserved"):
    return next((it for it in found.get("conditions", []) if it["type"] == kind), {})


def shown(cluster, name):
    return json.loads(trainyard(cluster, "queue", name, "-o", "json").stdout)[0]


def test_the_second_waits_until_the_first_ends(cluster, team):
    cluster.apply(manifest(team, "first", "one", 14, deadline="2m"))
    assert condition(until(cluster, team, "first", "Running"))["status"] == "True"
    cluster.until("its worker to run", lambda: status(cluster, team, "first")["activeWorkers"] == 1, 30)
    cluster.apply(manifest(team, "second", "one", 1))
    waits = until(cluster, team, "second", "Waiting QuotaUsed")
    message = condition(waits)["message"]
    assert "asks for 100m of CPU" in message and "it starts by 20" in message, message
    assert condition(waits, "Progressing")["message"] == message
    # Nothing of it is there: no Job, no pod.
    assert not cluster.get("-n", team, "jobs,pods", "-l", "trainyard.dev/job=second")["items"]
    cluster.until("the queue's status", lambda: shown(cluster, "one")["usage"][0]["used"] == "100m", 20)
    seen = shown(cluster, "one")
    assert [it["job"] for it in seen["admitted"]] == [f"{team}/first"], seen
    assert [(it["job"], it["reason"]) for it in seen["waiting"]] == [(f"{team}/second", "QuotaUsed")], seen
    text = trainyard(cluster, "queue").stdout
    assert f"{team}/second" in text and "nominal" in text, text
    # An operator that knows nothing but the statuses lets nobody in, and writes nothing.
    version = lambda: {  # noqa: E731
        it["metadata"]["name"]: it["metadata"]["resourceVersion"]
        for it in cluster.get("-n", team, "trainingjobs")["items"]
    }
    before = version()
    cluster.kubectl("-n", HOME, "rollout", "restart", "deployment/trainyard-operator")
    cluster.kubectl("-n", HOME, "rollout", "status", "deployment/trainyard-operator", "--timeout=60s")
    assert version() == before or status(cluster, team, "first")["phase"] == "Succeeded"
    until(cluster, team, "second", "Succeeded")
    assert status(cluster, team, "first")["phase"] == "Succeeded"
    assert condition(status(cluster, team, "second"))["reason"] == "Over"


def test_a_higher_priority_makes_room_and_costs_no_retry(cluster, team):
    cluster.apply(manifest(team, "low", "one", 300, retries=0))
    until(cluster, team, "low", "Running")
    cluster.apply(manifest(team, "high", "one", 2, priority=5))
    until(cluster, team, "low", "Waiting", 40)
    until(cluster, team, "high", "Succeeded")
    again = until(cluster, team, "low", "Running Admitted")
    assert (again["attempts"], again["failures"], again["interruptions"]) == (2, 0, 0), again
    events = trainyard(cluster, "events", "low", "-n", team).stdout
    assert "Preempted" in events and f"{team}/high" in events and "Admitted" in events, events
    cluster.kubectl("-n", team, "delete", "tj", "low", "--wait=false")


def test_a_deleted_job_has_its_quota_until_its_pods_have_ended(cluster, team):
    # It does not end when it is told to.
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(300)"
    slow = {"path": "checkpoints", "grace": "40s"}
    cluster.apply(manifest(team, "stubborn", "one", 0, command=["python3", "-c", stubborn], checkpoint=slow))
    until(cluster, team, "stubborn", "Running")
    cluster.until("its program", lambda: "ready" in trainyard(cluster, "logs", "tj/stubborn", "-n", team, check=False).stdout, 40)
    cluster.apply(manifest(team, "after", "one", 1))
    until(cluster, team, "after", "Waiting QuotaUsed")
    cluster.kubectl("-n", team, "delete", "tj", "stubborn", "--wait=false")
    cluster.until("its end", lambda: not cluster.find("-n", team, "trainingjob", "stubborn"), 20)
    # An operator that never saw the job learns it from its pods; one of the same name is another job.
    cluster.kubectl("-n", HOME, "rollout", "restart", "deployment/trainyard-operator")
    cluster.kubectl("-n", HOME, "rollout", "status", "deployment/trainyard-operator", "--timeout=60s")
    cluster.apply(manifest(team, "stubborn", "one", 1))
    pods = lambda: [  # noqa: E731
        it for it in cluster.get("-n", team, "pods", "-l", "trainyard.dev/job=stubborn")["items"]
        if it["status"]["phase"] not in ("Succeeded", "Failed") and it["metadata"].get("deletionTimestamp")
    ]
    held = 0
    while pods():
        held += 1
        phases = [status(cluster, team, name).get("phase", "Waiting") for name in ("after", "stubborn")]
        # All may change between the looks.
        assert phases == ["Waiting", "Waiting"] or not pods(), f"let in beside the pods of a deleted job: {phases}"
    assert held > 1, "its pods were gone at once, and nothing was seen"
    for name in ("after", "stubborn"):
        until(cluster, team, name, "Succeeded")


def test_what_was_lent_comes_back(cluster, team):
    cluster.apply(manifest(team, "guest", "borrower", 300))
    guest = until(cluster, team, "guest", "Running Admitted")
    assert "lent by its cohort" in condition(guest)["message"], guest
    assert shown(cluster, "borrower")["admitted"][0]["borrows"]
    cluster.apply(manifest(team, "owner", "lender", 2))
    until(cluster, team, "owner", "Succeeded")
    until(cluster, team, "guest", "Running Admitted")
    assert status(cluster, team, "guest")["attempts"] == 2
    cluster.kubectl("-n", team, "delete", "tj", "guest", "--wait=false")


def test_what_is_wrong_is_told(cluster, team):
    cluster.apply(manifest(team, "lost", "nowhere", 1), manifest(team, "large", "one", 1, workers={"count": 2}))
    lost = until(cluster, team, "lost", "Waiting NoSuchQueue", 20)
    assert "there is no queue `nowhere`" in condition(lost, "Stalled")["message"], lost
    large = until(cluster, team, "large", "Waiting ExceedsQuota", 20)
    assert "it asks for 200m of CPU" in condition(large, "Stalled")["message"], large
    # Fewer workers will do, so that it is let in as it is.
    cluster.apply(manifest(team, "large", "one", 6, workers={"count": 2, "min": 1}))
    assert "gave it 1 worker " in condition(until(cluster, team, "large", "Running Admitted"))["message"]
    until(cluster, team, "large", "Succeeded")


def test_a_job_grows_into_free_room_and_shrinks_for_a_more_important_one(cluster, team):
    cluster.apply(manifest(team, "beside", "two", 300))
    until(cluster, team, "beside", "Running Admitted")
    # What a change may cost is the grace for a checkpoint and 10 s for the pods: so long has room to be
    # free, and five times that long the job has to run before it grows.
    elastic = manifest(team, "elastic", "two", 0, workers={"count": 2, "min": 1}, retries=0)
    elastic["spec"] |= {
        "command": ["python3", "-c", TELLING], "args": ["--steps", "100000", "--pause", "0.05"],
        "checkpoint": {"path": "checkpoints", "uri": "pvc://store/elastic", "grace": "5s"},
    }

    def has(workers, attempt, seconds):
        def holds():
            found = status(cluster, team, "elastic")
            is_so = (found.get("activeWorkers"), found.get("attempts")) == (workers, attempt)
            return found if is_so and found["phase"] == "Running" else None

        return cluster.until(f"{workers} workers in attempt {attempt}", holds, seconds)

    def goes_on(size):
        def holds():
            text = trainyard(cluster, "logs", "tj/elastic", "-n", team, "--tail=-1").stdout
            return size in text and "goes on from step" in text

        cluster.until(f"its logs to tell that it goes on as {size}", holds, 30)

    def pods():
        return cluster.get("-n", team, "pods", "-l", "trainyard.dev/job=elastic,trainyard.dev/attempt")["items"]

    with store(cluster, team, STORE.with_name(f"{STORE.name}-queue")):
        cluster.apply(elastic)
        started = has(1, 1, 60)
        assert "gave it 1 worker " in condition(started)["message"], started
        cluster.kubectl("-n", team, "delete", "tj", "beside")
        grown = has(2, 2, 150)
        message = condition(grown)["message"]
        assert "it went from 1 to 2 workers, since there is room that nobody waits for" in message, grown
        goes_on("one of 2 of 2")
        cluster.until("the queue's status", lambda: shown(cluster, "two")["usage"][0]["used"] == "200m", 20)
        cluster.apply(manifest(team, "urgent", "two", 5, priority=5))
        shrunk = has(1, 3, 90)
        assert f"it went from 2 to 1 worker, which makes room for `{team}/urgent`" in condition(shrunk)["message"]
        until(cluster, team, "urgent", "Succeeded")
        assert (shrunk["failures"], shrunk["interruptions"]) == (0, 0), shrunk
        events = trainyard(cluster, "events", "elastic", "-n", team).stdout
        assert "Grown" in events and "Shrunk" in events and "Preempted" not in events, events
        goes_on("one of 1 of 1")
        cluster.kubectl("-n", team, "delete", "tj", "elastic")
        cluster.until("its pods to end", lambda: not pods(), 60)
