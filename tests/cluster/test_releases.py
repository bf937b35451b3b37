"""Revisions that take over in steps, and replicas that follow requests, in a cluster under load."""

import contextlib
import json
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from conftest import AGNHOST, ROOT, XTASK
from iris import BODY, HOME, INFER, gateway, install, rolled_out, trainyard

SCRIPT = pathlib.Path(__file__).parent / "under_load.py"
# Pins the version whose definitions are applied.
GATEWAY_API = ROOT / "tests/cluster/gateway-api"
OPERATOR = [
    # Demand is averaged over a minute in real life.
    "--operator-arg=--scaling-window=10s",
]


@pytest.fixture(scope="module")
def installed(cluster, image):
    install(cluster, image, *OPERATOR)
    yield
    trainyard(cluster, "uninstall", check=False)
    cluster.kubectl("delete", "namespace", HOME, "--wait=false", check=False)


@pytest.fixture
def team(cluster, installed, request):
    """A namespace with a claim that servers which need no model may name."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    cluster.kubectl("create", "namespace", name)
    cluster.apply(
        {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "storageClassName": "",
                "hostPath": {"path": "/tmp"}, "claimRef": {"namespace": name, "name": "model"},
            },
        },
        {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "model", "namespace": name},
            "spec": {
                "accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": name,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    )
    yield name
    cluster.kubectl("-n", name, "delete", "modelservices", "--all", "--wait=true", check=False)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    cluster.kubectl("delete", "pv", name, "--wait=false")


def apply(cluster, namespace, says, code=200, **spec):
    """A service whose server answers every request with this word."""
    spec.setdefault("replicas", 2)
    answer = f"/echo?msg=%22{says}%22&code={code}"
    cluster.apply(
        {
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
            "metadata": {"name": "iris", "namespace": namespace},
            "spec": {
                "model": {"uri": "pvc://model/m"},
                "runtime": {
                    "name": "custom", "image": AGNHOST,
                    "command": ["/agnhost", "netexec", "--http-port=$(PORT)", "--udp-port=-1"],
                    "args": [f"--http-override={answer}"],
                },
                "resources": {"cpu": "20m", "memory": "64Mi"},
                **{name: value for name, value in spec.items() if value is not None},
            },
        }
    )


def status(cluster, namespace):
    service = cluster.get("-n", namespace, "modelservice", "iris")
    found = service.get("status", {})
    return found if found.get("observedGeneration") == service["metadata"]["generation"] else {}


def conditions(cluster, namespace):
    return {it["type"]: it for it in status(cluster, namespace).get("conditions", [])}


def is_settled(cluster, namespace):
    seen = conditions(cluster, namespace)
    return seen and seen["Ready"]["status"] == "True" and seen["Progressing"]["status"] == "False" and seen


def shares(cluster, namespace):
    """The share of requests of each track, and why."""
    rollout = status(cluster, namespace).get("rollout") or {}
    return rollout.get("reason"), {it["track"]: it["weight"] for it in rollout.get("tracks", [])}


def step(cluster, namespace, reason, weight):
    found, tracks = shares(cluster, namespace)
    return found == reason and tracks.get("candidate") == weight


class Clients:
    """Clients that never pause, and what they have counted so far."""

    def __init__(self, cluster, host):
        self.process = subprocess.Popen(
            [XTASK, "cluster", "--name", cluster.name, "exec", "--", sys.executable, str(SCRIPT),
             gateway(cluster), INFER, BODY, "64", "0", host],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    @property
    def now(self):
        return self.lines[-1] if self.lines else {"answered": 0, "lost": 0, "seen": {}, "failures": []}

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=120)
        self.reader.join(timeout=10)

    def over(self, seconds):
        """What was answered by whom in the next seconds."""
        before = self.now
        time.sleep(seconds)
        after = self.now
        return {who: count - before["seen"].get(who, 0) for who, count in after["seen"].items()}


@contextlib.contextmanager
def load(cluster, namespace):
    running = Clients(cluster, f"iris.{namespace}")
    try:
        cluster.until("an answer", lambda: running.now["answered"] > 0, 60)
        yield running
    finally:
        running.end()


def test_a_canary_takes_over_though_the_operator_is_killed(cluster, team):
    # Kubernetes' autoscaler has the replicas meanwhile, and these are busy.
    scaling = {"min": 2, "max": 3, "cpu": "70%"}
    apply(cluster, team, "a", replicas=None, scaling=scaling)
    cluster.until("the first revision", lambda: is_settled(cluster, team))
    with load(cluster, team) as clients:
        rollout = {"strategy": "canary", "steps": [25, 50], "pause": "5s", "abort": {"errorRate": "5%"}}
        apply(cluster, team, "b", rollout=rollout, replicas=None, scaling=scaling)
        cluster.until("a quarter", lambda: step(cluster, team, "CanaryStep", 25), 60)
        time.sleep(1)
        split = clients.over(2)
        all = split["a"] + split["b"]
        # Each request is a throw of a die: four standard deviations, however many a busy machine answers.
        assert abs(split["b"] / all - 0.25) < 4 * (0.25 * 0.75 / all) ** 0.5, split
        # As a node's end would. The other operator goes on.
        holder = cluster.get("-n", HOME, "lease", "trainyard-operator")["spec"]["holderIdentity"].split("_")[0]
        cluster.kubectl("-n", HOME, "delete", "pod", holder, "--force", "--grace-period=0")
        weights = []

        def over():
            weights.append(shares(cluster, team)[1].get("candidate", 100))
            return is_settled(cluster, team)

        cluster.until("the new revision alone", over, 120)
        assert weights == sorted(weights) and 50 in weights, weights
        time.sleep(1)
        assert set(who for who, count in clients.over(1).items() if count) == {"b"}
    assert clients.now["lost"] == 0, clients.now
    print(f"canary: {clients.now['answered']} answered, 0 lost, split {split}")
    assert list(shares(cluster, team)[1]) == ["stable"]
    scaler = cluster.get("-n", team, "horizontalpodautoscaler", "iris")
    assert scaler["spec"]["scaleTargetRef"]["name"] == "iris"
    deployments = [it["metadata"]["name"] for it in cluster.get("-n", team, "deployments")["items"]]
    assert deployments == ["iris"]


def test_a_canary_that_fails_is_given_up(cluster, team):
    apply(cluster, team, "a")
    cluster.until("the first revision", lambda: is_settled(cluster, team))
    first = status(cluster, team)["revision"]
    rollout = {"strategy": "canary", "steps": [20], "pause": "10m", "abort": {"errorRate": "5%"}}
    with load(cluster, team) as clients:
        before = clients.now
        apply(cluster, team, "b", code=500, rollout=rollout)
        stalled = cluster.until("the cause", lambda: given_up(cluster, team, "ErrorRateTooHigh"), 60)
        after = clients.now
        assert "of its" in stalled["message"] and "errorRate" in stalled["message"], stalled
        time.sleep(1)
        assert clients.over(2).keys() == {"a"}
        quiet = clients.now["lost"]
        time.sleep(1)
        assert clients.now["lost"] == quiet
    asked = after["answered"] + after["lost"] - before["answered"] - before["lost"]
    failed = clients.now["lost"]
    print(f"failing canary: {failed} of {asked} requests failed")
    assert 0 < failed <= 0.2 * asked + 64
    seen = status(cluster, team)
    assert seen["revision"] == first and seen["rollout"]["phase"] == "Aborted"
    events = cluster.get("-n", team, "events.events.k8s.io")["items"]
    assert any(it["reason"] == "ErrorRateTooHigh" and it["type"] == "Warning" for it in events)
    # One command goes back, and the same revision is not tried again before that.
    trainyard(cluster, "rollback", "iris", "-n", team)
    cluster.until("all is well", lambda: is_settled(cluster, team))
    assert status(cluster, team)["revision"] == first
    # Nor may one be slow: no answer to 64 clients is as quick as this asks for.
    rollout = {"strategy": "canary", "steps": [20], "pause": "10m", "abort": {"p99": "100us"}}
    with load(cluster, team) as clients:
        apply(cluster, team, "c", rollout=rollout)
        stalled = cluster.until("the cause", lambda: given_up(cluster, team, "LatencyTooHigh"), 60)
        assert "p99" in stalled["message"], stalled
        time.sleep(1)
        assert {who for who, count in clients.over(1).items() if count} == {"a"}
    assert clients.now["lost"] == 0, clients.now


def given_up(cluster, namespace, reason):
    stalled = conditions(cluster, namespace).get("Stalled")
    return stalled if stalled and stalled["reason"] == reason else None


def mirrored(cluster):
    """How many copies of requests the gateway's replicas have made."""
    total = 0
    for pod in cluster.ready_pods(HOME, "app.kubernetes.io/name=trainyard-gateway"):
        script = "import sys,urllib.request as r;print(r.urlopen(sys.argv[1],timeout=10).read().decode())"
        port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
        address = f"http://{pod['status']['podIP']}:{port}/metrics"
        for line in cluster.exec(sys.executable, "-c", script, address).stdout.splitlines():
            if line.startswith("trainyard_gateway_mirrored_total{"):
                total += float(line.rsplit(" ", 1)[1])
    return total


