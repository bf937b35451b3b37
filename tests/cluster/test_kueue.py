"""Jobs that the real Kueue lets in: why they wait, who makes room, and what fewer workers learn."""

import json
import os
import pathlib
import shutil

import iris
import pytest
import python_image
from conftest import IMAGE as ARCHIVE, IMAGE_NAME, ROOT, Cluster
from iris import trainyard

pytestmark = pytest.mark.skipif(
    "TRAINYARD_LONG_TESTS" not in os.environ, reason="Kueue takes minutes to build: run with TRAINYARD_LONG_TESTS=1"
)

IMAGE = "localhost/train-line:test"
STORE = pathlib.Path("/tmp/trainyard-kueue-checkpoints")
TEAM = "team"
# A program that ends when it is told to.
SLEEP = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep({})"
)


@pytest.fixture(scope="module")
def cluster():
    """One of its own: Kueue looks at the Jobs of a whole cluster."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    cluster = Cluster(os.environ.get("TRAINYARD_TEST_CLUSTER", "tests") + worker + "-kueue")
    cluster.xtask("up", "--replace", "--kueue", timeout=2700)
    try:
        yield cluster
    finally:
        cluster.xtask("down")


@pytest.fixture(scope="module")
def team(cluster, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "train.tar"
    python_image.write(path, IMAGE, {"train.py": (ROOT / "examples/train-line/train.py").read_bytes()})
    cluster.xtask("load", ARCHIVE)
    cluster.xtask("load", str(path))
    shutil.rmtree(STORE, ignore_errors=True)
    STORE.mkdir()
    # Owners of files in a folder of a node are not changed for a pod.
    STORE.chmod(0o777)
    cluster.kubectl("create", "namespace", TEAM)
    volume, claim = iris.volume(TEAM, "store")
    volume["spec"]["hostPath"]["path"] = str(STORE)
    for spec in (volume["spec"], claim["spec"]):
        spec["accessModes"] = ["ReadWriteMany"]
    flavor = {"name": "any", "resources": [
        {"name": "cpu", "nominalQuota": "200m"}, {"name": "memory", "nominalQuota": "2Gi"},
    ]}
    cluster.apply(
        volume, claim,
        kueue("ResourceFlavor", "any"),
        kueue("ClusterQueue", "all", spec={
            "namespaceSelector": {},
            "resourceGroups": [{"coveredResources": ["cpu", "memory"], "flavors": [flavor]}],
            "preemption": {"withinClusterQueue": "LowerPriority"},
        }),
        kueue("WorkloadPriorityClass", "urgent", value=10, description="for tests"),
        kueue("LocalQueue", "team-a", TEAM, spec={"clusterQueue": "all"}),
    )
    iris.install(cluster, IMAGE_NAME)
    yield TEAM
    shutil.rmtree(STORE, ignore_errors=True)


def kueue(kind, name, namespace=None, **fields):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": metadata, **fields}


def manifest(name, seconds, cpu="100m", **spec):
    """A job of the queue; what is None is left out."""
    whole = {
        "framework": "generic", "image": IMAGE, "command": ["python3", "-c", SLEEP.format(seconds)],
        "resources": {"cpu": cpu, "memory": "64Mi"}, "queue": "team-a", **spec,
    }
    return {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name, "namespace": TEAM},
        "spec": {field: value for field, value in whole.items() if value is not None},
    }


def status(cluster, name):
    return cluster.get("-n", TEAM, "trainingjob", name).get("status", {})


def condition(found, kind="QuotaReserved"):
    return next((it for it in found.get("conditions", []) if it["type"] == kind), {})


def until(cluster, name, wanted, seconds=90):
    """Waits for a phase, and for the reason of `QuotaReserved`, if one is named."""
    phase, _, reason = wanted.partition(" ")

    def holds():
        found = status(cluster, name)
        is_so = found.get("phase") == phase and (not reason or condition(found).get("reason") == reason)
        return found if is_so else None

    try:
        return cluster.until(f"{name} to be {wanted}", holds, seconds)
    except AssertionError as error:
        there = cluster.kubectl("-n", TEAM, "get", "jobs,workloads", "-o", "yaml", check=False).stdout
        raise AssertionError(f"{error}\n{json.dumps(status(cluster, name), indent=1)}\n{there}") from error


def finished(cluster, name, starts, seconds=90):
    """Waits until a job has finished, after so many starts; gives its events."""
    found = until(cluster, name, "Succeeded", seconds)
    events = trainyard(cluster, "events", name, "-n", TEAM).stdout
    counts = found["attempts"], found["failures"], found["interruptions"]
    assert counts == (starts, 0, 0), f"{json.dumps(found, indent=1)}\n{events}"
    return events


def logs(cluster, name):
    return trainyard(cluster, "logs", f"tj/{name}", "-n", TEAM, "--tail=-1").stdout


def shown(cluster):
    return json.loads(trainyard(cluster, "queue", "team-a", "-o", "json").stdout)[0]


def test_a_job_waits_for_quota_and_says_whose(cluster, team):
    cluster.apply(manifest("first", 300, cpu="200m"))
    has = condition(until(cluster, "first", "Running Admitted"))
    assert has["message"] == "Kueue's LocalQueue `team-a` let 1 worker of it start on the quota of `all`", has
    cluster.apply(manifest("second", 1, cpu="200m"))
    waits = until(cluster, "second", "Waiting Pending")
    message = condition(waits)["message"]
    assert message.startswith("Kueue's LocalQueue `team-a` decides when it starts: "), message
    assert "insufficient" in message and "cpu" in message, message
    assert condition(waits, "Progressing")["message"] == message and waits["attempts"] == 0, waits
    # Its Job is there, as Kueue wants it, and no pod.
    job = cluster.get("-n", team, "job", "second-1")
    assert job["spec"]["suspend"] and job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a", job
    assert not cluster.get("-n", team, "pods", "-l", "trainyard.dev/job=second")["items"]
    seen = shown(cluster)
    assert (seen["by"], seen["namespace"]) == ("Kueue", team), seen
    assert [(it["job"], it["pool"]) for it in seen["admitted"]] == [(f"{team}/first", "all")], seen
    assert [(it["job"], it["reason"]) for it in seen["waiting"]] == [(f"{team}/second", "Pending")], seen
    assert "Kueue's LocalQueue `team-a` in `team`" in trainyard(cluster, "queue").stdout
    assert message in trainyard(cluster, "describe", "tj/second", "-n", team).stdout
    # An operator that starts anew leaves it where it is in Kueue's line.
    before = job["metadata"]["uid"]
    cluster.kubectl("-n", iris.HOME, "rollout", "restart", "deployment/trainyard-operator")
    cluster.kubectl("-n", iris.HOME, "rollout", "status", "deployment/trainyard-operator", "--timeout=60s")
    assert cluster.get("-n", team, "job", "second-1")["metadata"]["uid"] == before
    cluster.kubectl("-n", team, "delete", "tj", "first", "--wait=false")
    events = finished(cluster, "second", 1)
    assert condition(status(cluster, "second"))["reason"] == "Over", status(cluster, "second")
    assert "HandedOver" in events and "Admitted" in events, events


def test_who_makes_room_goes_on_from_its_checkpoint(cluster, team):
    line = {
        "command": ["python3", "train.py"], "args": ["--steps", "200", "--pause", "0.05"], "workers": {"count": 2},
        "checkpoint": {"path": "checkpoints", "uri": "pvc://store/low", "grace": "10s"}, "retries": 0,
    }
    cluster.apply(manifest("low", 0, **line))
    cluster.until("a checkpoint in the store", lambda: list((STORE / "low/steps").glob("step-*")), 60)
    cluster.apply(manifest("high", 2, priority=10))
    job = cluster.until("its Job", lambda: cluster.find("-n", team, "job", "high-1"), 20)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "urgent", job
    until(cluster, "low", "Waiting")
    until(cluster, "high", "Succeeded")
    events = finished(cluster, "low", 2)
    text = logs(cluster, "low")
    resumed = [int(line.split()[-1]) for line in text.splitlines() if "goes on from step" in line]
    assert len(resumed) == 2 and len(set(resumed)) == 1 and resumed[0] >= 20, text
    assert "Preempted" in events and "as Kueue says" in events, events


def test_fewer_workers_know_how_many_they_are(cluster, team):
    tells = "import os; print('one of', os.environ['TRAINYARD_WORKERS'], os.environ['WORLD_SIZE'])"
    # A job that has ended holds its quota until Kueue has seen that.
    queue = lambda: cluster.get("clusterqueue", "all")["status"]  # noqa: E731
    cluster.until("a queue that nobody holds", lambda: not queue().get("reservingWorkloads"), 30)
    cluster.apply(manifest("part", 0, command=["python3", "-c", tells], workers={"count": 4, "min": 1}))
    events = finished(cluster, "part", 1)
    assert logs(cluster, "part").count("one of 2 2") == 2, logs(cluster, "part")
    assert "let 2 workers of it start" in events, events


def test_what_was_taken_out_waits_for_a_person(cluster, team):
    cluster.apply(manifest("held", 300))
    until(cluster, "held", "Running Admitted")
    workload = lambda: cluster.get("-n", team, "workloads")["items"]  # noqa: E731
    (name,) = [
        it["metadata"]["name"] for it in workload() if it["metadata"]["ownerReferences"][0]["name"] == "held-1"
    ]
    activate = lambda value: cluster.kubectl(  # noqa: E731
        "-n", team, "patch", "workload", name, "--type=merge", "-p", json.dumps({"spec": {"active": value}})
    )
    activate(False)
    held = until(cluster, "held", "Waiting Deactivated")
    assert condition(held, "Stalled")["status"] == "True" and held["failures"] == 0, held
    activate(True)
    found = until(cluster, "held", "Running Admitted")
    assert (found["attempts"], found["failures"], found["interruptions"]) == (2, 0, 0), found
    # A person's own end takes it out of the queue.
    cluster.kubectl("-n", team, "patch", "tj", "held", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    until(cluster, "held", "Suspended")
    cluster.until("the end of its Workload", lambda: not [it for it in workload() if "held" in it["metadata"]["name"]], 30)


def test_whose_queue_it_is_can_be_said(cluster, team):
    cluster.apply(manifest("ours", 1, queuedBy="trainyard"), manifest("theirs", 1, queuedBy="volcano"))
    ours = until(cluster, "ours", "Waiting NoSuchQueue", 20)
    assert "there is no queue `team-a`" in condition(ours)["message"], ours
    theirs = cluster.until("a word about Volcano", lambda: condition(status(cluster, "theirs"), "Stalled").get("status") == "True" and status(cluster, "theirs"), 20)
    message = condition(theirs, "Stalled")["message"]
    assert "`spec.queuedBy`" in message and "scheduling.volcano.sh" in message, message
    cluster.apply(manifest("ours", 1, queuedBy="kueue"))
    until(cluster, "ours", "Succeeded")
