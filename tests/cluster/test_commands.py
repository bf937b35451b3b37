"""The commands of a person, in a cluster; `tests/local/test_commands.py` runs the same ones on one
machine."""

import json
import os
import pathlib

import commands
import pytest
from iris import BINARY, claim, install, manifest, ready, remove



class InCluster:
    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace

    def run(self, *arguments, code=0):
        done = self.cluster.exec(BINARY, *arguments, "-n", self.namespace, check=False, timeout=180)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def until(self, holds):
        self.cluster.until("the service", holds)

    def change(self):
        service = manifest(self.namespace, runtime={"name": "onnx", "args": ["--max-queue", "500"]})
        self.cluster.apply(service)


@pytest.fixture(scope="module")
def driver(cluster, image, namespace):
    """Trainyard, and the example model in one replica."""
    install(cluster, image)
    claim(cluster, namespace)
    cluster.apply(manifest(namespace, replicas=1))
    cluster.until("iris", lambda: ready(cluster, namespace))
    yield InCluster(cluster, namespace)
    remove(cluster, namespace)


def test_a_person_looks(driver):
    commands.look(driver)
    commands.mistakes(driver)


def test_columns_are_those_of_kubectl(cluster, driver):
    for flags in ([], ["-o", "wide"], ["--no-headers"]):
        ours = [line.split()[:-1] for line in driver.run("get", *flags).stdout.splitlines()]
        theirs = cluster.kubectl("-n", driver.namespace, "get", "ms", *flags).stdout
        assert ours == [line.split()[:-1] for line in theirs.splitlines()]


def test_explain_knows_every_field(cluster, driver):
    definition = cluster.get("crd", "modelservices.trainyard.dev")
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    def objects(schema, path):
        """Explaining one explains its fields."""
        yield path, schema
        for name, below in schema["properties"].items():
            below = below.get("items", below)
            if "properties" in below:
                yield from objects(below, f"{path}.{name}")

    paths = dict(objects(schema, "ms.spec"))
    assert sum(len(it["properties"]) for it in paths.values()) > 40
    script = "set -e\n" + "\n".join(f"kubectl explain {path}; echo ====" for path in paths)
    told = cluster.exec("sh", "-c", script, timeout=300).stdout.split("====")
    for path, said in zip(paths, told):
        for name, field in paths[path]["properties"].items():
            first = " ".join(field["description"].split()[:6])
            assert first and first in " ".join(said.split()), (path, name, said)


def test_logs_of_a_cluster(cluster, driver):
    pod = cluster.ready_pods(driver.namespace, "trainyard.dev/service=iris")[0]["metadata"]["name"]
    lines = driver.run("logs", "iris", "--all-containers", "--tail", "1", "--timestamps").stdout.splitlines()
    assert lines and all(line.startswith(f"{pod}/server  20") for line in lines), lines
    assert driver.run("logs", "iris", "--replica", pod, "--tail", "-1").stdout
    assert "no replica `other`" in driver.run("logs", "iris", "--replica", "other", code=2).stderr
    assert "container `fetch-model`" in commands.unwrapped(driver.run("logs", "iris", "-c", "fetch-model", code=2).stderr)
    assert "previous terminated container" in driver.run("logs", "iris", "--previous").stderr


def test_all_namespaces_and_labels(cluster, driver):
    cluster.kubectl("-n", driver.namespace, "label", "ms", "iris", "team=vision")
    done = cluster.exec(BINARY, "get", "-A", "-o", "wide")
    assert done.stdout.splitlines()[0].split()[:2] == ["NAMESPACE", "NAME"] and driver.namespace in done.stdout
    assert "iris" in driver.run("get", "-l", "team=vision").stdout
    assert driver.run("get", "-l", "team=other").stderr == "no services and no jobs found\n"
    assert driver.namespace in cluster.exec(BINARY, "status", "-A").stdout
    assert "iris" in cluster.exec(BINARY, "events", "-A", "-o", "name").stdout


def test_where_it_acts_is_said(cluster, driver):
    done = cluster.exec(BINARY, "get", check=False)
    assert done.stderr.splitlines()[0].startswith("on the cluster of context "), done.stderr
    assert done.stderr.splitlines()[0].endswith("namespace `default`")
    assert cluster.exec(BINARY, "get", "-o", "name").stderr == ""
    # The namespace is guessed where it is forgotten.
    done = cluster.exec(BINARY, "get", "iris", check=False)
    assert done.returncode == 2 and f"add `-n {driver.namespace}`" in commands.unwrapped(done.stderr)


