"""A node that serves is lost under load."""

import os
import time

import pytest

import iris as served
from iris import HOME, answered, gateway_on, install, manifest, on, ready, under_load

CLIENTS = 64

pytestmark = pytest.mark.skipif(
    "TRAINYARD_LONG_TESTS" not in os.environ, reason="takes minutes: run with TRAINYARD_LONG_TESTS=1"
)


@pytest.fixture(scope="module")
def iris(cluster, image, namespace):
    install(cluster, image)
    served.claim(cluster, namespace)
    cluster.apply(manifest(namespace))
    cluster.until("iris", lambda: ready(cluster, namespace))
    cluster.until("a route", lambda: answered(cluster))
    yield
    cluster.xtask("chaos", "restart-node", "node-2", check=False)
    served.remove(cluster, namespace)


def test_no_more_is_lost_with_a_node_than_what_was_in_flight_there(cluster, namespace, iris):
    cluster.until("a replica on each node", lambda: on(cluster, namespace) == {"node-1", "node-2"})
    address = cluster.until("a gateway on the other node", lambda: gateway_on(cluster, "node-1"))
    with under_load(cluster, "a node is killed", address, CLIENTS, lost=CLIENTS):
        # The clients are at it.
        time.sleep(3)
        killed_at = time.monotonic()
        cluster.xtask("chaos", "kill-node", "node-2")
    # The replica there counts as ready until its node is given up; the gateway goes around it.
    with under_load(cluster, "afterwards", address, CLIENTS):
        cluster.until("a node that is given up", lambda: not cluster.is_node_ready("node-2"), seconds=180)
        print(f"given up after {time.monotonic() - killed_at:.0f} s")
        cluster.until("two replicas", lambda: on(cluster, namespace) == {"node-1"}, seconds=300)
        print(f"whole again after {time.monotonic() - killed_at:.0f} s")
        gateways = lambda: cluster.ready_pods(HOME, "app.kubernetes.io/name=trainyard-gateway")
        cluster.until("two gateways", lambda: [pod["spec"]["nodeName"] for pod in gateways()] == ["node-1"] * 2)
    cluster.xtask("chaos", "restart-node", "node-2")
    cluster.until("the node", lambda: cluster.is_node_ready("node-2"))
    cluster.until("CoreDNS on it", lambda: len(cluster.ready_pods("kube-system", "k8s-app=kube-dns")) == 2)
