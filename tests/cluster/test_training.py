"""`TrainingJob`s on a real cluster: the example on two nodes, through what happens to workers."""

import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import iris
import pytest
import python_image
from conftest import ROOT
from interruptions import Metadata
from iris import HOME, install, trainyard

IMAGE = "localhost/train-line:test"
MPI_IMAGE = "localhost/with-openmpi:test"
MPI_PROGRAM = "mpi_sum.py"
# A folder of this machine that every node sees: the volume of a claim `store`.
STORE = pathlib.Path(f"/tmp/trainyard-cluster-checkpoints{os.environ.get('PYTEST_XDIST_WORKER', '')}")
# Of an object store.
STORE_PORT = 9000
# The answer to a list of a store that is empty.
LISTED = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated></ListBucketResult>'
# What the example prints in the end, whatever happened on the way.
RESULT = "y = 3.000 x + -1.000"


@pytest.fixture(scope="module")
def authority(cluster, tmp_path_factory):
    """A folder with the certificate of an authority, and `server.pem` that it has signed for a store."""
    folder = tmp_path_factory.mktemp("authority")
    (folder / "names").write_text(f"subjectAltName=IP:{cluster.address()}")
    for arguments in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=store",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    ):
        subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
    (folder / "server.pem").write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
    return folder


@pytest.fixture(scope="module")
def train_image(cluster, authority, tmp_path_factory):
    """With no certificates but that of an authority, which nothing looks for by itself."""
    path = tmp_path_factory.mktemp("image") / "train.tar"
    program = (ROOT / "examples/train-line/train.py").read_bytes()
    python_image.write(path, IMAGE, {"train.py": program, "authority.pem": (authority / "ca.pem").read_bytes()})
    cluster.xtask("load", str(path))
    return IMAGE


@pytest.fixture(scope="module")
def team(cluster, image, train_image, namespace):
    """A namespace under the restricted standard, with a store for checkpoints."""
    install(cluster, image, f"--operator-arg=--store-port={STORE_PORT}")
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    with store(cluster, namespace):
        yield namespace
        cluster.kubectl("-n", namespace, "delete", "trainingjobs", "--all", check=False)
        iris.uninstall(cluster)


