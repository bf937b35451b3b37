"""Training jobs with the frameworks themselves, where this machine has them."""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from custom import eventually
from test_jobs import Jobs, jobs  # noqa: F401  (a fixture)

HERE = pathlib.Path(__file__).parent


@functools.cache
def python_with(module):
    """An interpreter that has a module: this one, or the system's (Debian's python3-torch)."""
    named = os.environ.get(f"TRAINYARD_TEST_{module.upper()}_PYTHON")
    for python in [named, sys.executable, "/usr/bin/python3"]:
        if python and shutil.which(python):
            if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0:
                return python
    pytest.skip(f"no Python here has {module}")


def losses(jobs):
    lines = (jobs.root / "losses.jsonl").read_text().splitlines()
    return [tuple(json.loads(line)) for line in lines]


def torch_job(jobs, launcher, steps, name="net"):
    shutil.copy(HERE / "torch_train.py", jobs.root)
    python = python_with("torch")
    command = {
        "agent": [python, "torch_train.py", steps, "4"],
        "torchrun": [python, "-m", "torch.distributed.run", "torch_train.py", steps, "4"],
    }[launcher]
    more = "  processesPerWorker: 2\n  checkpoint: {path: %s}" % f"out-{launcher}"
    if launcher == "torchrun":
        # PyTorch 1.13, which is Debian's, does not find its own default `0` under Python 3.11; this
        # says the same of each rank.
        more += "\n  env: [{name: PET_REDIRECTS, value: '9:1'}, {name: PET_TEE, value: '9:1'}]"
    return jobs.write(list(map(str, command)), name=name, framework="pytorch", more=more)


@pytest.mark.parametrize("launcher", ["agent", "torchrun"])
def test_pytorch_on_four_ranks(jobs, launcher):  # noqa: F811
    jobs.run("up", torch_job(jobs, launcher, 60))
    assert "trained 60 steps on 4 ranks" in jobs.run("logs", "net")
    curve = losses(jobs)
    assert [step for step, _ in curve] == list(range(60))
    assert curve[-1][1] < curve[0][1] / 2


def test_an_interrupted_training_ends_where_an_undisturbed_one_does(jobs):  # noqa: F811
    jobs.run("up", torch_job(jobs, "agent", 100, name="calm"))
    calm = dict(losses(jobs))
    (jobs.root / "losses.jsonl").unlink()
    shutil.rmtree(jobs.root / "out-agent")
    jobs.run("up", "-d", torch_job(jobs, "agent", 100))
    for least in [15, 45]:
        eventually(lambda: len((jobs.root / "losses.jsonl").read_text().splitlines() or []) > least
                   if (jobs.root / "losses.jsonl").exists() else False)
        programs = jobs.programs()
        if programs:
            os.kill(programs[least % len(programs)], signal.SIGKILL)
        attempts = jobs.job("net")["attempts"]
        eventually(lambda: jobs.job("net")["attempts"] > attempts or jobs.job("net")["isOver"])
    job = jobs.over("net")
    assert job["phase"] == "Succeeded" and job["failures"] >= 1
    # The same data in the same order: what is computed again comes out the same. Gloo's sums may
    # differ in the last bits by the order in which ranks come.
    for step, loss in losses(jobs):
        assert loss == pytest.approx(calm[step], rel=1e-4), step


def test_mpi_starts_its_ranks(jobs):  # noqa: F811
    if not shutil.which("mpirun"):
        pytest.skip("no mpirun here")
    script = "echo rank ${OMPI_COMM_WORLD_RANK:-$PMI_RANK} of ${OMPI_COMM_WORLD_SIZE:-$PMI_SIZE}"
    jobs.run("up", jobs.write(["sh", "-c", script], framework="mpi", workers=2, more="  processesPerWorker: 2"))
    log = jobs.run("logs", "line")
    assert sorted(line.split("rank")[1] for line in log.splitlines() if "rank" in line) == [
        f" {rank} of 4" for rank in range(4)
    ]


TENSORFLOW = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    slope = tf.Variable(0.0)

@tf.function
def step(x):
    def replica(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((slope * x - 3 * x) ** 2)
        gradient = tf.distribute.get_replica_context().all_reduce("mean", tape.gradient(loss, slope))
        slope.assign_sub(0.5 * gradient)
        return loss
    return strategy.reduce("mean", strategy.run(replica, (x,)), axis=None)

losses = [float(step(tf.random.stateless_uniform((64,), (1, turn)))) for turn in range(40)]
assert losses[-1] < losses[0] / 10, losses
print("trained on", strategy.num_replicas_in_sync, flush=True)
"""

JAX = """
import os
import jax
jax.distributed.initialize(num_processes=int(os.environ["JAX_NUM_PROCESSES"]), process_id=int(os.environ["JAX_PROCESS_ID"]))
assert jax.process_count() == 2, jax.process_count()
from jax.experimental import multihost_utils
total = multihost_utils.process_allgather(jax.numpy.array([jax.process_index() + 1.0]))
assert float(total.sum()) == 3.0
print("summed over", jax.process_count(), flush=True)
"""


@pytest.mark.parametrize(("module", "program", "says"), [("tensorflow", TENSORFLOW, "trained on 2"), ("jax", JAX, "summed over 2")])
def test_others_on_two_workers(jobs, module, program, says):  # noqa: F811
    python = python_with(module)
    (jobs.root / "program.py").write_text(program)
    more = "  env: [{name: CUDA_VISIBLE_DEVICES, value: '-1'}, {name: JAX_PLATFORMS, value: cpu}, {name: JAX_CPU_COLLECTIVES_IMPLEMENTATION, value: gloo}]"
    jobs.run("up", jobs.write([python, "program.py"], framework=module, more=more))
    assert says in jobs.run("logs", "line")