def test_kubectl_runs_it(cluster, driver, tmp_path):
    (tmp_path / "kubectl-trainyard").symlink_to(BINARY)
    script = f'PATH="{tmp_path}:$PATH" exec kubectl trainyard "$@"'
    plugin = lambda *arguments: cluster.exec("sh", "-c", script, "sh", *arguments, check=False)
    done = plugin("get", "-n", driver.namespace)
    assert done.returncode == 0 and "iris" in done.stdout and done.stderr == "", done.stderr
    assert plugin("get").stderr == "no services and no jobs found\n"
    assert "Usage: kubectl trainyard logs" in plugin("logs", "-h").stdout
    assert plugin("get", "irs", "-n", driver.namespace).returncode == 1
    assert "trainyard" in cluster.exec("sh", "-c", f'PATH="{tmp_path}:$PATH" kubectl plugin list').stdout


def test_a_person_with_few_rights(cluster, driver, tmp_path):
    """May look at services and at nothing else."""
    home = driver.namespace
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "viewer", "namespace": home},
        "rules": [{"apiGroups": ["trainyard.dev"], "resources": ["modelservices"], "verbs": ["get", "list", "watch"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "viewer", "namespace": home},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "viewer"},
        "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": home}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "viewer", "namespace": home}}
    cluster.apply(account, role, binding)
    token = cluster.kubectl("-n", home, "create", "token", "viewer").stdout.strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    config["users"] = [{"name": config["contexts"][0]["context"]["user"], "user": {"token": token}}]
    path = tmp_path / "config"
    path.write_text(json.dumps(config))

    def viewer(*arguments, code=0):
        done = cluster.exec(BINARY, *arguments, "--kubeconfig", path, check=False)
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout, commands.unwrapped(done.stderr)

    assert "iris" in viewer("get", "-n", home)[0]
    described, _ = viewer("describe", "iris", "-n", home)
    assert "Replicas:\n  (not shown: you may not list pods)" in described, described
    assert "you may not list controllerrevisions.apps" in described and "CONDITION" not in described
    status, said = viewer("status", "-n", home)
    assert "iris" in status and "you may not list pods" in said
    _, said = viewer("scale", "iris", "2", "-n", home, code=2)
    assert 'Forbidden: modelservices.trainyard.dev "iris" is forbidden' in said
    assert 'resources: ["modelservices/scale"], verbs: ["patch"]' in said, said
    _, said = viewer("logs", "iris", "-n", home, code=2)
    assert 'resources: ["pods"]' in said and f"`{home}`" in said
    _, said = viewer("get", "-A", code=2)
    assert "name a namespace with `-n`" in said, said
    _, said = viewer("get", "irs", "-n", home, code=2)
    assert "did you mean `iris`?" in said
    assert viewer("wait", "iris", "-n", home)[0]


def test_a_broken_release_is_described(cluster, driver):
    cluster.apply(manifest(driver.namespace, model="wrong.onnx"))
    driver.run("wait", "iris", "--for", "condition=Stalled", "--timeout", "120s")
    described = driver.run("describe", "iris").stdout
    assert "CrashLoop" in described and "ended with exit code" in described, described
    status = driver.run("status").stdout
    assert "Stalled" in status and "exit code" in status, status
    assert driver.run("events", "iris", "--warnings").stdout
    done = driver.run("wait", "iris", "--timeout", "1s", code=1)
    assert "CrashLoop" in done.stderr
    driver.until(lambda: driver.run("logs", "iris", "--previous").stdout)
    driver.run("rollback", "iris")
    driver.run("wait", "iris", "--timeout", "120s")


def test_watching(cluster, driver):
    """What changes while somebody watches is printed."""
    script = f'"{BINARY}" get -w -n {driver.namespace} >"$0" & watch=$!; sleep 2; ' \
        f'"{BINARY}" scale iris 2 -n {driver.namespace}; "{BINARY}" wait iris -n {driver.namespace} --timeout 60s; ' \
        'sleep 2; kill $watch'
    output = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"watch-{os.getpid()}"
    try:
        cluster.exec("sh", "-c", script, output)
        lines = output.read_text().splitlines()
    finally:
        output.unlink(missing_ok=True)
    assert lines[0].split()[0] == "NAME" and sum("NAME" in line for line in lines) == 1
    assert len(lines) > 2 and all(line.startswith("iris") for line in lines[1:]), lines


def test_the_rest_of_the_scenario(cluster, driver):
    cluster.apply(manifest(driver.namespace))
    driver.run("wait", "iris", "--timeout", "120s")
    commands.change(driver)
    # `kubectl scale` and the scale subresource are the same.
    driver.run("scale", "iris", "--min", "1", "--max", "3")
    spec = cluster.get("-n", driver.namespace, "ms", "iris")["spec"]
    assert "replicas" not in spec and (spec["scaling"]["min"], spec["scaling"]["max"]) == (1, 3)
    driver.run("scale", "iris", "--replicas", "1")
    assert cluster.get("-n", driver.namespace, "ms", "iris")["spec"]["replicas"] == 1
    driver.run("scale", "iris", "--auto")
    assert "replicas" not in cluster.get("-n", driver.namespace, "ms", "iris")["spec"]
    commands.delete(driver)