@contextlib.contextmanager
def store(cluster, namespace, folder=STORE):
    """The claim `store` with an empty `folder` as its volume."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # Owners of files in a folder of a node are not changed for a pod.
    folder.chmod(0o777)
    volume, claim = iris.volume(namespace, "store")
    volume["spec"]["hostPath"]["path"] = str(folder)
    for spec in (volume["spec"], claim["spec"]):
        spec["accessModes"] = ["ReadWriteMany"]
    cluster.apply(volume, claim)
    yield
    cluster.kubectl("delete", "pv", f"{namespace}-store", "--wait=false", check=False)
    shutil.rmtree(folder, ignore_errors=True)


def manifest(namespace, name, steps=200, pause=0.01, **spec):
    """A job; what is None is left out."""
    whole = {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "framework": "generic", "image": IMAGE, "command": ["python3", "train.py"],
            "args": ["--steps", str(steps), "--pause", str(pause)], "workers": {"count": 2},
            "resources": {"cpu": "100m", "memory": "256Mi"},
            "checkpoint": {"path": "checkpoints", "uri": f"pvc://store/{name}", "grace": "10s"},
            "placement": {"spread": "nodes"}, **spec,
        },
    }
    whole["spec"] = {field: value for field, value in whole["spec"].items() if value is not None}
    return whole


def job(cluster, namespace, name):
    return cluster.get("-n", namespace, "trainingjob", name)


def phase(cluster, namespace, name, wanted, seconds=90):
    def holds():
        found = job(cluster, namespace, name)
        return found if found.get("status", {}).get("phase") == wanted else None

    try:
        return cluster.until(f"{name} to be {wanted}", holds, seconds)
    except AssertionError as error:
        told = trainyard(cluster, "describe", f"tj/{name}", "-n", namespace, check=False)
        raise AssertionError(f"{error}\n{told.stdout}{told.stderr}") from error


def workers(cluster, namespace, name):
    return cluster.get("-n", namespace, "pods", "-l", f"trainyard.dev/job={name}")["items"]


def logs(cluster, namespace, name, **options):
    return trainyard(cluster, "logs", f"tj/{name}", "-n", namespace, "--tail=-1", **options).stdout


def durable(name):
    """Names of checkpoints that are in the store."""
    return sorted(path.name for path in (STORE / name / "steps").glob("step-*"))


def test_two_workers_on_two_nodes_finish(cluster, team):
    cluster.apply(manifest(team, "line", steps=100))
    trainyard(cluster, "wait", "tj/line", "-n", team, "--for", "ready", "--timeout", "90s")
    status = job(cluster, team, "line")["status"]
    assert (status["phase"], status["attempts"], status["failures"]) == ("Succeeded", 1, 0), status
    assert {pod["spec"]["nodeName"] for pod in workers(cluster, team, "line")} == {"node-1", "node-2"}
    assert "y = 2." in logs(cluster, team, "line")
    assert durable("line"), "no checkpoint is in the store"
    text = trainyard(cluster, "describe", "line", "-n", team).stdout
    assert "Succeeded" in text and "Finished" in text, text
    assert "line" in trainyard(cluster, "get", "-n", team).stdout
    events = trainyard(cluster, "events", "line", "-n", team).stdout
    assert "Started" in events and "Finished" in events, events


def test_a_worker_that_is_deleted_costs_no_step_that_was_saved(cluster, team):
    cluster.apply(manifest(team, "broken", steps=400, pause=0.05))
    cluster.until("a checkpoint in the store", lambda: durable("broken"))
    second = next(
        pod for pod in workers(cluster, team, "broken")
        if pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1"
    )
    cluster.kubectl("-n", team, "delete", "pod", second["metadata"]["name"], "--wait=false")
    # Nor does it when nobody looks: the next operator goes on from what the API server has.
    operators = ("-l", "app.kubernetes.io/name=trainyard-operator")
    cluster.kubectl("-n", HOME, "delete", "pods", *operators, "--grace-period=0", "--force", "--wait=false")
    status = phase(cluster, team, "broken", "Succeeded", 120)["status"]
    assert status["attempts"] == 2 and status["failures"] == 0 and status["interruptions"] == 1, status
    text = logs(cluster, team, "broken")
    resumed = [int(line.split()[-1]) for line in text.splitlines() if "goes on from step" in line]
    # Both workers, at the same step, and not the first.
    assert len(resumed) == 2 and len(set(resumed)) == 1 and resumed[0] >= 20, text
    assert RESULT in text, text
    # What was dealt to the other one, each has from there.
    assert re.search(r"[1-9]\d* bytes of it came from 1 other worker ", text), text
    # Its store is on a volume, which a pod looks at.
    found = json.loads(trainyard(cluster, "checkpoints", "verify", "broken", "-n", team, "-o", "json").stdout)["checkpoints"]
    assert [it["good"] for it in found] == [True] * len(found) and found[0]["step"] == 400, found
    pruned = trainyard(cluster, "checkpoints", "prune", "tj/broken", "-n", team, "--keep", "1").stdout
    assert f"removed {found[-1]['name']}" in pruned, pruned
    refused = trainyard(cluster, "checkpoints", "pull", "broken", "-n", team, check=False).stderr
    assert "`ls`, `verify` and `prune` work from here" in refused, refused
    pods = cluster.get("-n", team, "pods", "-l", "app.kubernetes.io/component=checkpoints")["items"]
    assert not pods, pods


def test_a_program_that_fails_is_tried_again_and_told(cluster, team):
    spec = {"command": ["python3", "-c", "raise SystemExit('no data')"], "args": None, "retries": 1}
    cluster.apply(manifest(team, "failing", **spec))
    status = phase(cluster, team, "failing", "Failed")["status"]
    assert (status["attempts"], status["failures"], status["reason"]) == (2, 2, "RetriesExhausted"), status
    stalled = next(it for it in status["conditions"] if it["type"] == "Stalled")
    assert stalled["status"] == "True" and "no data" in stalled["message"], stalled


def test_data_is_there_and_what_is_not_is_told_at_once(cluster, team):
    (STORE / "labels").mkdir(mode=0o755)
    (STORE / "labels/all").write_text("in a volume")
    read = (
        "import os, pathlib; words, labels = (pathlib.Path(os.environ['TRAINYARD_DATA_' + it]) for it in ('WORDS', 'LABELS')); "
        "print([it.read_text() for it in (words / 'words.txt', labels / 'all', pathlib.Path('/words/words.txt'))], "
        "[name for name in os.environ if name.startswith('AWS')])"
    )
    common = {"command": ["python3", "-c", read], "args": None, "workers": {"count": 1}, "checkpoint": None}
    with cluster.serving({"/sets/words.txt": "from a store"}, STORE_PORT) as address:
        keys = {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        cluster.apply({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sets", "namespace": team}, "stringData": keys,
        })
        words = {"name": "words", "uri": "s3://sets/words.txt", "credentialsSecret": "sets", "mount": "/words", "size": "1Gi"}
        cluster.apply(manifest(team, "reads", **common, data=[words, {"name": "labels", "uri": "pvc://store/labels"}]))
        phase(cluster, team, "reads", "Succeeded")
        assert "['from a store', 'in a volume', 'from a store'] []" in logs(cluster, team, "reads")
        cluster.apply(manifest(team, "lost", **common, data=[{**words, "uri": "s3://sets/none.txt"}]))
        status = phase(cluster, team, "lost", "Failed", 30)["status"]
    assert (status["attempts"], status["reason"]) == (1, "CannotStart"), status
    stalled = next(it for it in status["conditions"] if it["type"] == "Stalled")
    assert "the data `words` cannot be had: NotFound" in stalled["message"], stalled


def test_an_image_that_is_not_there_is_told_within_30_s_and_a_correction_starts_anew(cluster, team):
    wrong = manifest(team, "nowhere", steps=20, image="localhost/nowhere:1")
    cluster.apply(wrong)

    def told():
        conditions = job(cluster, team, "nowhere").get("status", {}).get("conditions", [])
        return next((it for it in conditions if it["type"] == "Stalled" and it["status"] == "True"), None)

    stalled = cluster.until("the image to be told", told, 30)
    assert stalled["reason"] == "ImagePullFailed" and "`spec.image`" in stalled["message"], stalled
    cluster.apply(manifest(team, "nowhere", steps=20))
    status = phase(cluster, team, "nowhere", "Succeeded")["status"]
    assert status["attempts"] == 2 and status["failures"] == 0, status


def preflight(cluster, namespace, name):
    return cluster.find("-n", namespace, "job", f"{name}-preflight")


def condition(found, kind):
    conditions = found.get("status", {}).get("conditions", [])
    return next((it for it in conditions if it["type"] == kind), {})


def never_had_a_worker(cluster, namespace, name):
    """Nothing but the pod that looks was ever made: Jobs and pods leave events behind."""
    events = cluster.get("-n", namespace, "events")["items"]
    made = {it["involvedObject"]["name"] for it in events if it["involvedObject"]["kind"] in ("Job", "Pod")}
    of_workers = [it for it in made if it.startswith(f"{name}-") and not it.startswith(f"{name}-preflight")]
    return not of_workers and not cluster.find("-n", namespace, "job", f"{name}-1")


@pytest.fixture
def queue(cluster):
    """A queue that lets in one job of this file at a time."""
    whole = {
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "checked"},
        "spec": {"quotas": [{"pool": "default", "cpu": {"nominal": "100m"}}]},
    }
    cluster.apply(whole)
    yield "checked"
    cluster.kubectl("delete", "queues.trainyard.dev", "checked", "--wait=false", check=False)


def test_what_is_not_there_is_told_before_a_quota_is_held(cluster, team, queue):
    words = {"name": "words", "credentialsSecret": "checked-sets", "mount": "/words", "size": "1Gi"}
    found, lost = {**words, "uri": "s3://sets/words.txt"}, {**words, "uri": "s3://sets/none.txt"}
    read = "import os, pathlib; print(pathlib.Path('/words/words.txt').read_text())"
    spec = {
        "command": ["python3", "-c", read], "args": None, "workers": {"count": 1}, "queue": queue,
        "checkpoint": {"path": "c", "uri": "s3://steps/checked", "credentialsSecret": "checked-sets"},
    }
    with cluster.serving({"/sets/words.txt": "from a store", "/steps": LISTED, "/steps/": LISTED}, STORE_PORT) as address:
        keys = {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        # Its Secret is missing at first.
        cluster.apply(manifest(team, "checked", **spec, data=[lost]))
        told = lambda: condition(job(cluster, team, "checked"), "Stalled").get("reason") == "ContainerConfigError"  # noqa: E731
        cluster.until("the missing Secret to be told", told, 30)
        stalled = condition(job(cluster, team, "checked"), "Stalled")
        assert "`check-data-words`" in stalled["message"] and "no worker is made" in stalled["message"], stalled
        assert condition(job(cluster, team, "checked"), "QuotaReserved")["status"] == "False"
        assert cluster.get("queues.trainyard.dev", queue).get("status", {}).get("waiting", 0) == 0
        cluster.apply({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "checked-sets", "namespace": team}, "stringData": keys,
        })
        status = phase(cluster, team, "checked", "Failed", 60)["status"]
        assert (status["attempts"], status["failures"], status["reason"]) == (0, 0, "CannotStart"), status
        stalled = condition({"status": status}, "Stalled")["message"]
        assert "the data `words` cannot be had: NotFound" in stalled and "s3://sets/none.txt" in stalled, stalled
        assert "DataNotThere" in trainyard(cluster, "events", "checked", "-n", team).stdout
        assert never_had_a_worker(cluster, team, "checked")
        cluster.until("the end of the look", lambda: not preflight(cluster, team, "checked"), 20)
        # A correction begins anew, passes, and is let in. The image has no certificates, without which no
        # client of such a store can be made: the agent brings some.
        cluster.apply(manifest(team, "checked", **spec, data=[found]))
        status = phase(cluster, team, "checked", "Succeeded")["status"]
        assert (status["attempts"], status["failures"]) == (1, 0), status
        events = trainyard(cluster, "events", "checked", "-n", team).stdout
        assert "Checked" in events and "Admitted" in events, events
        assert "from a store" in logs(cluster, team, "checked")
        assert not preflight(cluster, team, "checked")


def test_the_store_is_asked_from_the_image_as_workers_will(cluster, team, queue, authority):
    """Whether a store is known hangs on the image's files, and on variables that name some of them."""
    spec = {
        "command": ["python3", "-c", ""], "args": None, "workers": {"count": 1}, "queue": queue,
        "checkpoint": {"path": "c", "uri": "s3://steps/tls", "credentialsSecret": "by-tls"},
    }
    named = lambda file: [{"name": "SSL_CERT_FILE", "value": file}]  # noqa: E731
    with cluster.serving({"/steps": LISTED, "/steps/": LISTED}, STORE_PORT, authority / "server.pem") as address:
        keys = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        cluster.apply({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "by-tls", "namespace": team}, "stringData": keys,
        })
        # A file that Trainyard's own image has, and this one has not.
        missing = "/etc/ssl/certs/ca-certificates.crt"
        cluster.apply(manifest(team, "tls", **spec, env=named(missing)))
        status = phase(cluster, team, "tls", "Failed", 60)["status"]
        assert (status["attempts"], status["reason"]) == (0, "CannotStart"), status
        stalled = condition({"status": status}, "Stalled")["message"]
        assert "from the image" in stalled and f"`SSL_CERT_FILE={missing}`" in stalled, stalled
        assert never_had_a_worker(cluster, team, "tls")
        # Nobody knows this authority by itself.
        cluster.apply(manifest(team, "tls", **spec))
        waits = lambda: job(cluster, team, "tls")["status"]["reason"] == "DataUnavailable"  # noqa: E731
        cluster.until("the unknown authority to be told", waits, 60)
        told = trainyard(cluster, "events", "tls", "-n", team).stdout
        assert "UnknownIssuer" in told, told
        # The image does; Trainyard's has no such file.
        cluster.apply(manifest(team, "tls", **spec, env=named("/work/authority.pem")))
        status = phase(cluster, team, "tls", "Succeeded", 120)["status"]
    assert (status["attempts"], status["failures"], status["interruptions"]) == (1, 0, 0), status


