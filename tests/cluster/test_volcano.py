"""Gangs that the real Volcano places: all or none of their workers, why they wait, and what is left of them.

Runs where `TRAINYARD_TEST_VOLCANO` names a folder with Volcano's images and manifests (docs/cluster.md)."""

import os
import time

import handover
import pytest
from conftest import Cluster
from handover import TEAM, condition, delete, events, manifest, patch, placed, pods, shown, status
from iris import trainyard

VARIABLE = "TRAINYARD_TEST_VOLCANO"
GROUPS = "podgroups.scheduling.volcano.sh"

pytestmark = pytest.mark.skipif(
    VARIABLE not in os.environ, reason=f"needs {VARIABLE}: a folder with Volcano's images and manifests"
)


@pytest.fixture(scope="module")
def cluster():
    """One of its own: Volcano reckons with the pods of a whole cluster."""
    with handover.cluster_with(VARIABLE, "-volcano", "volcano-system") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def team(cluster, tmp_path_factory):
    cluster.apply(
        queue("team-a", capability={"cpu": "400m", "memory": "4Gi"}),
        queue("wide"),
        {
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"},
            "value": 1000, "description": "for tests", "preemptionPolicy": "Never",
        },
    )
    handover.install(cluster, tmp_path_factory.mktemp("image"))
    return TEAM


