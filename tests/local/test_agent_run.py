"""`trainyard agent run` by itself: signals, exits, hangs and what it leaves behind."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from custom import BINARY, eventually, is_alive
from metadata import Metadata

TRAINER = """
import json, os, signal, sys, time
def save(*_):
    open("saved", "w").write("yes")
if "handles" in sys.argv:
    signal.signal(signal.SIGUSR1, save)
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", os.environ.get("RANK"), flush=True)
open(f"pid-{os.environ.get('RANK', '0')}", "w").write(str(os.getpid()))
while not os.path.exists("go"):
    time.sleep(0.02)
"""

SAVES = ["--checkpoint-signal", "SIGUSR1"]


@pytest.fixture
def agent(tmp_path):
    started = []
    (tmp_path / "trainer.py").write_text(TRAINER)

    def start(*flags, command=None, words=(), gang=None):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TRAINYARD_")}
        if gang:
            environment["TRAINYARD_GANG"] = json.dumps(gang)
        command = command or [sys.executable, "trainer.py", *words]
        report = tmp_path / "report.json"
        process = subprocess.Popen(
            [BINARY, "agent", "run", "--report", report, *flags, "--", *command],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.stdout.close()


def gang(processes, framework="pytorch"):
    worker = {"host": "127.0.0.1", "port": 29500}
    return {
        "job": "digits", "attempt": 1, "framework": framework, "launcher": "agent",
        "processes": processes, "workers": [worker],
    }


def report(tmp_path):
    return json.loads((tmp_path / "report.json").read_text())


def pid_of(tmp_path, rank=0):
    path = tmp_path / f"pid-{rank}"
    return int(eventually(lambda: path.exists() and path.read_text()))


@pytest.mark.parametrize(
    ("command", "code", "cause"),
    [
        (["true"], 0, {"kind": "finished"}),
        (["sh", "-c", "echo boom >&2; exit 3"], 3, {"kind": "exited", "number": 3}),
        (["sh", "-c", "kill -SEGV $$"], 139, {"kind": "signalled", "number": 11}),
        (["no-such-program"], 127, {"kind": "notStarted", "number": 127}),
        (["/etc"], 126, {"kind": "notStarted", "number": 126}),
    ],
)
def test_how_it_ended(agent, tmp_path, command, code, cause):
    process = agent(command=command)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == code, said
    ended = report(tmp_path)["ended"]
    assert ended["cause"] == cause
    if code == 3:
        assert ended["lastLines"] == ["boom"] and "boom" in said


def test_a_checkpoint_is_asked_for_before_the_end(agent, tmp_path):
    process = agent(*SAVES, "--grace", "8s", words=["handles"])
    pid = pid_of(tmp_path)
    process.terminate()
    eventually((tmp_path / "saved").exists)
    # It does not end by itself, and gets three quarters of its time before it is told to.
    assert is_alive(pid)
    assert process.wait(timeout=30) == 143
    assert not is_alive(pid)
    assert report(tmp_path)["ended"]["cause"] == {"kind": "interrupted"}


def test_who_handles_no_signal_does_not_die_of_it(agent, tmp_path):
    process = agent(*SAVES, "--grace", "30s")
    pid_of(tmp_path)
    process.terminate()
    assert process.wait(timeout=10) == 143
    assert not (tmp_path / "saved").exists()


def test_who_does_not_end_is_killed(agent, tmp_path):
    process = agent(*SAVES, "--grace", "2s", words=["stubborn"])
    pid = pid_of(tmp_path)
    process.terminate()
    assert process.wait(timeout=20) == 143
    assert not is_alive(pid)


def test_a_shell_passes_no_signal_on_and_we_do(agent, tmp_path):
    shell = ["sh", "-c", f"{sys.executable} trainer.py handles; echo after"]
    process = agent(*SAVES, "--grace", "4s", command=shell)
    pid = pid_of(tmp_path)
    process.terminate()
    eventually((tmp_path / "saved").exists)
    assert process.wait(timeout=30) == 143
    eventually(lambda: not is_alive(pid))


def test_other_signals_are_passed_on(agent, tmp_path):
    process = agent(words=["handles"])
    pid_of(tmp_path)
    process.send_signal(signal.SIGUSR2)  # Nobody handles it, and nobody dies of it.
    process.send_signal(signal.SIGUSR1)
    eventually((tmp_path / "saved").exists)
    (tmp_path / "go").touch()
    assert process.wait(timeout=10) == 0


def test_one_of_several_fails_and_all_end(agent, tmp_path):
    process = agent(gang=gang(3))
    pids = [pid_of(tmp_path, rank) for rank in range(3)]
    os.kill(pids[1], signal.SIGKILL)
    said = process.communicate(timeout=20)[0]
    assert process.returncode == 137
    assert report(tmp_path)["ended"]["rank"] == 1
    assert not any(map(is_alive, pids))
    assert sorted(said.splitlines())[:3] == [f"[{rank}] ready {rank}" for rank in range(3)]


def test_nothing_is_left_behind(agent, tmp_path):
    script = "import os, subprocess; p = subprocess.Popen(['sleep', '1000'], start_new_session=True); open('left', 'w').write(str(p.pid))"
    process = agent(command=[sys.executable, "-c", script])
    assert process.wait(timeout=20) == 0
    assert not is_alive(int((tmp_path / "left").read_text()))


def test_orphans_are_collected(agent, tmp_path):
    # A grandchild that loses its parent is the agent's to collect, as the first process's.
    script = (
        "import os, time\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "open('forked', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.02)\n"
    )
    process = agent(command=[sys.executable, "-c", script])
    eventually((tmp_path / "forked").exists)

    def zombies():
        listing = subprocess.run(["ps", "-o", "stat=", "--ppid", str(process.pid)], capture_output=True, text=True)
        return [line for line in listing.stdout.split() if line.startswith("Z")]

    eventually(lambda: not zombies())
    (tmp_path / "go").touch()
    assert process.wait(timeout=10) == 0


def test_a_hang_shows_its_stacks(agent, tmp_path):
    script = "import time\ndef waits_for_ever():\n    time.sleep(1000)\nwaits_for_ever()"
    process = agent("--progress-timeout", "1s", command=[sys.executable, "-X", "faulthandler", "-c", script])
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 98
    assert "waits_for_ever" in said and "no progress" in said
    ended = report(tmp_path)["ended"]
    assert ended["cause"] == {"kind": "hung"}
    assert any("waits_for_ever" in line for line in ended["lastLines"])


def test_progress_by_lines_and_by_file(agent, tmp_path):
    script = (
        "import json, os, time\n"
        "for step in range(30):\n"
        "    print(f'step {step} loss {1 / (step + 1)}', flush=True)\n"
        "    time.sleep(0.1)\n"
        "for step in range(30, 60):\n"
        "    open(os.environ['TRAINYARD_HEARTBEAT_FILE'], 'w').write(json.dumps({'step': step, 'loss': 0.5}))\n"
        "    time.sleep(0.1)\n"
    )
    pattern = r"step (?P<step>\d+) loss (?P<loss>\S+)"
    flags = ["--progress-timeout", "2s", "--log-pattern", pattern, "--metrics", "127.0.0.1:0"]
    process = agent(*flags, command=[sys.executable, "-c", script])

    def seen():
        try:
            return report(tmp_path).get("seen")
        except FileNotFoundError:
            return None

    first = eventually(lambda: (now := seen()) and now["step"] >= 3 and now)
    assert first["loss"] > 0
    eventually(lambda: seen()["step"] >= 35)
    address = report(tmp_path)["metrics"]
    text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    assert "trainyard_training_step" in text and "trainyard_training_goodput_ratio" in text
    assert process.wait(timeout=30) == 0
    assert report(tmp_path)["seen"]["step"] == 59


def test_a_notice_of_the_cloud_asks_for_a_checkpoint(agent, tmp_path):
    server = Metadata(("127.0.0.1", 0), "take")
    try:
        process = agent(
            *SAVES, "--cloud", "auto", "--metadata", f"127.0.0.1:{server.server_port}", words=["handles"]
        )
        pid = pid_of(tmp_path)
        eventually((tmp_path / "saved").exists)
        assert report(tmp_path)["notice"]["action"] == "terminate"
        assert is_alive(pid)
        (tmp_path / "go").touch()
        # One that leaves because it was asked to save says the same as one that has finished.
        assert process.wait(timeout=10) == 143
        assert "left: notice of aws: terminate" in report(tmp_path)["ended"]["message"]
    finally:
        server.shutdown()


def test_workers_restore_from_each_other(agent, tmp_path):
    # As pods have them: an address each, and one port.
    workers = [f"127.0.0.{index + 2}" for index in range(3)]
    with socket.create_server((workers[0], 0)) as free:
        port = str(free.getsockname()[1])
    (tmp_path / "token").write_text("0123456789abcdef" * 4)
    whole = gang(1, "generic") | {"workers": [{"host": host, "port": 29500} for host in workers]}

    def flags(start, index):
        return [
            "--index", str(index), "--checkpoint-path", f"{start}-{index}", "--checkpoint-start", start,
            "--checkpoint-uri", f"file://{tmp_path}/store", "--checkpoint-writers", "first",
            "--token-file", "token", "--checkpoint-peers", port,
        ]

    # Four chunks that differ; of these, each worker is dealt one at least.
    content = random.Random(1).randbytes(50 << 20)
    (tmp_path / "content").write_bytes(content)
    save = "mkdir a-0/step-5 && cp content a-0/step-5/model && touch a-0/step-5/_SUCCESS"
    process = agent(*flags("a", 0), command=["sh", "-c", save], gang=whole)
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and any((tmp_path / "store/steps").iterdir()), text

    hold = 'touch "$TRAINYARD_RESTORE_PATH.there"; until [ -e go ]; do sleep 0.05; done'
    started = [agent(*flags("b", index), command=["sh", "-c", hold], gang=whole) for index in range(3)]
    for index in range(3):
        eventually(lambda path=tmp_path / f"b-{index}/step-5.there": path.exists())
    (tmp_path / "go").write_text("")
    texts = [process.communicate(timeout=60)[0] for process in started]
    brought = [
        [int(number) for number in re.findall(r"(\d+) bytes of it came from \d other workers? and (\d+) from", text)[0]]
        for text in texts if "other worker" in text
    ]
    # Who started late may have had everything dealt to it from the others, but nobody all from the store.
    assert len(brought) == 3 and all(sum(each) == len(content) for each in brought), texts
    assert sum(store for _, store in brought) < 2 * len(content), texts
    for index in range(3):
        assert (tmp_path / f"b-{index}/step-5/model").read_bytes() == content


SAVES_ONCE = "mkdir out/step-7 && head -c 1000000 /dev/zero > out/step-7/model && touch out/step-7/_SUCCESS"


def test_who_has_finished_and_cannot_save_has_not_finished(agent, tmp_path):
    flags = ["--checkpoint-path", "out", "--checkpoint-uri", f"file://{tmp_path}/store"]
    process = agent(*flags, command=["sh", "-c", f"rm -rf store && touch store && {SAVES_ONCE}"])
    text = process.communicate(timeout=30)[0]
    assert process.returncode == 1, text
    message = report(tmp_path)["ended"]["message"]
    assert message.startswith("it has finished before its last checkpoint `step-7` was in the store: cannot "), message


def test_who_is_told_to_end_before_the_last_checkpoint_is_durable_starts_again(tmp_path):
    small = "mkdir store && mount -t tmpfs -o size=64k tmpfs store"
    alone = ["unshare", "--mount"] + ([] if os.getuid() == 0 else ["--user", "--map-root-user"])
    if not shutil.which("unshare") or subprocess.run([*alone, "sh", "-c", small], cwd=tmp_path).returncode:
        pytest.skip("no file system of its own can be made here")
    (tmp_path / "store").rmdir()
    flags = ["--checkpoint-path", "out", "--checkpoint-uri", f"file://{tmp_path}/store", "--grace", "1s", *SAVES]
    command = ["sh", "-c", f"{SAVES_ONCE} && touch done"]
    process = subprocess.Popen(
        [*alone, "sh", "-c", f'{small} && exec "$@"', "sh", BINARY, "agent", "run", "--report", "report.json", *flags, "--", *command],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        eventually(lambda: (tmp_path / "done").exists())
        # The store is full, and may have room again.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        process.send_signal(signal.SIGTERM)
        text = process.communicate(timeout=30)[0]
    finally:
        process.kill()
    assert process.returncode == 143, text
    message = report(tmp_path)["ended"]["message"]
    assert message.startswith("it was told to end before its last checkpoint `step-7` was in the store: "), message


def test_a_program_that_is_asked_and_does_not_save_is_told_of(agent, tmp_path):
    store = f"file://{tmp_path}/store"
    flags = ["--checkpoint-path", "out", "--checkpoint-uri", store, "--checkpoint-interval", "5s", *SAVES]
    metrics = ["--metrics", "127.0.0.1:0"]
    process = agent(*flags, *metrics, words=["handles"])
    pid_of(tmp_path)
    lines = iter(process.stdout)
    assert next(line for line in lines if "written none" in line).count("TRAINYARD_CHECKPOINT_REQUEST_FILE") == 1
    with urllib.request.urlopen(f"http://{report(tmp_path)['metrics']}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    at_risk = re.search(r"^trainyard_training_seconds_at_risk\{.*\} (\S+)$", text, re.MULTILINE)
    assert float(at_risk[1]) > 5, text
    (tmp_path / "go").write_text("")
    assert process.wait(timeout=30) == 0


def test_what_cannot_be_meant_is_refused(agent):
    for flags, part in [
        (["--log-pattern", "step ("], "unclosed group"),
        (["--index", "3"], "no worker 3"),
    ]:
        process = agent(*flags, gang=gang(1))
        said = process.communicate(timeout=10)[0]
        assert process.returncode == 2 and part in said, said