def test_a_store_that_does_not_answer_is_asked_again(cluster, team, queue):
    words = {"name": "words", "uri": "s3://sets/words.txt", "credentialsSecret": "silent", "size": "1Gi"}
    with cluster.serving({"/sets/words.txt": "late"}, STORE_PORT) as address:
        pass
    keys = {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "silent", "namespace": team}, "stringData": keys})
    spec = {"command": ["python3", "-c", ""], "args": None, "workers": {"count": 1}, "checkpoint": None, "queue": queue}
    cluster.apply(manifest(team, "silent", **spec, data=[words]))
    waits = lambda: job(cluster, team, "silent").get("status", {}).get("reason") == "DataUnavailable"  # noqa: E731
    cluster.until("the store to be told", waits, 60)
    # An operator that starts in the middle goes on, and so does one whose pod was taken.
    operators = ("-l", "app.kubernetes.io/name=trainyard-operator")
    cluster.kubectl("-n", HOME, "delete", "pods", *operators, "--grace-period=0", "--force", "--wait=false")
    pods = ("-n", team, "pods", "-l", "trainyard.dev/job=silent")
    cluster.until("the next look", lambda: cluster.get(*pods)["items"], 60)
    cluster.kubectl("-n", team, "delete", "pods", "-l", "trainyard.dev/job=silent", "--wait=false")
    with cluster.serving({"/sets/words.txt": "late"}, STORE_PORT):
        status = phase(cluster, team, "silent", "Succeeded", 120)["status"]
    assert (status["attempts"], status["failures"], status["interruptions"]) == (1, 0, 0), status