def queue(name, **spec):
    metadata = {"name": name}
    return {"apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "metadata": metadata, "spec": {"weight": 1, **spec}}


def until(cluster: Cluster, name, wanted, seconds=90, says=""):
    return handover.until(cluster, GROUPS, name, wanted, seconds, says)


def groups(cluster):
    return [it["metadata"]["name"] for it in cluster.get("-n", TEAM, GROUPS)["items"]]


def no_group_of(cluster, name):
    cluster.until(f"the end of {name}'s PodGroups", lambda: not [it for it in groups(cluster) if it.startswith(f"{name}-")], 30)


def test_a_gang_waits_for_its_queue_and_says_why(cluster, team):
    cluster.apply(manifest("first", 300))
    has = until(cluster, "first", "Running Admitted")
    assert condition(has)["message"] == "Volcano's Queue `team-a` let 2 workers of it start", has
    group = cluster.get("-n", team, GROUPS, "first-1")
    spec = group["spec"]
    assert (spec["minMember"], spec["queue"], spec["minResources"]) == (2, "team-a", {"cpu": "200m", "memory": "128Mi"}), spec
    for pod in pods(cluster, "first"):
        annotations = pod["metadata"]["annotations"]
        assert (pod["spec"]["schedulerName"], annotations["scheduling.k8s.io/group-name"]) == ("volcano", "first-1"), pod
    cluster.until("Volcano to say that it runs", lambda: cluster.get("-n", team, GROUPS, "first-1")["status"]["phase"] == "Running", 20)
    # The rest of the queue would do for one of its workers.
    cluster.apply(manifest("second", 2, cpu="150m"))
    waits = until(cluster, "second", "Waiting NotEnoughResources", says="`capability`")
    message = condition(waits)["message"]
    assert message.startswith("Volcano's Queue `team-a` decides when it starts: ") and "`second-1`" in message, message
    assert condition(waits, "Progressing")["message"] == message and waits["attempts"] == 0, waits
    assert len(pods(cluster, "second")) == 2 and not placed(cluster, "second")
    seen = shown(cluster, "team-a")
    assert seen["by"] == "Volcano" and [it["job"] for it in seen["admitted"]] == [f"{team}/first"], seen
    assert [(it["job"], it["reason"]) for it in seen["waiting"]] == [(f"{team}/second", "NotEnoughResources")], seen
    assert "Volcano's Queue `team-a`" in trainyard(cluster, "queue").stdout
    assert message in trainyard(cluster, "describe", "tj/second", "-n", team).stdout
    # What its message sends people to.
    told = cluster.kubectl("-n", team, "get", "events", "--field-selector", "involvedObject.name=second-1").stdout
    assert "queue resource quota insufficient" in told, told
    # An operator that starts anew leaves it where it is in Volcano's line.
    before = [cluster.get("-n", team, kind, "second-1")["metadata"]["uid"] for kind in ("job", GROUPS)]
    cluster.kubectl("-n", "trainyard", "rollout", "restart", "deployment/trainyard-operator")
    cluster.kubectl("-n", "trainyard", "rollout", "status", "deployment/trainyard-operator", "--timeout=60s")
    assert [cluster.get("-n", team, kind, "second-1")["metadata"]["uid"] for kind in ("job", GROUPS)] == before
    delete(cluster, "first")
    found = until(cluster, "second", "Succeeded")
    assert (found["attempts"], found["failures"], condition(found)["reason"]) == (1, 0, "Over"), found
    told = events(cluster, "second")
    assert "HandedOver" in told and "Admitted" in told and "CrashLoop" not in told, told
    # Neither the one that was deleted nor the one that is over stands in Volcano's line.
    no_group_of(cluster, "first")
    no_group_of(cluster, "second")


def test_not_even_half_a_gang_runs(cluster, team):
    most = handover.most_of_a_node(cluster)
    cluster.apply(handover.filler("node-1", most))
    cluster.until("the filler", lambda: cluster.get("-n", team, "pod", "filler")["status"]["phase"] == "Running", 60)
    cluster.apply(manifest("gang", 2, cpu=most, queue="wide"))
    until(cluster, "gang", "Waiting NotEnoughResources", says="Insufficient cpu")
    # One of the two would fit all the while.
    for _ in range(10):
        assert not placed(cluster, "gang")
        time.sleep(1)
    cluster.kubectl("-n", team, "delete", "pod", "filler", "--grace-period=1")
    found = until(cluster, "gang", "Succeeded")
    assert (found["attempts"], found["failures"]) == (1, 0), found
    assert sorted(placed(cluster, "gang")) == ["node-1", "node-2"]


def test_the_more_important_goes_first(cluster, team):
    cluster.apply(manifest("holder", 300, cpu="200m"))
    until(cluster, "holder", "Running Admitted")
    cluster.apply(manifest("later", 3, cpu="150m"))
    until(cluster, "later", "Waiting NotEnoughResources")
    # A priority is another queue's affair, and it is said.
    cluster.apply(manifest("sooner", 3, cpu="150m", priorityClass="urgent", priority=5))
    until(cluster, "sooner", "Waiting NotEnoughResources")
    assert cluster.get("-n", team, GROUPS, "sooner-1")["spec"]["priorityClassName"] == "urgent"
    delete(cluster, "holder")
    runs = until(cluster, "sooner", "Running Admitted")
    assert "`spec.priority` has no effect, since Volcano goes by `spec.priorityClass`" in condition(runs, "Progressing")["message"], runs
    assert status(cluster, "later")["phase"] == "Waiting"
    until(cluster, "later", "Succeeded")


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
    assert groups(cluster) == ["paused-2"]
    # One that waits goes out of the line, too.
    cluster.apply(manifest("queued", 300, cpu="200m"))
    until(cluster, "queued", "Waiting NotEnoughResources")
    patch(cluster, "queued", suspend=True)
    until(cluster, "queued", "Suspended")
    no_group_of(cluster, "queued")
    for name in ("paused", "queued"):
        delete(cluster, name)
    no_group_of(cluster, "paused")


def test_gpus_are_given_to_all_or_none(cluster, team):
    gpus = {"queue": "wide", "resources": {"cpu": "100m", "memory": "64Mi", "gpu": {"count": 1}}}
    cluster.apply(manifest("cards", 300, **gpus))
    until(cluster, "cards", "Running Admitted")
    assert sorted(placed(cluster, "cards")) == ["node-1", "node-2"]
    cluster.apply(manifest("more", 2, **gpus))
    until(cluster, "more", "Waiting NotEnoughResources", says="by what the cluster has")
    assert not placed(cluster, "more")
    delete(cluster, "cards")
    until(cluster, "more", "Succeeded")
    delete(cluster, "more")


def test_each_start_is_a_gang_of_its_own(cluster, team):
    fails_once = "import os, sys; sys.exit(os.environ['TRAINYARD_ATTEMPT'] == '1')"
    cluster.apply(manifest("again", 0, command=["python3", "-c", fails_once]))
    found = until(cluster, "again", "Succeeded")
    assert (found["attempts"], found["failures"]) == (2, 1), found
    jobs = cluster.get("-n", team, "jobs", "-l", "trainyard.dev/job=again")["items"]
    named = {it["metadata"]["name"]: it["spec"]["template"]["metadata"]["annotations"] for it in jobs}
    assert {name: it["scheduling.k8s.io/group-name"] for name, it in named.items()} == {"again-1": "again-1", "again-2": "again-2"}
    no_group_of(cluster, "again")


def test_fewer_workers_will_not_do_and_it_says_so(cluster, team):
    cluster.apply(manifest("elastic", 300, workers={"count": 3, "min": 1}, cpu="150m"))
    until(cluster, "elastic", "Waiting NotEnoughResources")
    assert cluster.get("-n", team, GROUPS, "elastic-1")["spec"]["minMember"] == 3
    patch(cluster, "elastic", workers={"count": 2, "min": 1})
    runs = until(cluster, "elastic", "Running Admitted")
    assert "`spec.workers.min` has no effect, since Volcano places all or none" in condition(runs, "Progressing")["message"], runs
    assert cluster.get("-n", team, GROUPS, "elastic-1")["spec"]["minMember"] == 2
    delete(cluster, "elastic")
    no_group_of(cluster, "elastic")


def test_plain_objects_are_a_gang_too(cluster, team):
    handover.plain_objects_are_a_gang_too(cluster, "volcano")


def test_a_queue_may_come_later(cluster, team):
    # Where nobody says so it is no queue at all.
    cluster.apply(manifest("lost", 1, queue="other"), manifest("asks", 1, queue="other", queuedBy="volcano"))
    lost = until(cluster, "lost", "Waiting NoSuchQueue", 20)
    assert "Volcano has no Queue `other`" in condition(lost)["message"], lost
    # Volcano itself does not look at it, or its webhook refuses it.
    says = lambda: [it["message"] for it in status(cluster, "asks").get("conditions", []) if "Queue" in it["message"]]  # noqa: E731
    words = ("has that Queue", "unable to find queue")
    cluster.until("a word about the queue", lambda: [it for it in says() if any(word in it for word in words)], 40)
    cluster.apply(queue("other"))
    until(cluster, "lost", "Succeeded")
    until(cluster, "asks", "Succeeded")
