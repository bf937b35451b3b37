"""Training jobs under `trainyard up`: finished, failed, interrupted, killed, and taken over."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest
from custom import BINARY, eventually, is_alive
from store import Store

HERE = pathlib.Path(__file__).parent
EXAMPLE = HERE.parent.parent / "examples/train-line"
MANIFEST = """\
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {{name: {name}}}
spec:
  framework: {framework}
  command: {command}
  workers: {{count: {workers}}}
  retries: {retries}
{more}
"""


class Jobs:
    """A folder with a job in it, and the commands on its supervisor."""

    def __init__(self, root):
        self.root = root
        self.environment = {
            **os.environ, "TRAINYARD_STATE_DIR": str(root / "state"), "TRAINYARD_PORT": "0"
        }
        self.foreground = []
        shutil.copy(EXAMPLE / "train.py", root)

    def write(self, command=None, name="line", framework="generic", workers=2, retries=3, more="", steps=200, pause=0.02):
        command = command or [sys.executable, "train.py", "--steps", str(steps), "--pause", str(pause)]
        text = MANIFEST.format(
            name=name, framework=framework, command=json.dumps(command), workers=workers,
            retries=retries, more=more or "  checkpoint: {path: out, grace: 10s}",
        )
        path = self.root / f"{name}.yaml"
        path.write_text(text)
        return path.name

    def run(self, *arguments, code=0):
        done = subprocess.run(
            [BINARY, *map(str, arguments)], cwd=self.root, env=self.environment,
            capture_output=True, text=True, timeout=120,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *arguments):
        """`up` in the foreground."""
        process = subprocess.Popen(
            [BINARY, "up", *arguments], cwd=self.root, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.foreground.append(process)
        return process

    def status(self):
        return json.loads(self.run("status", "--json"))

    def job(self, name="line"):
        return next(job for job in self.status()["jobs"] if job["name"] == name)

    def over(self, name="line"):
        return eventually(lambda: (job := self.job(name))["isOver"] and job, lambda: self.run("status"))

    def step(self, least, name="line"):
        def reached():
            seen = self.job(name)["seen"] or {}
            return seen.get("step", -1) >= least

        eventually(reached, lambda: self.run("status", code=None) + self.run("logs", name, code=None))

    def pids(self, name="line"):
        return [worker["pid"] for worker in self.job(name)["workers"] if worker["pid"]]

    def programs(self):
        """Processes of the training program itself, by their environment."""
        found = []
        for process in pathlib.Path("/proc").iterdir():
            try:
                environ = (process / "environ").read_bytes()
                command = (process / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, NotADirectoryError, PermissionError, ProcessLookupError):
                continue
            is_ours = str(self.root).encode() in environ and b"TRAINYARD_RANK=" in environ
            if is_ours and b"agent" not in command and is_alive(process.name):
                found.append(int(process.name))
        return sorted(found)

    def supervisor(self):
        return self.status()["pid"]


@pytest.fixture
def jobs(tmp_path):
    jobs = Jobs(tmp_path)
    yield jobs
    jobs.run("down", "--now", code=None)
    for process in jobs.foreground:
        process.kill()
        process.stdout.close()
    left = jobs.programs()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == [], "processes were left"


def steps_done(text):
    """Steps that the first worker has printed, with each start of it."""
    return [int(step) for step in re.findall(r"step (\d+) loss", text)]


def test_the_example_as_printed(jobs):
    shutil.copy(EXAMPLE / "job.yaml", jobs.root)
    said = jobs.run("up", "job.yaml")
    assert "line  Succeeded (Finished)" in said
    assert "y = 2.997 x + -1.000" in jobs.run("logs", "line")
    assert "Succeeded" in jobs.run("status", code=1)
    assert "all workers have finished" in jobs.run("events", "line")
    # Once more by a person's wish, from where it was.
    assert "Succeeded" in jobs.run("up", "job.yaml")
    assert "goes on from step 200" in jobs.run("logs", "line")


def test_what_commands_show(jobs):
    jobs.run("up", "-d", jobs.write(steps=2000))
    jobs.step(20)
    table = jobs.run("status")
    assert re.search(r"line +Running +2/2 +1 +0/4 +step \d+, loss", table), table
    assert re.search(r"line +Running +Started +2 +1 +\d+", jobs.run("get"))
    resource = json.loads(jobs.run("get", "tj/line", "-o", "json"))
    assert resource["kind"] == "TrainingJob" and resource["status"]["activeWorkers"] == 2
    assert jobs.run("get", "-o", "name").strip().endswith("trainingjob.trainyard.dev/line")
    metrics = jobs.job()["workers"][0]["metrics"]
    text = urllib.request.urlopen(f"http://{metrics}/metrics").read().decode()
    assert 'trainyard_training_step{job_name="line",worker="0"}' in text
    assert "is a training job" in jobs.run("scale", "line", "--replicas", "2", code=None)
    # The same manifest changes nothing; another one has to wait.
    jobs.run("up", "-d", "line.yaml")
    assert jobs.job()["attempts"] == 1
    jobs.write(steps=3)
    assert "says something else of it" in jobs.run("up", "-d", "line.yaml", code=2)
    jobs.run("delete", "line")
    assert jobs.status()["jobs"] == []


def test_a_program_that_is_killed_starts_again_with_all_others(jobs):
    jobs.run("up", "-d", jobs.write())
    jobs.step(50)
    before = jobs.programs()
    assert len(before) == 2
    os.kill(random.choice(before), signal.SIGKILL)
    job = jobs.over()
    assert (job["phase"], job["failures"], job["attempts"]) == ("Succeeded", 1, 2)
    assert not any(map(is_alive, before))
    log = jobs.run("logs", "line", "--tail", "-1")
    resumed = int(re.search(r"goes on from step (\d+)", log)[1])
    assert resumed >= 40, "at most an interval is lost"
    assert "signal 9 ended the program" in jobs.run("events", "line")


def test_an_agent_that_is_killed_is_an_interruption(jobs):
    jobs.run("up", "-d", jobs.write(retries=0))
    jobs.step(30)
    before = jobs.programs()
    os.kill(jobs.pids()[1], signal.SIGKILL)
    job = jobs.over()
    assert (job["phase"], job["failures"], job["interruptions"]) == ("Succeeded", 0, 1)
    assert not any(map(is_alive, before))


def test_failures_end(jobs):
    manifest = jobs.write(["sh", "-c", "echo the disk is full >&2; exit 7"], retries=1)
    assert "RetriesExhausted" in jobs.run("up", manifest, code=1)
    jobs.run("up", "-d", manifest, code=None)
    job = jobs.over()
    assert (job["run"], job["attempts"], job["failures"]) == (2, 2, 2)
    assert "exit code 7; its last lines: the disk is full" in job["lastError"]
    assert "failure 1 of 2" in jobs.run("events", "line")


def test_what_cannot_start_is_not_tried_again(jobs):
    said = jobs.run("up", jobs.write(["no-such-program"]), code=1)
    assert "CannotStart" in said and "no-such-program" in said


def test_a_job_is_ended_with_a_checkpoint_and_goes_on_later(jobs):
    jobs.run("up", "-d", jobs.write(steps=300))
    jobs.step(45)
    jobs.run("down", "line")
    job = jobs.job()
    assert (job["phase"], job["reason"], job["failures"]) == ("Interrupted", "Stopped", 0)
    assert jobs.programs() == []
    saved = int(re.search(r"saved at step (\d+), as asked", jobs.run("logs", "line"))[1])
    jobs.run("up", "-d", "line.yaml")
    job = jobs.over()
    assert (job["phase"], job["run"]) == ("Succeeded", 2)
    assert f"goes on from step {saved}\n" in jobs.run("logs", "line", "--tail", "-1")
    jobs.run("down", "line")
    assert jobs.status()["jobs"] == [], "who takes down what is over wants it off the list"


def test_the_end_of_the_supervisor_is_an_interruption(jobs):
    process = jobs.start(jobs.write(steps=2000))
    eventually(lambda: jobs.run("status", "--json", code=None).startswith("{"))
    jobs.step(25)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 1
    assert jobs.programs() == []
    assert re.search(r"line +Interrupted", jobs.run("status", code=1))
    assert "saved at step" in jobs.run("logs", "line")
    # What it was is told by the history.
    described = jobs.run("describe", "line")
    assert re.search(r"Phase: +Interrupted", described) and "Workers:\n  (none)" in described, described
    assert json.loads(jobs.run("get", "tj/line", "-o", "json"))["status"]["reason"] == "Stopped"
    assert re.search(r"line +Interrupted +Stopped", jobs.run("get"))
    assert "condition met" in jobs.run("wait", "line", "--for", "condition=Ready=False")
    assert "the supervisor has ended" in jobs.run("wait", "line", "--for", "condition=Ready", code=2)
    assert "no supervisor runs" in jobs.run("describe", "lime", code=2)
    # And nobody is there to forget it.
    for how in ((), ("--dry-run=client",)):
        assert "no supervisor runs" in jobs.run("delete", "line", *how, code=2)


def test_workers_outlive_a_supervisor_that_is_killed(jobs):
    jobs.run("up", "-d", jobs.write(steps=400))
    jobs.step(20)
    before, programs = jobs.pids(), jobs.programs()
    os.kill(jobs.supervisor(), signal.SIGKILL)
    eventually(lambda: "no supervisor runs" in jobs.run("status", code=None))
    assert jobs.programs() == programs
    described = jobs.run("describe", "line")
    assert re.search(r"Phase: +Running", described), described
    assert all(f"pid {pid}" in described for pid in before), described
    jobs.run("up", "-d")
    assert jobs.pids() == before
    job = jobs.over()
    assert (job["phase"], job["attempts"]) == ("Succeeded", 1)


def test_workers_that_end_while_nobody_looks_are_believed(jobs):
    jobs.run("up", "-d", jobs.write(steps=100))
    jobs.step(5)
    os.kill(jobs.supervisor(), signal.SIGKILL)
    eventually(lambda: jobs.programs() == [])
    jobs.run("up", "-d")
    job = jobs.over()
    assert (job["phase"], job["attempts"], job["interruptions"]) == ("Succeeded", 1, 0)


def test_a_killed_supervisor_can_be_cleaned_up_after(jobs):
    jobs.run("up", "-d", jobs.write(steps=5000))
    jobs.step(5)
    os.kill(jobs.supervisor(), signal.SIGKILL)
    assert "processes that a supervisor had left" in jobs.run("down")
    assert jobs.programs() == []
    jobs.run("up", "-d", code=None)
    assert jobs.job()["phase"] == "Interrupted"


def test_a_handover_leaves_workers_alone(jobs):
    jobs.run("up", "-d", jobs.write(steps=500))
    jobs.step(5)
    before = jobs.pids()
    jobs.run("restart", "--gateway")
    assert jobs.pids() == before
    assert jobs.over()["attempts"] == 1


def test_a_hang_is_noticed_and_shows_where(jobs):
    (jobs.root / "hang.py").write_text(
        "import os, time\n"
        "def stuck_in_a_collective():\n    time.sleep(1000)\n"
        "open(os.environ['TRAINYARD_HEARTBEAT_FILE'], 'w').write('{\"step\": 1}')\n"
        "stuck_in_a_collective()\n"
    )
    manifest = jobs.write([sys.executable, "hang.py"], workers=1, retries=0, more="  progress: {timeout: 2s}")
    assert "RetriesExhausted" in jobs.run("up", manifest, code=1)
    assert "stuck_in_a_collective" in jobs.run("logs", "line")
    assert "Hung" in jobs.run("events", "line")


def test_the_deadline(jobs):
    manifest = jobs.write(["sleep", "1000"], more="  deadline: 2s")
    assert "DeadlineExceeded" in jobs.run("up", manifest, code=1)


def test_secrets_are_not_quoted(jobs):
    secret = jobs.root / "state/secrets/hub"
    secret.mkdir(parents=True)
    (secret / "token").write_text("hush-hush")
    env = "  env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: hub, key: token}}}]"
    jobs.run("up", jobs.write(["sh", "-c", "echo my $TOKEN; exit 1"], retries=0, more=env), code=1)
    shown = jobs.run("status", code=1) + jobs.run("events", "line") + jobs.run("status", "--json", code=1)
    assert "my (secret)" in shown and "hush-hush" not in shown


def test_what_makes_no_sense_is_refused_before_anything_starts(jobs):
    def refused(part, **what):
        said = jobs.run("up", jobs.write(**what), code=2)
        # Messages are drawn with line breaks.
        assert part in re.sub(r"[\s│]+", " ", said), said

    refused("lower `spec.workers.count`", more="  resources: {cpu: 900}")
    refused("`WORLD_SIZE`", more="  env: [{name: WORLD_SIZE, value: '8'}]", framework="pytorch")
    refused("no regular expression", more="  progress: {timeout: 1m, logPattern: 'step ('}")
    refused("unknown field `spec.spot`", more="  spot: only")
    assert "`spec.image` of `line` is missing" in jobs.run("render", "-f", jobs.write(), code=2)
    model = "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata: {name: line}\nspec: {model: {uri: 'file://./m.onnx'}}\n"
    (jobs.root / "service.yaml").write_text(model)
    assert "both called `line`" in jobs.run("up", "line.yaml", "service.yaml", code=2)


STEPS = """
import json, os, sys, time
folder = os.environ["TRAINYARD_CHECKPOINT_PATH"]
start = 0
if path := os.environ.get("TRAINYARD_RESTORE_PATH"):
    start = json.load(open(os.path.join(path, "state.json")))["step"]
    assert str(start) == os.environ["TRAINYARD_RESTORE_STEP"]