def test_gpus_are_asked_for_once_the_image_is_there(cluster, team):
    gpu = {"cpu": "100m", "memory": "256Mi", "gpu": {"count": 1}}
    spec = {"command": ["python3", "-c", ""], "args": None, "workers": {"count": 1}, "resources": gpu}
    cluster.apply(manifest(team, "dear", **spec, image="localhost/nowhere:1"))
    told = lambda: condition(job(cluster, team, "dear"), "Stalled").get("reason") == "ImagePullFailed"  # noqa: E731
    cluster.until("the image to be told", told, 60)
    stalled = condition(job(cluster, team, "dear"), "Stalled")["message"]
    assert "localhost/nowhere:1" in stalled and "`spec.image`" in stalled, stalled
    (pod,) = workers(cluster, team, "dear")
    assert pod["metadata"]["name"].startswith("dear-preflight-"), pod
    for container in pod["spec"]["containers"] + pod["spec"]["initContainers"]:
        assert not [name for name in container["resources"]["limits"] if "gpu" in name], container
    assert never_had_a_worker(cluster, team, "dear")
    # Suspended in the middle it goes, and begins anew.
    patch = lambda value: cluster.kubectl(  # noqa: E731
        "-n", team, "patch", "tj", "dear", "--type=merge", "-p", json.dumps({"spec": value})
    )
    patch({"suspend": True})
    phase(cluster, team, "dear", "Suspended", 30)
    cluster.until("the end of the look", lambda: not workers(cluster, team, "dear"), 30)
    # A spec that is changed in the middle is looked at in place of the one before.
    patch({"suspend": False})
    cluster.until("the look", lambda: preflight(cluster, team, "dear"), 30)
    patch({"image": IMAGE})
    status = phase(cluster, team, "dear", "Succeeded", 120)["status"]
    assert (status["attempts"], status["failures"]) == (1, 0), status
    (pod,) = [it for it in workers(cluster, team, "dear") if it["metadata"]["name"].startswith("dear-1-")]
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1", pod


