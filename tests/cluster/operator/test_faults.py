"""An operator that is killed at random requests, behind a proxy that breaks what it can, comes to the
very state of one that nobody disturbs.

TRAINYARD_FAULT_RUNS says how many times, each with another seed; TRAINYARD_FAULT_SEED with which to
begin.
"""

import json
import os
import random
import threading
import time
import uuid

import pytest

import audit
from api import OWNED, condition, content, owned, path, until
from conftest import AGNHOST, Operator, Services, kubectl
from proxy import Faults, Proxy

RUNS = int(os.environ.get("TRAINYARD_FAULT_RUNS", "2"))
FIRST = int(os.environ.get("TRAINYARD_FAULT_SEED", "1"))
NAMES = ["ant", "bee", "cat", "dog"]
STEPS = 24
KILLS = 4


def script(seed):
    """What is done to services, the same for whoever asks with that seed."""
    chance = random.Random(seed)
    steps = []
    for _ in range(STEPS):
        name = chance.choice(NAMES)
        what = chance.choice(["apply"] * 6 + ["delete", "drift", "remove"])
        scaling = chance.choice([{"min": 1}, {"min": 2}, {"min": 2, "max": 5, "cpu": "70%"}])
        steps.append((what, name, chance.randrange(5), scaling, chance.random()))
    return steps


def play(services, steps, pause):
    for what, name, number, scaling, chance in steps:
        deployment = path("deployments", services.namespace, name)
        if what == "apply":
            services.server(
                name, arguments=[f"--delay-shutdown={number}"], scaling=scaling,
                # Pods that never start cost the test's machine nothing.
                placement={"nodeSelector": {"no": "node"}},
            )
        elif what == "delete":
            services.delete(name)
        elif what == "drift":
            if services.api.find(deployment):
                template = {"spec": {"containers": [{"name": "server", "image": "localhost/drift:1"}]}}
                body = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": template}}
                try:
                    services.api.apply(deployment, body, "someone")
                except Exception:  # It went in between.
                    pass
        else:
            for resource in chance > 0.5 and ("services", "deployments") or ("networkpolicies",):
                services.api.delete(path(resource, services.namespace, name))
        time.sleep(pause)


def state(api, namespace):
    """All that two runs must have in common."""
    objects = content(owned(api, namespace))
    services = api.get(path("modelservices", namespace))["items"]
    revisions = {
        item["metadata"]["labels"]["trainyard.dev/revision"]
        for (resource, _), item in objects.items()
        if resource == "deployments"
    }
    shown = {}
    for (resource, name), item in objects.items():
        if resource == "controllerrevisions" and name not in revisions:
            # A revision that was asked for while no operator ran was never there.
            continue
        if resource == "deployments" and ("horizontalpodautoscalers", name) in objects:
            # What replicas there were when the autoscaler came depends on time.
            item["spec"].pop("replicas")
        shown[f"{resource}/{name}"] = item
    for service in services:
        conditions = {c["type"]: (c["status"], c["reason"]) for c in service.get("status", {}).get("conditions", ())}
        is_current = service.get("status", {}).get("observedGeneration") == service["metadata"]["generation"]
        shown[f"status/{service['metadata']['name']}"] = [conditions, is_current]
    return json.loads(json.dumps(shown).replace(namespace, "NAMESPACE"))


def settled(api, operator, namespace, patience):
    """The state once the operator has written nothing for two seconds."""
    deadline = time.monotonic() + patience
    last = "it never answered"
    while time.monotonic() < deadline:
        try:
            before = operator.metric("trainyard_operator_writes_total")
            seen = state(api, namespace)
            time.sleep(2)
            depth = operator.metric("workqueue_depth")
            wrote = operator.metric("trainyard_operator_writes_total") - before
            leads = operator.leads()
            last = f"{depth} wait, {wrote} writes in 2 s, leads: {leads}"
            if depth == 0 and wrote == 0 and leads:
                if seen == state(api, namespace):
                    return seen
                last += ", what it made has changed"
        except OSError as error:
            last = f"no answer: {error}"
            time.sleep(0.2)
    running = operator.process.poll() is None
    why = f"{last}; is running: {running}, is ready: {running and operator.is_ready()}"
    raise AssertionError(f"no rest within {patience} s: {why}\n{operator.log.read_text()[-4000:]}")


