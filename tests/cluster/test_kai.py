"""Gangs that the real KAI scheduler places: all or none of their workers, why they wait, and who makes room.

Runs where `TRAINYARD_TEST_KAI` names a folder with KAI's images and manifests (docs/cluster.md)."""

import os
import time

import handover
import pytest
from conftest import Cluster
from handover import TEAM, condition, delete, events, manifest, patch, placed, pods, shown, status
from iris import trainyard

VARIABLE = "TRAINYARD_TEST_KAI"
GROUPS = "podgroups.scheduling.run.ai"

pytestmark = pytest.mark.skipif(
    VARIABLE not in os.environ, reason=f"needs {VARIABLE}: a folder with KAI's images and manifests"
)


@pytest.fixture(scope="module")
def cluster():
    """One of its own: KAI reckons with the pods of a whole cluster."""
    with handover.cluster_with(VARIABLE, "-kai", "kai-scheduler") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def team(cluster, tmp_path_factory):
    cluster.apply(
        queue("all", None), queue("team-a", "all", cpu=400), queue("wide", "all"),
        {
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"},
            "value": 90, "description": "for tests",
        },
    )
    handover.install(cluster, tmp_path_factory.mktemp("image"))
    return TEAM


def queue(name, parent, cpu=-1):
    """A queue with so many thousandths of a CPU."""
    any_of_it = {"quota": -1, "limit": -1, "overQuotaWeight": 1}
    spec = {"resources": {"cpu": {**any_of_it, "quota": cpu, "limit": cpu}, "memory": any_of_it, "gpu": any_of_it}}
    if parent:
        spec["parentQueue"] = parent
    return {"apiVersion": "scheduling.run.ai/v2", "kind": "Queue", "metadata": {"name": name}, "spec": spec}


def until(cluster: Cluster, name, wanted, seconds=90, says=""):
    return handover.until(cluster, GROUPS, name, wanted, seconds, says)


def groups_of(cluster, name):
    all_of_them = cluster.get("-n", TEAM, GROUPS)["items"]
    return [it for it in all_of_them if it["metadata"]["ownerReferences"][0]["name"].startswith(f"{name}-")]


def no_group_of(cluster, name):
    cluster.until(f"the end of {name}'s PodGroups", lambda: not groups_of(cluster, name), 30)


def test_a_gang_waits_for_its_queue_and_says_why(cluster, team):
    cluster.apply(manifest("first", 300))
    has = until(cluster, "first", "Running Admitted")
    assert condition(has)["message"] == "KAI's Queue `team-a` let 2 workers of it start", has
    # The pod grouper goes up to the Job, and no further.
    (group,) = groups_of(cluster, "first")
    assert (group["spec"]["minMember"], group["spec"]["queue"]) == (2, "team-a"), group
    for pod in pods(cluster, "first"):
        annotations, labels = pod["metadata"]["annotations"], pod["metadata"]["labels"]
        assert (pod["spec"]["schedulerName"], labels["kai.scheduler/queue"]) == ("kai-scheduler", "team-a"), pod
        assert annotations["pod-group-name"] == group["metadata"]["name"], pod
    # The rest of the queue would do for one of its workers.
    cluster.apply(manifest("second", 2, cpu="150m"))
    waits = until(cluster, "second", "Waiting OverLimit")
    message = condition(waits)["message"]
    assert message.startswith("KAI's Queue `team-a` decides when it starts: ") and "Limit is 0.4 cores" in message, message
    assert condition(waits, "Progressing")["message"] == message and waits["attempts"] == 0, waits
    assert len(pods(cluster, "second")) == 2 and not placed(cluster, "second")
    seen = shown(cluster, "team-a")
    assert seen["by"] == "KAI" and [it["job"] for it in seen["admitted"]] == [f"{team}/first"], seen
    assert [(it["job"], it["reason"]) for it in seen["waiting"]] == [(f"{team}/second", "OverLimit")], seen
    assert message in trainyard(cluster, "describe", "tj/second", "-n", team).stdout
    # An operator that starts anew leaves it where it is in KAI's line.
    before = cluster.get("-n", team, "job", "second-1")["metadata"]["uid"]
    cluster.kubectl("-n", "trainyard", "rollout", "restart", "deployment/trainyard-operator")
    cluster.kubectl("-n", "trainyard", "rollout", "status", "deployment/trainyard-operator", "--timeout=60s")
    assert cluster.get("-n", team, "job", "second-1")["metadata"]["uid"] == before
    delete(cluster, "first")
    found = until(cluster, "second", "Succeeded")
    assert (found["attempts"], found["failures"], condition(found)["reason"]) == (1, 0, "Over"), found
    told = events(cluster, "second")
    assert "HandedOver" in told and "Admitted" in told and "CrashLoop" not in told, told
    no_group_of(cluster, "first")
    delete(cluster, "second")
    no_group_of(cluster, "second")