def test_it_can_be_suspended_and_goes_on(cluster, team):
    cluster.apply(manifest(team, "paused", steps=300, pause=0.05))
    cluster.until("a checkpoint in the store", lambda: durable("paused"))
    suspend = lambda value: cluster.kubectl(  # noqa: E731
        "-n", team, "patch", "tj", "paused", "--type=merge", "-p", json.dumps({"spec": {"suspend": value}})
    )
    suspend(True)
    phase(cluster, team, "paused", "Suspended")
    assert not [pod for pod in workers(cluster, team, "paused") if pod["status"]["phase"] == "Running"]
    suspend(False)
    status = phase(cluster, team, "paused", "Succeeded")["status"]
    told = trainyard(cluster, "events", "paused", "-n", team).stdout
    assert (status["failures"], status["interruptions"], status["attempts"]) == (0, 0, 2), f"{status}\n{told}"
    assert "goes on from step" in logs(cluster, team, "paused")


def with_openmpi(cluster, folder):
    """Loads an image with Python and Open MPI, of its package for Python, and with no shell."""
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    home = pathlib.Path(shutil.which("mpirun", path=path)).parent.parent
    parts = ["lib/openmpi", "share/openmpi", "share/prte", "share/pmix"]
    parts += [f"bin/{name}" for name in ("mpirun", "ompirun_wrapper", "prterun", "prted")]
    parts += [str(it.relative_to(home)) for it in [*home.glob("lib/libmpi.so*"), *home.glob("lib/libopen-pal.so*")]]
    parts += [str(it.relative_to(home)) for name in ("openmpi*", "prte*", "pmix*") for it in home.glob(f"etc/{name}")]
    program = (ROOT / "tests/shared/training" / MPI_PROGRAM).read_bytes()
    python_image.write(
        folder / "image.tar", MPI_IMAGE, {MPI_PROGRAM: program}, trees=[(home / part, f"usr/local/{part}") for part in parts]
    )
    cluster.xtask("load", str(folder / "image.tar"))