print("starts at", start, flush=True)
for step in range(start + 1, int(sys.argv[1]) + 1):
    time.sleep(0.05)
    if os.environ["RANK"] == "0" and step % 10 == 0:
        new = os.path.join(folder, f"tmp-{step}")
        os.makedirs(new, exist_ok=True)
        json.dump({"step": step}, open(os.path.join(new, "state.json"), "w"))
        open(os.path.join(new, "_SUCCESS"), "w").close()
        os.rename(new, os.path.join(folder, f"step-{step}"))
    open(os.environ["TRAINYARD_HEARTBEAT_FILE"], "w").write(json.dumps({"step": step}))
"""


def test_checkpoints_come_back_from_a_store(jobs):
    """The disk with the checkpoints is lost, and nothing but what came after the last is done again."""
    (jobs.root / "steps.py").write_text(STEPS)
    store = f"file://{jobs.root}/store"
    manifest = jobs.write(
        [sys.executable, "steps.py", "60"], more=f"  checkpoint: {{path: out, uri: '{store}', keep: 2, grace: 20s}}"
    )
    jobs.run("up", "-d", manifest)
    jobs.step(35)
    jobs.run("down", "line")
    shutil.rmtree(jobs.root / "out")
    jobs.run("up", "-d", manifest)
    assert jobs.over()["phase"] == "Succeeded"
    log = jobs.run("logs", "line", "--replica", "line-2-0")
    begun = int(re.search(r"starts at (\d+)", log)[1])
    assert begun >= 30 and f"goes on from the checkpoint step-{begun} of the store" in log
    assert f"starts at {begun}" in jobs.run("logs", "line", "--replica", "line-2-1")
    listed = jobs.run("checkpoints", "ls", store)
    assert "step-60" in listed and "step-50" in listed and "step-40" not in listed, listed
    # The job's name will do, and after the supervisor has ended too.
    assert "step-50" in jobs.run("checkpoints", "ls", "line")
    assert "step-50  good" in jobs.run("checkpoints", "verify", "tj/line", "50")
    # A damaged one is passed over, and the one before it is taken.
    shutil.rmtree(jobs.root / "out")
    newest = next((jobs.root / "store/steps/step-60").rglob("*.json")).read_text()
    for content in set(re.findall(r"\b[0-9a-f]{64}\b", newest)):
        for chunk in (jobs.root / "store/chunks").rglob(content):
            chunk.write_bytes(b"torn")
    jobs.run("up", "-d", manifest)
    assert jobs.over()["phase"] == "Succeeded"
    assert "passed over step-60" in jobs.run("logs", "line") and "starts at 50" in jobs.run("logs", "line")


READS = """
import os, pathlib, sys
print("sees", pathlib.Path(sys.argv[1]).read_text(), os.path.exists(os.environ["TRAINYARD_DATA_FOLDER"] + "/b"), flush=True)
"""


def test_data_is_there_when_the_program_starts(jobs):
    (jobs.root / "reads.py").write_text(READS)
    (jobs.root / "folder").mkdir()
    (jobs.root / "folder/b").touch()
    command = [sys.executable, "reads.py", "$(TRAINYARD_DATA_WORDS)"]
    with Store({"/words.txt": b"some words"}).serve() as address:
        # Plain HTTP is for this machine's own addresses, which only a URI of the agent's can have.
        said = agent_with_data(jobs, f"words={address}/words.txt", f"folder={jobs.root}/folder", command=command)
        assert "sees some words True" in said and "fetched the data `words`, 10 bytes" in said
        # The other one is in the cache by now, whatever the store says.
        missing = agent_with_data(jobs, f"words={address}/none.txt", command=command, code=126)
        assert "the data `words` cannot be had" in missing
    data = "  data: [{name: words, uri: 'file://./folder/b'}, {name: folder, uri: 'file://./folder'}]"
    jobs.run("up", jobs.write(command, more=data))
    assert "sees  True" in jobs.run("logs", "line")
    data = "  data: [{name: folder, uri: 'file://./nothing'}]"
    said = jobs.run("up", jobs.write(command, name="lost", more=data), code=1)
    assert "CannotStart" in said and "the data `folder` cannot be had" in said


def agent_with_data(jobs, *sets, command, code=0):
    flags = [flag for one in sets for flag in ("--data", one)]
    return jobs.run("agent", "run", "--data-cache", jobs.root / "cache", *flags, "--", *command, code=code)


@pytest.mark.parametrize("seed", range(int(os.environ.get("TRAINYARD_CHAOS_RUNS", "2"))))
def test_kills_at_random_moments(jobs, seed):
    """Whatever is killed, the job finishes, and never loses more than an interval of 20 steps."""
    chance = random.Random(seed)
    jobs.run("up", "-d", jobs.write(steps=240, retries=50))
    jobs.step(5)
    for _ in range(4):
        if jobs.job()["isOver"]:
            break
        what = chance.choice(["program", "agent", "supervisor"])
        victims = {"program": jobs.programs, "agent": jobs.pids, "supervisor": lambda: [jobs.supervisor()]}[what]()
        if victims:
            try:
                os.kill(chance.choice(victims), signal.SIGKILL)
            except ProcessLookupError:
                pass
        if what == "supervisor":
            eventually(lambda: "no supervisor runs" in jobs.run("status", code=None))
            jobs.run("up", "-d", code=None)
        target = (jobs.job()["seen"] or {}).get("step", 0) + chance.randrange(10, 50)
        eventually(lambda: jobs.job()["isOver"] or (jobs.job()["seen"] or {}).get("step", 0) >= target)
    assert jobs.over()["phase"] == "Succeeded"
    log = jobs.run("logs", "line", "--replica", "line-1-0", "--tail", "-1")
    assert "y = 2.99" in log
    reached = 0
    for line in log.splitlines():
        if found := re.search(r"step (\d+) loss", line):
            reached = int(found[1])
        elif found := re.search(r"goes on from step (\d+)", line):
            assert int(found[1]) >= reached, log