def test_not_even_half_a_gang_runs(cluster, team):
    most = handover.most_of_a_node(cluster)
    cluster.apply(handover.filler("node-1", most))
    cluster.until("the filler", lambda: cluster.get("-n", team, "pod", "filler")["status"]["phase"] == "Running", 60)
    cluster.apply(manifest("gang", 2, cpu=most, queue="wide"))
    until(cluster, "gang", "Waiting PodSchedulingErrors")
    # One of the two would fit all the while.
    for _ in range(10):
        assert not placed(cluster, "gang")
        time.sleep(1)
    cluster.kubectl("-n", team, "delete", "pod", "filler", "--grace-period=1")
    found = until(cluster, "gang", "Succeeded")
    assert (found["attempts"], found["failures"]) == (1, 0), found
    assert sorted(placed(cluster, "gang")) == ["node-1", "node-2"]


def test_who_makes_room_comes_back(cluster, team):
    cluster.apply(manifest("holder", 300, cpu="200m", retries=0))
    until(cluster, "holder", "Running Admitted")
    cluster.until("its workers", lambda: status(cluster, "holder")["activeWorkers"] == 2, 30)
    cluster.apply(manifest("sooner", 5, cpu="150m", priorityClass="urgent", priority=5))
    until(cluster, "holder", "Waiting")
    runs = until(cluster, "sooner", "Running Admitted")
    assert "`spec.priority` has no effect, since KAI goes by `spec.priorityClass`" in condition(runs, "Progressing")["message"], runs
    (group,) = groups_of(cluster, "sooner")
    assert group["spec"]["priorityClassName"] == "urgent", group
    until(cluster, "sooner", "Succeeded")
    found = until(cluster, "holder", "Running Admitted")
    assert (found["attempts"], found["failures"], found["interruptions"]) == (2, 0, 1), found
    for name in ("holder", "sooner"):
        delete(cluster, name)
    no_group_of(cluster, "holder")


def test_who_is_suspended_gives_its_room_back(cluster, team):
    cluster.apply(manifest("paused", 300, cpu="200m"))
    until(cluster, "paused", "Running Admitted")
    patch(cluster, "paused", suspend=True)
    until(cluster, "paused", "Suspended")
    no_group_of(cluster, "paused")
    # It has all of the queue.
    cluster.apply(manifest("between", 2, cpu="200m"))
    until(cluster, "between", "Succeeded")
    patch(cluster, "paused", suspend=False)
    found = until(cluster, "paused", "Running Admitted")
    assert (found["attempts"], found["failures"], found["interruptions"]) == (2, 0, 0), found
    # One that waits goes out of the line, too.
    cluster.apply(manifest("queued", 300, cpu="200m"))
    until(cluster, "queued", "Waiting OverLimit")
    patch(cluster, "queued", suspend=True)
    until(cluster, "queued", "Suspended")
    no_group_of(cluster, "queued")
    for name in ("paused", "queued", "between"):
        delete(cluster, name)
    no_group_of(cluster, "paused")


def test_gpus_are_given_to_all_or_none(cluster, team):
    gpus = {"queue": "wide", "resources": {"cpu": "100m", "memory": "64Mi", "gpu": {"count": 1}}}
    cluster.apply(manifest("cards", 300, **gpus))
    until(cluster, "cards", "Running Admitted")
    assert sorted(placed(cluster, "cards")) == ["node-1", "node-2"]
    cluster.apply(manifest("more", 2, **gpus))
    until(cluster, "more", "Waiting", says="GPU")
    assert not placed(cluster, "more")
    delete(cluster, "cards")
    until(cluster, "more", "Succeeded")
    delete(cluster, "more")


def test_fewer_workers_will_not_do_and_it_says_so(cluster, team):
    cluster.apply(manifest("elastic", 300, workers={"count": 3, "min": 1}, cpu="150m"))
    until(cluster, "elastic", "Waiting OverLimit")
    patch(cluster, "elastic", workers={"count": 2, "min": 1})
    runs = until(cluster, "elastic", "Running Admitted")
    assert "`spec.workers.min` has no effect, since KAI places all or none" in condition(runs, "Progressing")["message"], runs
    (group,) = groups_of(cluster, "elastic")
    assert group["spec"]["minMember"] == 2, group
    delete(cluster, "elastic")
    no_group_of(cluster, "elastic")


def test_plain_objects_are_a_gang_too(cluster, team):
    handover.plain_objects_are_a_gang_too(cluster, "kai")


def test_a_queue_may_come_later(cluster, team):
    # Where nobody says so it is no queue at all.
    cluster.apply(manifest("lost", 1, queue="other"), manifest("asks", 1, queue="other", queuedBy="kai"))
    lost = until(cluster, "lost", "Waiting NoSuchQueue", 20)
    assert "KAI has no Queue `other`" in condition(lost)["message"], lost
    until(cluster, "asks", "Waiting QueueDoesNotExist", 30)
    cluster.apply(queue("other", "all"))
    until(cluster, "lost", "Succeeded")
    until(cluster, "asks", "Succeeded")
