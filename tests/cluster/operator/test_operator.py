"""What an operator does for one service, on a real cluster."""

import subprocess
import time

import pytest

import audit
from api import condition, owned, path, until
from conftest import AGNHOST, TRAINYARD, Operator, kubectl

DEPLOYMENT = "deployments"


def writes(operator, seconds=6):
    """How often the operator writes in so many seconds."""
    before = operator.metric("trainyard_operator_writes_total")
    time.sleep(seconds)
    return operator.metric("trainyard_operator_writes_total") - before


def test_a_service_becomes_ready_and_costs_nothing_then(api, operator, services, namespace):
    services.server(scaling={"min": 2})
    service = until("a ready service", lambda: services.is_ready(replicas=2), 90)
    status = service["status"]
    assert status["url"] == f"http://iris.{namespace}.svc"
    assert status["replicas"] == 2 and "trainyard.dev/service=iris" in status["selector"]
    assert [revision["traffic"] for revision in status["revisions"]] == [100]
    assert {kind: condition(service, kind)["status"] for kind in ("Progressing", "Degraded", "Stalled")} == {
        "Progressing": "False", "Degraded": "False", "Stalled": "False",
    }
    for item in owned(api, namespace).values():
        owner = item["metadata"]["ownerReferences"][0]
        assert (owner["uid"], owner["controller"]) == (service["metadata"]["uid"], True)
    # What others do to the Deployment's own status may still be on its way.
    until("silence", lambda: writes(operator, 3) == 0)
    counted = ("modelservices", "deployments", "services", "serviceaccounts", "networkpolicies", "poddisruptionbudgets")
    start = audit.ended()
    assert writes(operator) == 0
    found = audit.writes(start, audit.ended(), namespace)
    assert [audit.told(line) for line in found if line["objectRef"]["resource"] in counted] == []
    # Neither after a restart, whether it ended in order or not.
    for end in (operator.stop, operator.kill):
        end()
        operator.start()
        until("the lease", operator.leads, 40)
        time.sleep(3)
        assert operator.metric("trainyard_operator_writes_total") == 0
    events = kubectl("-n", namespace, "get", "events.events.k8s.io", "-o", "name", "--field-selector", "regarding.kind=ModelService,reason=Serving")
    assert len(events.split()) == 1


def test_drift_is_repaired_and_what_is_of_others_stays(api, operator, services, namespace):
    services.server()
    until("a ready service", services.is_ready, 90)
    deployment = path(DEPLOYMENT, namespace, "iris")
    api.merge(deployment, {
        "metadata": {"annotations": {"someone.else/note": "stays"}, "labels": {"someone": "else"}},
        "spec": {"replicas": 3, "template": {"metadata": {"annotations": {"injected": "yes"}}}},
    })
    until("the repair", lambda: api.get(deployment)["spec"]["replicas"] == 1)
    api.merge(path("services", namespace, "iris"), {"spec": {"selector": {"trainyard.dev/track": "none"}}})
    until("the selector", lambda: api.get(path("services", namespace, "iris"))["spec"]["selector"]["trainyard.dev/track"] == "stable")
    api.delete(path("networkpolicies", namespace, "iris"))
    until("the policy", lambda: api.find(path("networkpolicies", namespace, "iris")))
    # Without our label it is out of sight, and ours still.
    api.merge(deployment, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}})
    until("the label", lambda: api.get(deployment)["metadata"]["labels"].get("app.kubernetes.io/managed-by") == "trainyard")
    seen = api.get(deployment)
    assert seen["metadata"]["annotations"]["someone.else/note"] == "stays"
    assert seen["metadata"]["labels"]["someone"] == "else"
    assert seen["spec"]["template"]["metadata"]["annotations"]["injected"] == "yes"
    assert operator.metric("trainyard_operator_drift_repaired_total") >= 2
    until("a ready service", services.is_ready, 90)
    until("silence", lambda: writes(operator) == 0)


def test_fields_and_objects_that_are_not_wanted_any_more_go(api, operator, services, namespace):
    services.server(scaling={"min": 2}, arguments=["--delay-shutdown=0"])
    until("a ready service", lambda: services.is_ready(replicas=2), 90)
    assert api.find(path("poddisruptionbudgets", namespace, "iris"))
    services.server(scaling={"min": 1})
    until("no budget", lambda: api.find(path("poddisruptionbudgets", namespace, "iris")) is None)
    container = lambda: api.get(path(DEPLOYMENT, namespace, "iris"))["spec"]["template"]["spec"]["containers"][0]
    until("no argument", lambda: not container().get("args"))
    until("a ready service", lambda: services.is_ready(replicas=1), 90)