def mpi_job(namespace, name, steps, pause):
    return manifest(namespace, name, **{
        "framework": "mpi", "image": MPI_IMAGE, "command": ["python3", MPI_PROGRAM], "args": [str(steps), str(pause)],
        "processesPerWorker": 2, "checkpoint": {"path": "checkpoints", "grace": "20s"},
    })


def test_mpi_over_two_nodes_without_ssh_or_a_shell(cluster, team, tmp_path):
    with_openmpi(cluster, tmp_path)
    cluster.apply(mpi_job(team, "sums", 3, 0))
    status = phase(cluster, team, "sums", "Succeeded")["status"]
    assert (status["attempts"], status["failures"]) == (1, 0), status
    pods = workers(cluster, team, "sums")
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-1", "node-2"}
    text = logs(cluster, team, "sums")
    assert "summed over 4 ranks, 10" in text
    for rank in range(4):
        assert f"rank {rank} of 4 is at worker {rank // 2} of 2 on sums-1-{rank // 2}" in text, text
    (secret,) = [it for it in cluster.get("-n", team, "secrets")["items"] if it["metadata"]["name"].startswith("sums-workers-")]
    token = base64.b64decode(secret["data"]["token"]).decode()
    assert len(token) == 64 and token not in text + json.dumps(pods)
    # A worker that is deleted takes the others with it, and all start anew.
    cluster.apply(mpi_job(team, "sums-again", 3000, 0.1))
    # There are no pods to begin with.
    said = lambda: logs(cluster, team, "sums-again", check=False)  # noqa: E731
    cluster.until("the first step", lambda: "the first step is done" in said())
    second = next(
        pod for pod in workers(cluster, team, "sums-again")
        if pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1"
    )
    cluster.kubectl("-n", team, "delete", "pod", second["metadata"]["name"], "--wait=false")
    status = phase(cluster, team, "sums-again", "Succeeded")["status"]
    assert (status["attempts"], status["failures"], status["interruptions"]) == (2, 0, 1), status
    assert "summed over 4 ranks, 10" in logs(cluster, team, "sums-again")
    # The Secret goes with its job.
    trainyard(cluster, "delete", "tj/sums", "-n", team, "--timeout", "30s")
    name = secret["metadata"]["name"]
    cluster.until("the end of its Secret", lambda: not cluster.find("-n", team, "secret", name), 60)


def test_what_is_over_costs_no_write(cluster, team):
    """Statuses and objects of jobs that are over stay as they are."""
    versions = lambda: {  # noqa: E731
        (it["kind"], it["metadata"]["name"]): it["metadata"]["resourceVersion"]
        for it in cluster.get("-n", team, "trainingjobs,jobs,services,networkpolicies")["items"]
    }

    def rest():
        """Kubernetes counts pods of its Jobs for a while after they have ended."""
        before = versions()
        time.sleep(3)
        return before if versions() == before else None

    before = cluster.until("rest", rest)
    touched = cluster.kubectl(
        "-n", team, "annotate", "tj", "line", "example.com/touch=1", "--overwrite", "-o", "json"
    ).stdout
    trainyard(cluster, "wait", "tj/line", "-n", team, "--timeout", "5s")
    time.sleep(2)
    before["TrainingJob", "line"] = json.loads(touched)["metadata"]["resourceVersion"]
    assert versions() == before


