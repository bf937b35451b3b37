"""The commands of a person, on one machine; `tests/cluster/test_commands.py` runs the same ones in a
cluster."""

import shutil
import subprocess

import commands
import pytest
from conftest import BINARY, ROOT

MANIFEST = """\
apiVersion: trainyard.dev/v1alpha1
kind: ModelService
metadata: {{name: iris}}
spec:
  model: {{uri: "file://./model.onnx"}}
  batching: {{maxSize: {size}}}
"""


class OneMachine:
    def __init__(self, yard):
        self.yard = yard
        shutil.copy(ROOT / "examples/iris/model.onnx", yard.folder / "model.onnx")
        self.path = yard.folder / "iris.yaml"
        self.path.write_text(MANIFEST.format(size=8))
        yard.up(self.path)

    def run(self, *arguments, code=0):
        done = self.yard.run(*arguments, check=False, timeout=180)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def until(self, holds):
        self.yard.until(holds, 120)

    def change(self):
        self.path.write_text(MANIFEST.format(size=16))


@pytest.fixture
def driver(yard):
    return OneMachine(yard)


def test_a_person_looks_changes_and_deletes(driver):
    commands.look(driver)
    commands.mistakes(driver)
    commands.change(driver)
    commands.delete(driver)


def test_what_is_for_clusters_is_refused(driver):
    for arguments in (
        ["logs", "iris", "--previous"], ["logs", "iris", "-c", "fetch-model"], ["get", "-l", "team=a"],
        ["scale", "iris", "--auto"], ["delete", "iris", "--cascade", "orphan"],
    ):
        assert "for clusters" in driver.run(*arguments, code=2).stderr, arguments
    driver.run("get", "iris")


def elsewhere(folder, *arguments, **environment):
    """In a folder where nothing says where to act but what is in it."""
    import os

    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TRAINYARD_", "KUBE"))}
    return subprocess.run(
        [BINARY, *arguments], cwd=folder, env={**clean, "HOME": str(folder), **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )


def test_where_a_command_acts(tmp_path):
    done = elsewhere(tmp_path, "get")
    assert done.returncode == 2
    said = commands.unwrapped(done.stderr)
    assert "no supervisor runs" in said and "no kubeconfig" in said
    assert "trainyard up" in said and "--context" in said
    # A cluster that nobody answers for.
    config = tmp_path / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: far\n"
        "contexts: [{name: far, context: {cluster: far, user: me}}]\n"
        "clusters: [{name: far, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: me, user: {}}]\n"
    )
    done = elsewhere(tmp_path, "get", KUBECONFIG=str(config))
    said = commands.unwrapped(done.stderr)
    assert done.returncode == 2 and "on the cluster of context `far`, namespace `default`" in said
    assert "the API server does not answer" in said
    shutil.copy(ROOT / "examples/iris/model.onnx", tmp_path / "iris.onnx")
    assert elsewhere(tmp_path, "up", "-d", "--port", "0", "iris.onnx").returncode == 0
    try:
        done = elsewhere(tmp_path, "get", KUBECONFIG=str(config))
        assert done.returncode == 0 and "on this machine, state folder `.trainyard`" in done.stderr
        done = elsewhere(tmp_path, "get", "-o", "name", KUBECONFIG=str(config))
        assert (done.stdout, done.stderr) == ("modelservice.trainyard.dev/iris\n", "")
        assert elsewhere(tmp_path, "get", "-n", "a", KUBECONFIG=str(config)).returncode == 2
    finally:
        elsewhere(tmp_path, "down")
    # Whoever was served here may only have been killed: nothing is changed in the cluster by mistake.
    done = elsewhere(tmp_path, "delete", "iris", KUBECONFIG=str(config))
    assert done.returncode == 2 and "not clear what to change" in commands.unwrapped(done.stderr)


def test_the_plugin_of_kubectl(tmp_path):
    plugin = tmp_path / "kubectl-trainyard"
    plugin.symlink_to(BINARY)
    run = lambda *arguments: subprocess.run([plugin, *arguments], capture_output=True, text=True, timeout=60)
    assert "Usage: kubectl trainyard <COMMAND>" in run("-h").stdout
    assert "Usage: kubectl trainyard get [OPTIONS] [NAME]..." in run("get", "-h").stdout
    assert "restart" not in run("-h").stdout
    done = run("up", "iris")
    assert done.returncode == 1 and "run `trainyard up`" in done.stderr
    assert run("get", "--nonsense").returncode == 1


def test_completion():
    for shell in ("bash", "zsh", "fish"):
        script = subprocess.run([BINARY, "completion", shell], capture_output=True, text=True, timeout=60).stdout
        assert "describe" in script
