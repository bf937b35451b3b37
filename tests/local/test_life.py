"""From `up` to `down`, and what happens when something is killed in between."""

import os
import signal
import time

import pytest

from custom import eventually, is_alive


def test_foreground(custom):
    path = custom.write()
    with custom.foreground(path) as process:
        custom.settled(1)
        assert custom.says() == "one"
        [pid] = custom.pids()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0, custom.words()
    assert not is_alive(pid)
    assert "http://127.0.0.1" in custom.words()
    assert custom.processes() == []


def test_requests_in_flight_are_answered_at_the_end(custom):
    import threading

    path = custom.write()
    with custom.foreground(path) as process:
        custom.settled(1)
        answers = []
        slow = threading.Thread(target=lambda: answers.append(custom.ask(take="1.5")))
        slow.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        slow.join()
    assert answers[0][0] == 200


def test_detached_with_every_command(custom):
    path = custom.write()
    said = custom.up(path)
    assert "echo is ready" in said
    assert custom.says() == "one"
    assert "echo" in custom.run("status")
    assert "listening" in custom.run("logs", "echo")
    assert custom.happened("Ready")
    custom.run("scale", "echo", "3")
    assert len(set(custom.settled(3) and custom.pids())) == 3
    custom.run("scale", "echo", "1")
    custom.settled(1)
    assert "not found" in custom.run("scale", "nobody", "1", code=2)
    assert "ended" in custom.run("down")
    said = custom.run("status", code=1)
    assert "no supervisor runs" in said and "down" in said
    assert custom.processes() == []
    assert "nothing runs" in custom.run("down")


def test_two_supervisors_never_share_a_state_folder(custom):
    first, second = custom.write(), custom.write(name="other", file="other.yaml")
    custom.up(first)
    pid = custom.status()["pid"]
    # `up` again adds to what runs.
    custom.up(second)
    assert custom.status()["pid"] == pid
    assert [one["name"] for one in custom.status()["services"]] == ["echo", "other"]
    custom.run("down", "other")
    assert [one["name"] for one in custom.status()["services"]] == ["echo"]


def test_a_replica_that_is_killed_comes_back(custom):
    custom.up(custom.write())
    [pid] = custom.pids()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: custom.pids() not in ([], [pid]))
    assert custom.says() == "one"
    assert "signal 9" in custom.happened("Killed")[0]["message"]
    assert custom.service()["replicas"][0]["restarts"] == 1


def test_the_next_supervisor_adopts_what_a_killed_one_left(custom):
    path = custom.write(scaling="{min: 2}")
    custom.up(path)
    before = sorted(custom.pids())
    supervisor = custom.status()["pid"]
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not is_alive(supervisor))
    assert all(map(is_alive, before)), "replicas outlive their supervisor"
    said = custom.run("status", code=1)
    assert "still runs as pid" in said

    # One of them ends while nobody looks.
    os.kill(before[0], signal.SIGKILL)
    custom.up(path)
    custom.settled(2)
    assert before[1] in custom.pids() and before[0] not in custom.pids()
    assert custom.happened("Adopted")
    assert custom.says() == "one"
    # It is watched like any other.
    os.kill(before[1], signal.SIGKILL)
    eventually(lambda: before[1] not in custom.pids() and len(custom.pids()) == 2)


def test_down_ends_what_a_killed_supervisor_left(custom):
    custom.up(custom.write())
    [pid] = custom.pids()
    os.kill(custom.status()["pid"], signal.SIGKILL)
    eventually(lambda: not custom.is_up())
    assert "ended 1 process" in custom.run("down")
    assert not is_alive(pid)


def test_killed_while_it_starts(custom):
    """Whatever the moment, nothing is left that the next one does not know of."""
    path = custom.write(scaling="{min: 3}")
    for delay in (0, 0.02, 0.05, 0.1):
        with custom.foreground(path) as process:
            time.sleep(delay)
            process.kill()
            process.wait()
    custom.up(path)
    custom.settled(3)
    eventually(lambda: sorted(custom.processes()) == sorted(custom.pids()))


def test_secrets_are_passed_and_never_shown(custom):
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {token: s3cr3t-value}\n"
    env = ["{name: SECRET, valueFrom: {secretKeyRef: {name: keys, key: token}}}"]
    path = custom.write(env=env, more="---\n" + secret)
    custom.up(path)
    assert custom.ask()[1]["secret_length"] == len("s3cr3t-value")
    path = custom.write(env=[*env, "{name: EXIT_WITH, value: '3'}"], more="---\n" + secret)
    eventually(lambda: custom.happened("Exited"))
    said = custom.happened("Exited")[0]["message"]
    assert "exit code 3" in said and "no model here: (secret)" in said
    custom.run("down")
    for file in custom.state.rglob("*"):
        if file.is_file() and "logs" not in file.parts:
            assert b"s3cr3t-value" not in file.read_bytes(), file