def test_an_autoscaler_takes_over_and_gives_back(api, operator, services, namespace):
    services.server(scaling={"min": 3})
    until("a ready service", lambda: services.is_ready(replicas=3), 90)
    deployment = path(DEPLOYMENT, namespace, "iris")
    least = []
    services.server(scaling={"min": 2, "max": 4, "cpu": "70%"})
    def scaled():
        least.append(api.get(deployment)["spec"]["replicas"])
        return api.find(path("horizontalpodautoscalers", namespace, "iris"))
    until("an autoscaler", scaled)
    for _ in range(20):
        scaled()
        time.sleep(0.1)
    # The replicas that there were stay until the autoscaler decides.
    assert min(least) >= 2, least
    # What it decides is left alone.
    kubectl("-n", namespace, "scale", "deployment", "iris", "--replicas=4")
    time.sleep(3)
    assert api.get(deployment)["spec"]["replicas"] == 4
    services.server(scaling={"min": 1})
    until("one replica", lambda: api.get(deployment)["spec"]["replicas"] == 1)
    until("no autoscaler", lambda: api.find(path("horizontalpodautoscalers", namespace, "iris")) is None)


def test_scale_is_a_subresource(api, operator, services, namespace):
    services.server()
    until("a ready service", services.is_ready, 90)
    kubectl("-n", namespace, "scale", "modelservice", "iris", "--replicas=2")
    until("two replicas", lambda: services.is_ready(replicas=2), 60)
    kubectl("-n", namespace, "scale", "ms", "iris", "--replicas=0")
    until("none", lambda: condition(services.get(), "Ready")["reason"] == "ScaledToZero")


BROKEN = {
    "image": ({"image": "localhost/not-there:1"}, "ImagePullFailed", "localhost/not-there:1"),
    "crash": ({"command": ["/agnhost", "no-such-command"]}, "CrashLoop", "no-such-command"),
    "command": ({"command": ["/nope"]}, "ContainerStartFailed", "/nope"),
    "room": ({"resources": {"cpu": "900", "memory": "64Mi"}}, "Unschedulable", "Insufficient cpu"),
    "probe": ({"command": ["/agnhost", "pause"]}, "ProbeFailing", "probe failed"),
    "place": ({"placement": {"nodeSelector": {"no": "node"}}}, "Unschedulable", "nodeSelector"),
}


def test_broken_releases_leave_the_old_ones_and_say_why(api, operator, services, namespace):
    for name in BROKEN:
        services.server(name)
    first = {
        name: until("a ready service", lambda: services.is_ready(name), 120)["status"]["revision"]
        for name in BROKEN
    }
    started = time.monotonic()
    for name, (change, _, _) in BROKEN.items():
        services.server(name, **change)
    told = {}

    def all_told():
        for name, (_, reason, words) in BROKEN.items():
            service = services.get(name)
            seen = [condition(service, kind) for kind in ("Progressing", "Stalled")]
            if name not in told and any(c["reason"] == reason and words in c["message"] for c in seen):
                told[name] = time.monotonic() - started, service
        return len(told) == len(BROKEN)

    try:
        until("all causes", all_told, 60)
    except AssertionError as error:
        raise AssertionError(f"nothing was told of {set(BROKEN) - set(told)}") from error
    for name, (took, service) in told.items():
        reason = BROKEN[name][1]
        print(f"{name}: told after {took:.1f} s: {condition(service, 'Degraded')['message']}")
        assert took < 30, f"{name}: told after {took:.0f} s"
        assert service["status"]["revision"] == first[name]
        assert service["status"]["readyReplicas"] == 1
        assert condition(service, "Degraded")["status"] == "True", service["status"]
        if reason not in ("Unschedulable", "ProbeFailing"):
            assert condition(service, "Stalled")["reason"] == reason
    for name in BROKEN:
        if name == "place":
            # Where replicas run is no part of a revision.
            services.server(name)
        else:
            subprocess.run([TRAINYARD, "rollback", name, "--namespace", namespace], check=True)

    def is_back(name):
        service = services.is_ready(name)
        done = service and condition(service, "Progressing")["status"] == "False"
        return done and service["status"]["revision"] == first[name]

    for name in BROKEN:
        until("the first revision again", lambda: is_back(name), 90)