@pytest.fixture
def spaces():
    names = [f"ty-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        kubectl("create", "namespace", name)
    yield names
    for name in names:
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_faults_change_nothing_in_the_end(api, spaces, tmp_path, seed):
    calm_space, rough_space = spaces
    steps = script(seed)
    chance = random.Random(seed)
    faults = Faults(seed, refuse=0.15, swallow=0.08, delay=0.1, cut_watch=0.5)
    moment = random.Random(-seed)
    # Requests after its start at which the operator is killed, one for each life.
    kills = [moment.randrange(12, 60) for _ in range(KILLS)]
    lived = [0]
    kubeconfig = tmp_path / "proxy.kubeconfig"
    rough = Operator(rough_space, tmp_path, kubeconfig=kubeconfig)
    calm = Operator(calm_space, tmp_path, rights=False)
    killed = threading.Event()

    def kill(number, method, target):
        lived[0] += 1
        if kills and lived[0] >= kills[0] and not killed.is_set():
            kills.pop(0)
            lived[0] = 0
            rough.process.kill()
            killed.set()

    proxy = Proxy(api, faults, kill)
    kubeconfig.write_text(json.dumps(proxy.kubeconfig()))
    over = threading.Event()

    def revive():
        while not over.is_set():
            if killed.wait(0.1):
                rough.process.wait()
                # A killed one's Lease would take 15 s to run out; that is another test's matter.
                api_of_thread = type(api)()
                api_of_thread.delete(f"/apis/coordination.k8s.io/v1/namespaces/{rough_space}/leases/trainyard-operator")
                rough.start(wait=False)
                lived[0] = 0
                killed.clear()

    reviver = threading.Thread(target=revive)
    try:
        calm.start()
        rough.start(wait=False)
        reviver.start()
        play(Services(api, calm_space), steps, 0)
        play(Services(api, rough_space), steps, chance.random() * 0.4)
        until("the kills", lambda: not kills and not killed.is_set(), 300)
        faults.refuse = faults.swallow = faults.delay = faults.cut_watch = 0
        expected = settled(api, calm, calm_space, 180)
        # What failed last may still wait for its next attempt, which no counter shows.
        deadline = time.monotonic() + 180
        while (seen := settled(api, rough, rough_space, 180)) != expected and time.monotonic() < deadline:
            expected = settled(api, calm, calm_space, 180)
        assert seen == expected
        assert rough.number == KILLS + 1
        assert_no_orphan(api, rough_space)
        audit.rest(calm_space, rough_space)
    finally:
        over.set()
        reviver.join()
        calm.kill()
        rough.kill()
        proxy.close()


@pytest.fixture
def late(api, namespace, tmp_path):
    """An operator whose watches are late: the answers to its writes of a status have specs that were
    changed in the moment before, of which the watch tells later, when they look old."""
    proxy = Proxy(api, Faults(1, lag=0.6))
    kubeconfig = tmp_path / "proxy.kubeconfig"
    kubeconfig.write_text(json.dumps(proxy.kubeconfig()))
    operator = Operator(namespace, tmp_path, kubeconfig=kubeconfig)
    try:
        yield operator.start()
    finally:
        operator.kill()
        proxy.close()


def told(resource):
    """Its status, if that is of the newest spec."""
    status = resource.get("status", {})
    return status if status.get("observedGeneration") == resource["metadata"]["generation"] else None


def test_a_change_beside_a_write_of_the_operator_is_seen(api, services, namespace, late):
    # Of these specs nothing is made: no change of an object wakes who has missed one of the spec.
    for number in range(3):
        services.apply(model={"uri": f"file://./{number}"})
        time.sleep(0.45)
        services.apply(model={"uri": f"file://./{number}0"})
        until("the newest spec's status", lambda: told(services.get()), 20)
    for number in range(4):
        # It is told of the first when the second is there, and then writes what it has done.
        services.server(arguments=[f"--delay-shutdown={number}"], replicas=0)
        time.sleep(0.45)
        services.server(arguments=[f"--delay-shutdown={number}0"], replicas=0)
        until("the newest spec's status", lambda: told(services.get()), 20)
        deployment = api.get(path("deployments", namespace))["items"][0]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["args"][-1] == f"--delay-shutdown={number}0"


def test_a_job_that_is_suspended_beside_a_write_of_the_operator_is(api, namespace, late):
    job = path("trainingjobs", namespace, "line")

    def suspend(is_wanted):
        spec = {
            "framework": "generic", "image": AGNHOST, "command": ["/agnhost", "pause"], "suspend": is_wanted,
            # Pods that never start cost the test's machine nothing.
            "placement": {"nodeSelector": {"no": "node"}},
        }
        api.apply(job, {
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": "line", "namespace": namespace}, "spec": spec,
        })

    def phase():
        return (told(api.get(job)) or {}).get("phase")

    for _ in range(3):
        suspend(False)
        time.sleep(0.45)
        suspend(True)
        until("the suspension", lambda: phase() == "Suspended", 20)
        suspend(False)
        until("the start", lambda: phase() not in (None, "Suspended"), 20)


def assert_no_orphan(api, namespace):
    for resource in OWNED:
        for item in api.get(path(resource, namespace))["items"]:
            owners = item["metadata"].get("ownerReferences", ())
            if item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "trainyard":
                alive = Services(api, namespace).get(owners[0]["name"])
                assert alive and alive["metadata"]["uid"] == owners[0]["uid"], "an orphan"