@pytest.mark.parametrize("taken", [True, False])
def test_what_cannot_run_is_said(custom, taken):
    if taken:
        import socket

        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            said = custom.run("up", "-d", "--port", port, custom.write(), code=2)
        assert str(port) in said and "--port" in said
        return
    path = custom.write(env=["{name: EXIT_WITH, value: '3'}"])
    said = custom.run("up", "-d", "--port", "0", path, code=1)
    assert "exit code 3" in said


KEYS = """\
  access: {apiKeysSecret: keys}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {alice: s3cr3t-key}
"""


def is_guarded(custom):
    with_key = custom.ask(headers={"authorization": "Bearer s3cr3t-key"})
    return custom.ask()[0] == 401 and with_key[0] == 200


def replace_supervisor(custom, how):
    before = custom.status()["pid"]
    if how == "handover":
        custom.run("restart", "--gateway")
    else:
        os.kill(before, signal.SIGKILL)
        eventually(lambda: not is_alive(before))
        custom.up()
    eventually(lambda: custom.is_up() and custom.status()["pid"] != before)


@pytest.mark.parametrize("how", ["handover", "kill"])
def test_policies_outlive_the_supervisor(custom, how):
    custom.up(custom.write())
    custom.up(custom.write(scaling="{min: 2}", more=KEYS))
    custom.settled(2)
    assert is_guarded(custom)
    replicas = sorted(custom.pids())
    for _ in range(2):
        replace_supervisor(custom, how)
        assert custom.ask()[0] == 401, "not even for a moment"
        custom.settled(2)
        time.sleep(1.5)
        assert is_guarded(custom) and sorted(custom.pids()) == replicas


def test_a_manifest_that_changes_while_no_supervisor_runs(custom):
    custom.up(custom.write())
    supervisor = custom.status()["pid"]
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not is_alive(supervisor))
    custom.write(scaling="{min: 2}", more=KEYS)
    custom.up()
    eventually(lambda: is_guarded(custom))
    custom.settled(2)


@pytest.mark.parametrize("how", [None, "handover", "kill"])
def test_going_back_keeps_the_policies(custom, how):
    custom.up(custom.write("one"))
    custom.up(custom.write("two", scaling="{min: 2}", more=KEYS))
    custom.settled(2)
    assert is_guarded(custom)
    key = {"authorization": "Bearer s3cr3t-key"}
    custom.run("rollback", "echo")
    eventually(lambda: custom.ask(headers=key)[1]["says"] == "one")
    custom.settled(2)
    if how is not None:
        replace_supervisor(custom, how)
    time.sleep(1.5)
    custom.settled(2)
    assert is_guarded(custom) and custom.ask(headers=key)[1]["says"] == "one"


def test_another_port_than_the_one_that_runs_is_said(custom):
    path = custom.write()
    custom.up(path)
    assert "--port" not in custom.run("up", "-d", path)
    assert "--port" not in custom.run("up", "-d", "--port", custom.port, path)
    assert f"stays at 127.0.0.1:{custom.port}" in custom.run("up", "-d", "--port", "1", path)


@pytest.mark.parametrize("supervised", [True, False])
def test_down_now_waits_for_nobody(custom, supervised):
    """A replica that does not listen is killed, long before its 30 s to drain are over."""
    custom.up(custom.write(scaling="{min: 2}", env=["{name: ON_TERM, value: stay}"]))
    replicas = custom.pids()
    if not supervised:
        os.kill(custom.status()["pid"], signal.SIGKILL)
        eventually(lambda: not custom.is_up())
    custom.run("down", "--now", timeout=20)
    assert not any(map(is_alive, replicas))
    assert "no supervisor runs" in custom.run("status", code=1)


def test_a_second_signal_waits_for_nobody(custom):
    path = custom.write(env=["{name: ON_TERM, value: stay}"])
    with custom.foreground(path) as process:
        custom.settled(1)
        [pid] = custom.pids()
        process.send_signal(signal.SIGINT)
        eventually(lambda: "once more to hurry" in custom.words())
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    assert not is_alive(pid)
