"""Training jobs with the frameworks themselves, where this machine has them."""

import json
import os
import pathlib
import shutil
import signal
import sys

import pytest
from custom import eventually
from frameworks import python_with
from test_jobs import Jobs, jobs  # noqa: F401  (a fixture)

PROGRAMS = pathlib.Path(__file__).parent.parent / "shared/training"


def losses(jobs):
    lines = (jobs.root / "losses.jsonl").read_text().splitlines()
    return [tuple(json.loads(line)) for line in lines]


def torch_job(jobs, launcher, steps, name="net"):
    shutil.copy(PROGRAMS / "torch_train.py", jobs.root)
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
    # Open MPI has a package for Python too, which puts it beside the interpreter.
    path = f"{pathlib.Path(sys.executable).parent}:{jobs.environment['PATH']}"
    assert shutil.which("mpirun", path=path)
    jobs.environment["PATH"] = path
    script = "echo rank ${OMPI_COMM_WORLD_RANK:-$PMI_RANK} of ${OMPI_COMM_WORLD_SIZE:-$PMI_SIZE}"
    jobs.run("up", jobs.write(["sh", "-c", script], framework="mpi", workers=2, more="  processesPerWorker: 2"))
    log = jobs.run("logs", "line")
    assert sorted(line.split("rank")[1] for line in log.splitlines() if "rank" in line) == [
        f" {rank} of 4" for rank in range(4)
    ]


@pytest.mark.parametrize(
    ("module", "program", "says"),
    [("tensorflow", "tensorflow_train.py", "trained on 2"), ("jax", "jax_sum.py", "summed over 2")],
)
def test_others_on_two_workers(jobs, module, program, says):  # noqa: F811
    python = python_with(module)
    shutil.copy(PROGRAMS / program, jobs.root)
    more = "  env: [{name: CUDA_VISIBLE_DEVICES, value: '-1'}, {name: JAX_PLATFORMS, value: cpu}, {name: JAX_CPU_COLLECTIVES_IMPLEMENTATION, value: gloo}]"
    jobs.run("up", jobs.write([python, program], framework=module, more=more))
    assert says in jobs.run("logs", "line")