def test_it_is_deleted_with_all_that_it_has(cluster, team):
    trainyard(cluster, "delete", "tj/line", "-n", team, "--timeout", "30s")
    left = lambda: cluster.get("-n", team, "pods,jobs,services", "-l", "trainyard.dev/job=line")["items"]  # noqa: E731
    cluster.until("the end of its objects", lambda: not left(), 60)


def test_the_start_after_a_notice_keeps_from_that_node(cluster, team, image):
    """Though nobody has cordoned it."""
    install(cluster, image, f"--operator-arg=--store-port={STORE_PORT}", "--operator-arg=--profile=eks")
    cluster.apply(manifest(team, "noticed", steps=100_000, pause=0.05, workers={"count": 1}, placement={"spot": "prefer"}))
    cluster.until("a checkpoint in the store", lambda: durable("noticed"), 90)
    [before] = workers(cluster, team, "noticed")
    node = before["spec"]["nodeName"]
    metadata = Metadata(cluster, node)
    try:
        metadata.say("take")

        def second():
            pods = [it for it in workers(cluster, team, "noticed") if it["metadata"]["labels"]["trainyard.dev/attempt"] == "2"]
            return next((it for it in pods if "nodeName" in it["spec"]), None)

        after = cluster.until("the second start", second, 90)
    finally:
        metadata.end()
    status = job(cluster, team, "noticed")["status"]
    assert (status["failures"], status["interruptions"]) == (0, 1), status
    terms = after["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    kept_from = {"key": "metadata.name", "operator": "NotIn", "values": [node]}
    assert {"weight": 100, "preference": {"matchFields": [kept_from]}} in terms, terms
    assert after["spec"]["nodeName"] != node
    trainyard(cluster, "delete", "tj/noticed", "-n", team, "--timeout", "60s")


def test_pods_that_a_restarted_node_forgot_are_made_anew(cluster, team, tmp_path):
    """A kubelet never starts the program of a pod whose node went down just before, and says nothing."""
    late = "localhost/late:test"
    python_image.write(tmp_path / "late.tar", late, {"train.py": (ROOT / "examples/train-line/train.py").read_bytes()})
    placement = {"nodeSelector": {"kubernetes.io/hostname": "node-2"}}
    cluster.apply(manifest(team, "forgotten", steps=20, image=late, checkpoint={"path": "checkpoints"}, placement=placement))

    def are_prepared():
        pods = workers(cluster, team, "forgotten")
        states = [it["status"].get("initContainerStatuses", [{}])[0].get("state", {}) for it in pods]
        return len(states) == 2 and all("terminated" in it for it in states)

    cluster.until("all that comes before the program", are_prepared)
    cluster.xtask("chaos", "kill-node", "node-2")
    cluster.xtask("chaos", "restart-node", "node-2")
    cluster.until("the node", lambda: cluster.is_node_ready("node-2"))
    cluster.xtask("load", str(tmp_path / "late.tar"))
    status = phase(cluster, team, "forgotten", "Succeeded", 180)["status"]
    assert (status["attempts"], status["failures"], status["interruptions"]) == (2, 0, 1), status


def test_a_node_that_is_restarted_uses_up_no_retry(cluster, team):
    """Its peer fails for want of it, and the runtime tells an exit code of what ran there, as its pod goes."""
    cluster.apply(manifest(team, "restarted", steps=400, pause=0.05, retries=0))
    cluster.until("a checkpoint in the store", lambda: durable("restarted"), 90)
    cluster.xtask("chaos", "kill-node", "node-2")
    cluster.until("the end of the others", lambda: any("deletionTimestamp" in it["metadata"] for it in workers(cluster, team, "restarted")), 90)
    cluster.xtask("chaos", "restart-node", "node-2")
    cluster.until("the node", lambda: cluster.is_node_ready("node-2"))
    status = phase(cluster, team, "restarted", "Succeeded", 180)["status"]
    assert (status["attempts"], status["failures"], status["interruptions"]) == (2, 0, 1), status