def test_quota_and_missing_secrets(api, operator, services, namespace):
    kubectl("-n", namespace, "create", "quota", "none", "--hard=pods=0")
    services.server()
    until("QuotaExceeded", lambda: condition(services.get(), "Stalled")["reason"] == "QuotaExceeded", 30)
    kubectl("-n", namespace, "delete", "quota", "none")
    runtime = {
        "name": "custom", "image": AGNHOST, "command": ["/agnhost", "pause"],
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}],
    }
    services.apply("other", model={"uri": "pvc://model/m"}, runtime=runtime, resources={"cpu": "20m", "memory": "64Mi"})
    until("the missing secret", lambda: 'secret "keys" not found' in condition(services.get("other"), "Stalled")["message"], 30)
    services.apply("volume", model={"uri": "pvc://nowhere/m"}, runtime={**runtime, "env": []}, resources={"cpu": "20m", "memory": "64Mi"})
    until("the missing claim", lambda: "nowhere" in condition(services.get("volume"), "Ready")["message"], 30)


def test_an_invalid_spec_and_a_foreign_object(api, operator, services, namespace):
    services.apply(model={"uri": "file://./m"})
    seen = until("InvalidSpec", lambda: condition(services.get(), "Stalled")["reason"] == "InvalidSpec" and services.get())
    assert "`spec.model.uri" in condition(seen, "Stalled")["message"]
    kubectl("-n", namespace, "create", "serviceaccount", "taken")
    services.server("taken")
    until("NameConflict", lambda: condition(services.get("taken"), "Stalled")["reason"] == "NameConflict")
    untouched = api.get(path("serviceaccounts", namespace, "taken"))
    assert "labels" not in untouched["metadata"] and "ownerReferences" not in untouched["metadata"]
    kubectl("-n", namespace, "delete", "serviceaccount", "taken")
    # Nothing tells us of what is not ours; the next try is by back-off.
    until("a ready service", lambda: services.is_ready("taken"), 120)


def test_without_a_gateway_a_canary_is_a_rolling_update(api, operator, services, namespace):
    canary = {"strategy": "canary"}
    services.server(rollout=canary)
    first = until("a ready service", services.is_ready, 90)["status"]["revision"]
    services.server(rollout=canary, arguments=["--delay-shutdown=1"])
    until("the new revision", lambda: services.is_ready() and services.get()["status"]["revision"] != first, 90)
    service = services.get()
    degraded = condition(service, "Degraded")
    assert degraded["status"] == "True" and degraded["reason"] == "NotInEffect", degraded
    assert "`spec.rollout.strategy` is not in effect" in degraded["message"]
    assert "rollout" not in service["status"]


def test_deletion_leaves_nothing(api, operator, services, namespace):
    services.server(scaling={"min": 2})
    until("a ready service", lambda: services.is_ready(replicas=2), 90)
    services.delete()
    until("nothing", lambda: not owned(api, namespace), 60)
    operator.kill()
    services.server("alone")
    services.delete("alone")
    until("nothing", lambda: services.get("alone") is None)


def test_another_operator_goes_on(api, services, namespace, tmp_path):
    first, second = Operator(namespace, tmp_path).start(), Operator(namespace, tmp_path).start()
    try:
        until("a leader", lambda: first.leads() or second.leads(), 30)
        leader, other = (first, second) if first.leads() else (second, first)
        services.server()
        until("a ready service", services.is_ready, 90)
        assert not other.leads()
        started = time.monotonic()
        leader.stop()
        until("the other one", other.leads, 30, 0.05)
        print(f"handed over after {time.monotonic() - started:.2f} s")
        assert other.metric("trainyard_operator_writes_total") == 0
        leader.start()
        started = time.monotonic()
        other.kill()
        until("the first one", leader.leads, 40, 0.05)
        print(f"taken over after {time.monotonic() - started:.1f} s")
        services.server(scaling={"min": 2})
        until("two replicas", lambda: services.is_ready(replicas=2), 60)
    finally:
        first.kill()
        second.kill()


def test_history_is_bounded_and_numbers_are_known(api, operator, services, namespace):
    for number in range(14):
        services.server(arguments=[f"--delay-shutdown={number}"], replicas=0)
        generation = services.get()["metadata"]["generation"]
        until("the status", lambda: services.get().get("status", {}).get("observedGeneration") == generation)
    def kept():
        found = api.get(path("controllerrevisions", namespace))["items"]
        return sorted(item["revision"] for item in found)
    until("eleven revisions", lambda: kept() == list(range(4, 15)))
    subprocess.run([TRAINYARD, "rollback", "iris", "--namespace", namespace, "--to", "7"], check=True)
    assert services.get()["spec"]["runtime"]["args"] == ["--delay-shutdown=6"]
    until("it is the newest", lambda: kept()[-1] == 15)
    failed = subprocess.run(
        [TRAINYARD, "rollback", "iris", "--namespace", namespace, "--to", "99"], capture_output=True, text=True
    )
    assert failed.returncode == 2 and "has no revision `99`" in failed.stderr
