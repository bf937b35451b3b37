"""The Python package for programs that train, by itself and under the agent."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from custom import BINARY, eventually

PACKAGE = pathlib.Path(__file__).parents[2] / "python"
TRAINER = """
import math, pathlib, time
import trainyard
class Tensor:
    def __float__(self):
        return 0.25
for step in range(1, 100_000):
    trainyard.report(step, Tensor() if step % 2 else math.nan)
    if trainyard.should_checkpoint():
        assert not trainyard.should_checkpoint()
        (trainyard.checkpoint_path() / "saved").write_text(str(step))
        trainyard.report(step + 1, Tensor())
        break
    pathlib.Path("ready").touch()
    time.sleep(0.005)
print("restored", trainyard.restore_path())
"""


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")}
    return {**kept, "PYTHONPATH": str(PACKAGE / "src"), **more}


@pytest.mark.parametrize("signal", ["SIGUSR1", "SIGHUP"])
def test_it_asks_the_agent_and_tells_it(tmp_path, signal):
    (tmp_path / "trainer.py").write_text(TRAINER)
    report = tmp_path / "report.json"
    agent = subprocess.Popen(
        [
            BINARY, "agent", "run", "--report", report, "--checkpoint-signal", signal, "--checkpoint-path",
            "checkpoints", "--grace", "20s", "--", sys.executable, "trainer.py",
        ],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True,
    )
    try:
        eventually((tmp_path / "ready").exists)
        agent.terminate()
        said = agent.communicate(timeout=30)[0]
    finally:
        agent.kill()
    assert "restored None" in said
    saved = int((tmp_path / "checkpoints/saved").read_text())
    seen = json.loads(report.read_text())["seen"]
    # The last report is told though the one before was not long ago.
    assert (seen["step"], seen["loss"]) == (saved + 1, 0.25)


SAVES_WHEN_ASKED = """
import time
import trainyard
folder = trainyard.checkpoint_path()
for step in range(1, 100_000):
    time.sleep(0.02)
    assert not trainyard.should_stop()
    if trainyard.should_checkpoint():
        new = folder / f"tmp-step-{step}"
        new.mkdir()
        (new / "state").write_text(str(step))
        (new / "_SUCCESS").touch()
        new.rename(folder / f"step-{step}")
        print("saved", step, trainyard.should_stop(), flush=True)
        if trainyard.should_stop():
            break
"""


def test_it_is_asked_again_and_again_and_goes_on(tmp_path):
    (tmp_path / "trainer.py").write_text(SAVES_WHEN_ASKED)
    agent = subprocess.Popen(
        [
            BINARY, "agent", "run", "--checkpoint-signal", "SIGUSR1", "--checkpoint-path", "out", "--checkpoint-uri",
            f"file://{tmp_path}/store", "--checkpoint-interval", "5s", "--grace", "20s", "--", sys.executable, "trainer.py",
        ],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True,
    )
    try:
        eventually(lambda: len(list((tmp_path / "store/steps").glob("*/*/*.json"))) > 2)
        agent.terminate()
        said = agent.communicate(timeout=30)[0].splitlines()
    finally:
        agent.kill()
    assert agent.returncode == 143
    saved = [line.split() for line in said if line.startswith("saved")]
    # Those that were asked for on the way, after which it went on, and the last one.
    assert [it[2] for it in saved] == ["False"] * (len(saved) - 1) + ["True"], said
    assert (tmp_path / "store/steps" / f"step-{saved[-1][1]}").is_dir(), said


def test_without_trainyard_it_does_nothing(tmp_path):
    code = (
        "import signal, trainyard; trainyard.report(1, 0.5); "
        "print(trainyard.should_checkpoint(), trainyard.should_stop(), trainyard.restore_path(), trainyard.checkpoint_path(), "
        "signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False None None True\n"
    assert not any(tmp_path.iterdir())


def test_what_the_program_handles_stays_so(tmp_path):
    code = (
        "import signal; own = lambda *_: None; signal.signal(signal.SIGUSR1, own); "
        "import trainyard; print(signal.getsignal(signal.SIGUSR1) is own)"
    )
    variables = environment(TRAINYARD_CHECKPOINT_SIGNAL="SIGUSR1")
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_of_several_processes_the_first_is_heard(tmp_path):
    file = tmp_path / "beat"
    for variables, is_heard in [
        ({"TRAINYARD_LOCAL_RANK": "1"}, False),
        # The agent has started torchrun alone, as its first.
        ({"TRAINYARD_LOCAL_RANK": "0", "LOCAL_RANK": "1"}, False),
        ({"TRAINYARD_LOCAL_RANK": "0", "LOCAL_RANK": "0"}, True),
    ]:
        variables = environment(TRAINYARD_HEARTBEAT_FILE=str(file), **variables)
        subprocess.run([sys.executable, "-c", "import trainyard; trainyard.report(3)"], env=variables, check=True)
        assert file.exists() == is_heard
    assert json.loads(file.read_text()) == {"step": 3}


def test_a_wheel_is_built_from_it(tmp_path):
    # A build leaves files beside its source.
    source = shutil.copytree(PACKAGE, tmp_path / "source")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
            "--wheel-dir", tmp_path, source,
        ],
        check=True,
    )
    assert [file.name for file in tmp_path.glob("*.whl")] == ["trainyard-0.1.0-py3-none-any.whl"]
