"""PyTorch, TensorFlow and JAX, with a worker on each node of a real cluster."""

import json
import os
import re
import time

import iris
import pytest
import python_image
from conftest import ROOT
from frameworks import python_with
from iris import install
from test_training import STORE, logs, manifest, phase, store, workers

pytestmark = pytest.mark.skipif(
    "TRAINYARD_LONG_TESTS" not in os.environ, reason="their images are large: run with TRAINYARD_LONG_TESTS=1"
)

PROGRAMS = ROOT / "tests/shared/training"


@pytest.fixture(scope="module")
def team(cluster, image, namespace):
    install(cluster, image)
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    with store(cluster, namespace):
        yield namespace
        cluster.kubectl("-n", namespace, "delete", "trainingjobs", "--all", check=False)
        iris.uninstall(cluster)


def with_module(cluster, folder, module, program):
    """Loads an image with the framework and the program; gives its name."""
    python, name = python_with(module), f"localhost/with-{module}:test"
    python_image.write(
        folder / "image.tar", name, {program: (PROGRAMS / program).read_bytes()}, python,
        [module, *{"torch": ["torch.distributed"], "jax": ["jax.experimental.multihost_utils"]}.get(module, [])],
    )
    cluster.xtask("load", str(folder / "image.tar"))
    (folder / "image.tar").unlink()
    return name


def job(namespace, name, image, command, *arguments, **spec):
    env = {
        "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        # See tests/local/test_frameworks.py: no rank's output goes elsewhere.
        "PET_REDIRECTS": "9:1", "PET_TEE": "9:1", "LOSSES": "/dev/stdout",
    }
    return manifest(namespace, name, **{
        "image": image, "command": command, "args": list(map(str, arguments)),
        "resources": {"cpu": "200m", "memory": "2Gi"},
        "env": [{"name": key, "value": value} for key, value in env.items()], **spec,
    })


def losses(text):
    """By step, of what the first rank printed."""
    return dict(json.loads(found) for found in re.findall(r"\[\d+, \d[^]\n]*\]$", text, re.MULTILINE))


def test_pytorch_goes_on_as_if_nothing_had_been(cluster, team, tmp_path):
    program, spec = "torch_train.py", {"framework": "pytorch", "processesPerWorker": 2}
    image = with_module(cluster, tmp_path, "torch", program)
    cluster.apply(job(team, "calm", image, ["python3", program], 200, 4, **spec))
    phase(cluster, team, "calm", "Succeeded", 240)
    assert {pod["spec"]["nodeName"] for pod in workers(cluster, team, "calm")} == {"node-1", "node-2"}
    text = logs(cluster, team, "calm")
    calm = losses(text)
    assert "trained 200 steps on 4 ranks" in text and sorted(calm) == list(range(200)), text
    assert calm[199] < calm[0] / 2
    # Steps long enough that it is in the middle of them when its worker goes, and that a checkpoint stays
    # as it is for the 5 s after which a lone file counts as whole.
    torchrun = ["python3", "-m", "torch.distributed.run", program]
    cluster.apply(job(team, "broken", image, torchrun, 200, 4, 0.1, 80, **spec))
    cluster.until("a checkpoint in the store", lambda: list((STORE / "broken/steps").rglob("*.json")), 240)
    victim = next(pod["metadata"]["name"] for pod in workers(cluster, team, "broken") if "-1-1-" in pod["metadata"]["name"])
    cluster.kubectl("-n", team, "delete", "pod", victim, "--grace-period=0", "--force")
    status = phase(cluster, team, "broken", "Succeeded", 240)["status"]
    assert status["interruptions"] == 1 and status["failures"] == 0, status
    rest = losses(logs(cluster, team, "broken"))
    print(f"went on from step {min(rest)}, after {status['attempts']} attempts")
    assert min(rest) in (80, 160) and max(rest) == 199
    # Gloo's sums may differ in the last bits by the order in which ranks come.
    for step, loss in rest.items():
        assert loss == pytest.approx(calm[step], rel=1e-4), step


@pytest.mark.parametrize(
    ("module", "program", "says"),
    [("tensorflow", "tensorflow_train.py", "trained on 2"), ("jax", "jax_sum.py", "summed over 2")],
)
def test_others(cluster, team, tmp_path, module, program, says):
    image = with_module(cluster, tmp_path, module, program)
    begun = time.monotonic()
    cluster.apply(job(team, module, image, ["python3", program], framework=module, checkpoint=None))
    phase(cluster, team, module, "Succeeded", 240)
    print(f"{module}: {time.monotonic() - begun:.0f} s")
    assert {pod["spec"]["nodeName"] for pod in workers(cluster, team, module)} == {"node-1", "node-2"}
    assert says in logs(cluster, team, module)
