"""NetworkPolicies are enforced, between pods of one node and of two, by standard semantics."""

import concurrent.futures
import itertools

import pytest

from conftest import AGNHOST, labelled

# Pods: three names in two namespaces, on two nodes, each listening at two TCP ports and a UDP port.
NAMES = ["a", "b", "c"]
PORTS = {"80": "tcp", "81": "tcp"}


def listener(port, protocol):
    return {
        "name": f"{protocol}-{port}",
        "image": AGNHOST,
        "imagePullPolicy": "Never",
        "command": ["/agnhost", "serve-hostname", f"--{protocol}", "--http=false", f"--port={port}"],
        "ports": [{"name": f"serve-{port}-{protocol}", "containerPort": int(port), "protocol": protocol.upper()}],
        "readinessProbe": {"tcpSocket": {"port": int(port)}, "periodSeconds": 1},
    }


class World:
    def __init__(self, cluster, namespaces):
        self.cluster, self.namespaces = cluster, namespaces
        pods = {}
        for namespace in namespaces:
            for pod in cluster.get("-n", namespace, "pods")["items"]:
                pods[namespace[-1] + "/" + pod["metadata"]["name"]] = pod
        self.pods = pods

    def connects(self, source, target, port="80"):
        pod = self.pods[source]
        address = self.pods[target]["status"]["podIP"]
        done = self.cluster.kubectl(
            "exec", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"], "-c", "tcp-80", "--",
            "/agnhost", "connect", f"{address}:{port}", "--timeout=1s", "--protocol=tcp", check=False,
        )
        return done.returncode == 0

    def expect(self, allowed, port="80"):
        """Compares every pair with what is allowed; looks again until rules had time to arrive."""
        pairs = list(itertools.product(self.pods, self.pods))
        deadline = 6
        for attempt in range(deadline):
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                seen = dict(zip(pairs, pool.map(lambda pair: self.connects(*pair, port), pairs)))
            wrong = {pair: is_open for pair, is_open in seen.items() if is_open != allowed(*pair)}
            if not wrong:
                return
        raise AssertionError(f"port {port}: {wrong} after {deadline} looks")

    def policy(self, namespace, spec):
        name = self.namespaces[0] if namespace == "x" else self.namespaces[1]
        self.cluster.apply(labelled("NetworkPolicy", "networking.k8s.io/v1", name, "policy", spec))


@pytest.fixture(scope="module")
def world(cluster, namespace):
    namespaces = [f"{namespace}-x", f"{namespace}-y"]
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"ns": name[-1]}}}
        for name in namespaces
    ]
    for at, (name, pod) in enumerate(itertools.product(namespaces, NAMES)):
        spec = {
            "containers": [listener(port, protocol) for port, protocol in PORTS.items()],
            # Of two neighbours in the list one is on each node.
            "nodeName": f"node-{at % 2 + 1}",
            "terminationGracePeriodSeconds": 1,
        }
        objects.append(labelled("Pod", "v1", name, pod, spec))
    cluster.apply(*objects)
    for name in namespaces:
        cluster.until("pods", lambda: len(cluster.ready_pods(name, "app in (a,b,c)")) == len(NAMES))
    yield World(cluster, namespaces)
    cluster.kubectl("delete", "namespace", *namespaces, "--wait=false")


@pytest.fixture(autouse=True)
def no_policies(world):
    yield
    for namespace in world.namespaces:
        world.cluster.kubectl("-n", namespace, "delete", "networkpolicy", "--all")


def select(**labels):
    return {"matchLabels": labels}


def test_all_is_open_without_a_policy(world):
    world.expect(lambda source, target: True)


def test_default_deny_ingress(world):
    world.policy("x", {"podSelector": {}, "policyTypes": ["Ingress"]})
    # A pod always reaches itself: that packet is never forwarded.
    world.expect(lambda source, target: not target.startswith("x/") or source == target)


def test_default_deny_egress(world):
    world.policy("x", {"podSelector": {}, "policyTypes": ["Egress"]})
    world.expect(lambda source, target: not source.startswith("x/") or source == target)


def test_a_pod_of_a_chosen_namespace_at_a_port(world):
    world.policy("x", {
        "podSelector": select(app="a"),
        "ingress": [{
            "from": [{"namespaceSelector": select(ns="y"), "podSelector": select(app="b")}],
            "ports": [{"port": 81}],
        }],
    })
    world.expect(lambda source, target: target != "x/a" or source == target)
    world.expect(lambda source, target: target != "x/a" or source in ("x/a", "y/b"), port="81")


def test_a_named_port(world):
    world.policy("x", {
        "podSelector": select(app="a"),
        "ingress": [{"ports": [{"port": "serve-81-tcp"}]}],
    })
    world.expect(lambda source, target: target != "x/a" or source == target)
    world.expect(lambda source, target: True, port="81")


def test_a_range_of_ports(world):
    world.policy("x", {
        "podSelector": select(app="a"),
        "ingress": [{"ports": [{"port": 81, "endPort": 90}]}],
    })
    world.expect(lambda source, target: target != "x/a" or source == target)
    world.expect(lambda source, target: True, port="81")


def test_a_block_of_addresses_with_an_exception(world):
    excepted = world.pods["y/b"]["status"]["podIP"]
    world.policy("x", {
        "podSelector": select(app="a"),
        "egress": [{"to": [{"ipBlock": {"cidr": "10.244.0.0/16", "except": [f"{excepted}/32"]}}]}],
        "policyTypes": ["Egress"],
    })
    world.expect(lambda source, target: (source, target) != ("x/a", "y/b"))


def test_kubelets_probes_pass(world):
    """A closed pod stays ready: its node is let in."""
    world.policy("x", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    world.expect(lambda source, target: source == target or not (source + target).count("x/"))
    cluster, namespace = world.cluster, world.namespaces[0]
    # A probe a second, three of which may fail.
    before = restarts(cluster, namespace)
    cluster.until("time for probes to fail", lambda: probes_since(cluster, namespace), seconds=30)
    assert len(cluster.ready_pods(namespace, "app in (a,b,c)")) == len(NAMES)
    assert restarts(cluster, namespace) == before


def restarts(cluster, namespace):
    return [
        (pod["metadata"]["name"], status["restartCount"])
        for pod in cluster.get("-n", namespace, "pods")["items"]
        for status in pod["status"]["containerStatuses"]
    ]


def probes_since(cluster, namespace, seen={}):
    """True once every probe ran some five times more, by kubelet's own count."""
    total = 0
    for node in ("node-1", "node-2"):
        text = cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics/probes").stdout
        for line in text.splitlines():
            if line.startswith("prober_probe_total") and f'namespace="{namespace}"' in line:
                total += float(line.rsplit(" ", 1)[1])
    first = seen.setdefault(namespace, total)
    return total >= first + 5 * len(NAMES) * len(PORTS)
