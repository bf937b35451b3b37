"""The examples of the pages, run as they are printed, in the order in which they stand.

A block of YAML whose first line is `# NAME.yaml` becomes that file. Every line of a block without a
language is a command. What it needs beforehand is what the page's text says is there.
"""

import json
import os
import re
import shutil

import pytest
from conftest import HAS_POLICIES, ROOT
from iris import BINARY, HOME, fill, volume

# Of clusters, and of one machine; these run in the cluster's network, where port 8080 is free.
CLUSTER_PAGES = ["docs/kubernetes.md", "docs/operator.md", "docs/commands.md", "docs/gpu.md", "README.md"]
LOCAL_PAGES = ["docs/up.md", "docs/predict.md", "docs/serving.md", "docs/lint.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SERVICE = "{apiVersion: v1, kind: Service, metadata: {name: iris}, spec: {selector: {app: iris}, ports: [{port: 80}]}}\n"
LONG = bool(os.environ.get("TRAINYARD_LONG_TESTS"))
# What runs until somebody ends it.
ENDLESS = re.compile(r"^((?:\w+=\S+ )?trainyard (?:up|serve) [^-\n#]+?|trainyard (?:events|logs) \w+ -f)(\s+#.*)?$", re.M)


def blocks(page):
    return FENCE.findall((ROOT / page).read_text())


def commands(page):
    """Blocks of commands; what such a block shows instead does not begin with the name of a program."""
    programs = r"(trainyard|kubectl|mkdir|export|echo|printf|head|curl|API_KEY=|OTEL_)"
    return [text for language, text in blocks(page) if not language and re.match(programs, text)]


def run(cluster, folder, text, **environment):
    script = f'cd "{folder}"; export PATH="{folder}:$PATH"; {text}'
    done = cluster.exec("sh", "-exc", script, check=False, timeout=600, env={**os.environ, **environment})
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def desk(folder, pages):
    """A folder in which a person works: `trainyard` on the path, the examples, and the pages' files.
    What is deployed of it is one Service, by itself and with kustomize."""
    (folder / "trainyard").symlink_to(BINARY)
    for name, text in {
        "deploy/iris.yaml": SERVICE, "overlays/prod/iris.yaml": SERVICE,
        "overlays/prod/kustomization.yaml": "resources: [iris.yaml]\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shutil.copytree(ROOT / "examples", folder / "examples")
    for page in pages:
        for language, text in blocks(page):
            name = re.match(r"# (\S+\.yaml)\b", text)
            if language == "yaml" and name:
                (folder / name[1]).write_text(text)
    return folder


@pytest.fixture(scope="module")
def team(cluster, image, tmp_path_factory):
    """The volume `models` of the namespace `models`, which is the context's."""
    fill()
    cluster.kubectl("create", "namespace", "models")
    cluster.apply(*volume("models", "models"))
    cluster.kubectl("config", "set-context", "--current", "--namespace=models")
    yield desk(tmp_path_factory.mktemp("docs"), CLUSTER_PAGES)
    cluster.kubectl("config", "set-context", "--current", "--namespace=default")
    cluster.exec(BINARY, "uninstall", check=False)
    cluster.kubectl("delete", "namespace", "models", "plain", HOME, "--ignore-not-found", "--wait=false", check=False)
    cluster.kubectl("delete", "pv", "models-models", "--wait=false", check=False)
    cluster.until("the end of Trainyard", lambda: not cluster.find("namespace", HOME))


@pytest.mark.parametrize("page", CLUSTER_PAGES)
def test_a_cluster(cluster, image, team, page):
    settings = {"TRAINYARD_IMAGE": image, "TRAINYARD_IMAGE_PULL_POLICY": "IfNotPresent"}
    there = [text for text in commands(page) if "trainyard install" in text or page != "README.md"]
    assert there, page
    for text in there:
        # The volume's namespace was made before, since the volume is.
        run(cluster, team, text.replace("kubectl create namespace models", "kubectl get namespace models"), **settings)


@pytest.mark.parametrize("page", LOCAL_PAGES)
def test_one_machine(cluster, tmp_path, page):
    folder = desk(tmp_path, [page])
    there = commands(page)
    assert there, page
    try:
        for text in there:
            if "--emit-policy" in text and not HAS_POLICIES:
                continue
            if "$API_KEY" in text:
                # "With `access` in the manifest".
                with (folder / "iris.yaml").open("a") as manifest:
                    manifest.write("  access: {apiKeysSecret: iris-keys}\n")
                run(cluster, folder, "trainyard up -d iris.yaml")
            # The pinned release is fetched from elsewhere, and a chart needs a program of its own.
            text = text.replace("trainyard engine install", "trainyard engine install --help")
            text = re.sub(r"^helm template my-chart \|", "cat deploy/iris.yaml |", text, flags=re.M)
            if not LONG:
                text = text.replace("--duration 5s", "--duration 1s").replace("--rate 500", "--rate 500 --duration 1s")
            if "curl" in text:
                text = text.replace("curl ", "curl -sSf ")
                text = re.sub(r"^(trainyard serve .*)$", served(r"\1"), text, flags=re.M)
            text = ENDLESS.sub(r"timeout -s INT 2 env \1 || test $? = 124\2", text)
            said = run(cluster, folder, text)
            if "curl" in text:
                answer = json.loads(said[said.index("{"):])
                assert "iris" in (answer.get("name"), answer.get("model_name")), answer
    finally:
        run(cluster, folder, "trainyard down || true")
        # What a page told the API server to refuse.
        if HAS_POLICIES:
            policies = "validatingadmissionpolicies,validatingadmissionpolicybindings"
            run(cluster, folder, f"kubectl delete {policies} -l app.kubernetes.io/managed-by=trainyard-lint --ignore-not-found")
        run(cluster, folder, "kubectl delete namespace prod --ignore-not-found --wait=false")


def served(command):
    """In the background, until the block ends; on once it is ready."""
    return f"{command} >serve.log 2>&1 & trap \"kill $!\" EXIT\nuntil curl -sfo ready.json http://127.0.0.1:8080/v2/health/ready; do sleep 0.1; done"


def test_the_api_server_takes_every_manifest(cluster, team):
    """Also those of one machine: where their model is matters to the operator only."""
    pages = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
    told = [(page, text) for page in pages for _, text in blocks(page) if "kind: ModelService" in text]
    assert len(told) > 5
    for page, text in told:
        done = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text, check=False)
        assert done.returncode == 0, (page, text, done.stderr)
