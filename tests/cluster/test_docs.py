"""The examples of the pages about clusters, run as they are printed, in the order in which they stand.

A block of YAML whose first line is `# NAME.yaml` becomes that file. Every line of a block without a
language is a command; what it needs beforehand is what the page's text says is there: the volume
`models` of the namespace `models`.
"""

import os
import pathlib
import re
import shutil

import pytest
from test_install import BINARY, FOLDER, HOME, volume

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGES = ["docs/kubernetes.md", "docs/operator.md", "docs/commands.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(page):
    return FENCE.findall((ROOT / page).read_text())


@pytest.fixture(scope="module")
def desk(cluster, image, tmp_path_factory):
    """A folder in which a person works: `trainyard` and `kubectl` on the path, and the manifest."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "trainyard").symlink_to(BINARY)
    for page in PAGES:
        for language, text in blocks(page):
            name = re.match(r"# (\S+\.yaml)\n", text)
            if language == "yaml" and name:
                (folder / name[1]).write_text(text)
    FOLDER.mkdir(exist_ok=True)
    FOLDER.chmod(0o755)
    shutil.copy(ROOT / "examples/iris/model.onnx", FOLDER / "model.onnx")
    cluster.kubectl("create", "namespace", "models")
    cluster.apply(*volume("models", "models"))
    yield folder
    cluster.exec(BINARY, "uninstall", check=False)
    cluster.kubectl("config", "set-context", "--current", "--namespace=default")
    cluster.kubectl("delete", "namespace", "models", "plain", HOME, "--ignore-not-found", "--wait=false", check=False)
    cluster.kubectl("delete", "pv", "models-models", "--wait=false", check=False)


@pytest.mark.parametrize("page", PAGES)
def test_examples_run_as_printed(cluster, image, desk, page):
    if page == "docs/commands.md":
        # "The context's" namespace: a person works in one.
        cluster.kubectl("config", "set-context", "--current", "--namespace=models")
    commands = [text for language, text in blocks(page) if not language]
    assert commands, page
    for text in commands:
        # The volume's namespace was made before, since the volume is.
        text = text.replace("kubectl create namespace models", "kubectl get namespace models")
        done = cluster.exec(
            "sh", "-exc", f'cd "{desk}"; export PATH="{desk}:$PATH"; {text}', check=False, timeout=600,
            env={**os.environ, "TRAINYARD_IMAGE": image, "TRAINYARD_IMAGE_PULL_POLICY": "IfNotPresent"},
        )
        assert done.returncode == 0, f"{page}:\n{done.stdout}\n{done.stderr}"
