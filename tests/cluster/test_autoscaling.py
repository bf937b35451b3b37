"""Kubernetes' autoscaler on the CPU that replicas really use."""

import os
import time

import pytest

import iris as served
from iris import answered, install, manifest, ready, under_load

MOST = 4

pytestmark = pytest.mark.skipif(
    "TRAINYARD_LONG_TESTS" not in os.environ, reason="takes minutes: run with TRAINYARD_LONG_TESTS=1"
)


@pytest.fixture(scope="module")
def iris(cluster, image, namespace):
    # Five minutes would be waited for; all else is as users have it.
    install(cluster, image, "--operator-arg=--scale-down-after=15s")
    served.claim(cluster, namespace)
    cluster.apply(manifest(namespace, replicas=None, scaling={"min": 2, "max": MOST, "cpu": "70%"}))
    cluster.until("iris", lambda: ready(cluster, namespace))
    cluster.until("a route", lambda: answered(cluster))
    yield
    served.remove(cluster, namespace)


def test_replicas_follow_the_load_and_nothing_is_lost(cluster, namespace, iris):
    replicas = lambda: len(cluster.ready_pods(namespace, "trainyard.dev/service=iris"))
    cluster.until("the least replicas", lambda: replicas() == 2)
    began = time.monotonic()
    with under_load(cluster, f"2 to {MOST} replicas"):
        cluster.until("all replicas", lambda: replicas() == MOST, seconds=300)
    print(f"{MOST} replicas after {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    with under_load(cluster, f"{MOST} to 2 replicas", clients=2, pause=0.2):
        cluster.until("two replicas", lambda: replicas() == 2 and ready(cluster, namespace), seconds=400)
    print(f"2 replicas after {time.monotonic() - began:.0f} s")