def test_blue_green_looks_first_and_switches_at_once_though_trainyard_is_upgraded(cluster, image, team):
    apply(cluster, team, "a")
    cluster.until("the first revision", lambda: is_settled(cluster, team))
    with load(cluster, team) as clients:
        apply(cluster, team, "b", rollout={"strategy": "blueGreen", "pause": "8s", "mirror": "20%"})
        cluster.until("copies", lambda: shares(cluster, team)[0] == "Mirroring", 60)
        copies = mirrored(cluster)
        assert {who for who, count in clients.over(2).items() if count} == {"a"}
        assert mirrored(cluster) > copies
        cluster.until("the switch", lambda: step(cluster, team, "Switched", 100), 60)
        time.sleep(1)
        assert {who for who, count in clients.over(1).items() if count} == {"b"}
        # The old one is there to take over again.
        assert len(cluster.ready_pods(team, "trainyard.dev/service=iris")) == 4
        # Another operator and other gateways go on where these are.
        trainyard(
            cluster, "install", "--image", image, "--image-pull-policy", "IfNotPresent", "--timeout", "3m",
            *OPERATOR, "--operator-arg=--scale-down-after=4m",
        )
        cluster.kubectl("-n", HOME, "rollout", "restart", "deployment/trainyard-gateway")
        rolled_out(cluster, HOME, "trainyard-gateway")
        cluster.until("the new revision alone", lambda: is_settled(cluster, team), 90)
    assert clients.now["lost"] == 0, clients.now
    print(f"blue-green: {clients.now['answered']} answered, 0 lost")


