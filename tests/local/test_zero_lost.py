"""No request is lost: 64 clients that never pause, through everything that is planned and one murder."""

import os
import signal
import time

import numpy as np
import pytest

import zoo as model_zoo
from load import Load

PATH = "/v2/models/simple/infer"
BODY = (
    b'{"inputs":['
    b'{"name":"INPUT0","shape":[1,16],"datatype":"INT32","data":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]},'
    b'{"name":"INPUT1","shape":[1,16],"datatype":"INT32","data":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}'
    b'],"outputs":[{"name":"OUTPUT0"}]}'
)
SUM = np.arange(16) + 1


def release(answer):
    """The release that gave this answer: each adds its number to every element."""
    number = answer["outputs"][0]["data"][0] - 1
    return int(number) if (answer["outputs"][0]["data"] == SUM + number).all() else None


@pytest.fixture
def service(yard):
    """Two replicas of release 0; `ship(n)` puts release n in the manifest's place."""

    def ship(number, replicas=2):
        model = yard.folder / f"release-{number}"
        if not model.exists():
            model.mkdir()
            model_zoo.sum_difference(model, number, model)
        manifest = yard.folder / "simple.yaml"
        staged = yard.folder / "simple.yaml.new"
        staged.write_text(
            "apiVersion: trainyard.dev/v1alpha1\n"
            "kind: ModelService\n"
            "metadata: {name: simple}\n"
            "spec:\n"
            f"  model: {{uri: 'file://{model}'}}\n"
            f"  scaling: {{min: {replicas}, max: {replicas}}}\n"
        )
        staged.rename(manifest)
        return manifest

    yard.up(ship(0))
    yard.ship = ship
    return yard


def load(yard):
    return Load(yard.address, PATH, BODY, release)


def serves(yard, number):
    """Waits until this release alone answers."""

    def asked():
        status, answer = yard.get(PATH, __import__("json").loads(BODY))
        return status == 200 and release(answer) == number

    yard.until(lambda: asked() and all(asked() for _ in range(20)))


def ready(yard, replicas):
    def all_ready():
        service = yard.status()["services"][0]
        ready = [one for one in service["replicas"] if one["state"] == "ready"]
        return len(ready) == replicas and len(service["replicas"]) == replicas and ready

    return yard.until(all_ready)


def test_planned_events_lose_nothing(service):
    ready(service, 2)
    with load(service) as clients:
        time.sleep(1)
        service.ship(100)  # A changed manifest is a rolling update.
        serves(service, 100)
        service.run("rollback", "simple")
        serves(service, 0)
        service.run("scale", "simple", "1")
        ready(service, 1)
        service.run("scale", "simple", "2")
        ready(service, 2)
        service.run("restart", "--gateway")
        time.sleep(2)
        ready(service, 2)
        time.sleep(1)
    assert clients.failures == []
    assert set(clients.seen) == {0, 100} and clients.answered > 500


def test_a_killed_replica_loses_nothing_that_can_be_sent_again(service):
    victims = ready(service, 2)
    with load(service) as clients:
        time.sleep(1)
        os.kill(victims[0]["pid"], signal.SIGKILL)
        time.sleep(1)
        after = ready(service, 2)
        time.sleep(1)
    assert victims[0]["pid"] not in [one["pid"] for one in after]
    assert clients.failures == []


def test_a_broken_release_takes_no_traffic(service):
    ready(service, 2)
    with load(service) as clients:
        broken = service.folder / "release-7"
        broken.mkdir()
        (broken / "model.onnx").write_bytes(b"not a model")
        service.ship(7)
        service.until(
            lambda: any("model.onnx" in str(event) for event in service.status()["services"][0]["events"])
        )
        time.sleep(1)
    assert clients.failures == [] and set(clients.seen) == {0}