def test_replicas_follow_requests_and_go_to_zero(cluster, team):
    scaling = {"min": 0, "max": 3, "concurrency": 16, "scaleToZeroAfter": "5s"}
    apply(cluster, team, "a", replicas=None, scaling=scaling)
    cluster.until("the first replica", lambda: is_settled(cluster, team))
    zero = lambda: not cluster.get("-n", team, "pods", "-l", "trainyard.dev/service=iris")["items"]  # noqa: E731
    cluster.until("none", lambda: wanted(cluster, team) == 0, 60)
    cluster.until("no pod", zero, 90)
    begun = time.monotonic()
    with load(cluster, team) as clients:
        print(f"cold start: {time.monotonic() - begun:.1f} s")
        cluster.until("three replicas", lambda: len(cluster.ready_pods(team, "trainyard.dev/service=iris")) == 3, 60)
        clients.over(1)
    assert clients.now["lost"] == 0, clients.now
    print(f"from zero to three: {clients.now['answered']} answered, 0 lost")
    cluster.until("none again", lambda: wanted(cluster, team) == 0, 60)
    rest = lambda: conditions(cluster, team).get("Ready", {})  # noqa: E731
    cluster.until("rest", lambda: rest()["reason"] == "ScaledToZero" and rest()["status"] == "True", 30)


def wanted(cluster, namespace):
    return cluster.get("-n", namespace, "deployment", "iris")["spec"].get("replicas")


def test_a_route_of_the_gateway_api(cluster, image, installed):
    found = subprocess.run(
        ["go", "mod", "download", "-json", "sigs.k8s.io/gateway-api"],
        cwd=GATEWAY_API, check=True, capture_output=True, text=True, timeout=300,
    )
    folder = pathlib.Path(json.loads(found.stdout)["Dir"]) / "config/crd/standard"
    for plural in ("gateways", "httproutes"):
        cluster.kubectl("apply", "--server-side", "-f", folder / f"gateway.networking.k8s.io_{plural}.yaml")
        name = f"{plural}.gateway.networking.k8s.io"
        # `kubectl wait` gives up where there are no conditions yet.
        cluster.until(name, lambda: "Established" in json.dumps(cluster.get("crd", name)["status"].get("conditions")))
    trainyard(
        cluster, "install", "--image", image, "--image-pull-policy", "IfNotPresent", "--timeout", "3m",
        *OPERATOR, "--route", "infra/public",
    )
    spec = cluster.get("-n", HOME, "httproute", "trainyard-gateway")["spec"]
    assert spec["parentRefs"][0]["name"] == "public" and spec["parentRefs"][0]["namespace"] == "infra"
    assert spec["rules"][0]["backendRefs"][0]["name"] == "trainyard-gateway"
    # Without a gateway of ours each service has its own.
    manifest = {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
        "metadata": {"name": "routed", "namespace": "default"},
        "spec": {"model": {"uri": "s3://models/iris.onnx"}},
    }
    rendered = trainyard(
        cluster, "render", "-f", "-", "-n", "default", "--api", "gateway.networking.k8s.io/v1",
        "--route", "infra/public", stdin=json.dumps(manifest),
    ).stdout
    assert "HTTPRoute" in rendered
    cluster.kubectl("apply", "-f", "-", stdin=rendered)
    rule = cluster.get("-n", "default", "httproute", "routed")["spec"]["rules"][0]
    assert rule["matches"][0]["path"]["value"] == "/default/routed"
    cluster.kubectl("delete", "-f", "-", "--wait=false", stdin=rendered)
