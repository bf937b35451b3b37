"""From `up` to `down`, and what happens when something is killed in between."""

import os
import signal
import time

import pytest

from conftest import eventually, is_alive


def test_foreground(yard):
    path = yard.write()
    with yard.foreground(path) as process:
        yard.settled(1)
        assert yard.says() == "one"
        [pid] = yard.pids()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0, yard.words()
    assert not is_alive(pid)
    assert "http://127.0.0.1" in yard.words()
    assert yard.processes() == []


def test_requests_in_flight_are_answered_at_the_end(yard):
    import threading

    path = yard.write()
    with yard.foreground(path) as process:
        yard.settled(1)
        answers = []
        slow = threading.Thread(target=lambda: answers.append(yard.ask(take="1.5")))
        slow.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        slow.join()
    assert answers[0][0] == 200


def test_detached_with_every_command(yard):
    path = yard.write()
    said = yard.up(path)
    assert "echo is ready" in said
    assert yard.says() == "one"
    assert "echo" in yard.run("status")
    assert "listening" in yard.run("logs", "echo")
    assert yard.happened("Ready")
    yard.run("scale", "echo", "3")
    assert len(set(yard.settled(3) and yard.pids())) == 3
    yard.run("scale", "echo", "1")
    yard.settled(1)
    assert "does not run" in yard.run("scale", "nobody", "1", code=2)
    assert "ended" in yard.run("down")
    said = yard.run("status", code=1)
    assert "no supervisor runs" in said and "down" in said
    assert yard.processes() == []
    assert "nothing runs" in yard.run("down")


def test_two_supervisors_never_share_a_state_folder(yard):
    first, second = yard.write(), yard.write(name="other", file="other.yaml")
    yard.up(first)
    pid = yard.status()["pid"]
    # `up` again adds to what runs.
    yard.up(second)
    assert yard.status()["pid"] == pid
    assert [one["name"] for one in yard.status()["services"]] == ["echo", "other"]
    yard.run("down", "other")
    assert [one["name"] for one in yard.status()["services"]] == ["echo"]


def test_a_replica_that_is_killed_comes_back(yard):
    yard.up(yard.write())
    [pid] = yard.pids()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: yard.pids() not in ([], [pid]))
    assert yard.says() == "one"
    assert "signal 9" in yard.happened("Killed")[0]["message"]
    assert yard.service()["replicas"][0]["restarts"] == 1


def test_the_next_supervisor_adopts_what_a_killed_one_left(yard):
    path = yard.write(scaling="{min: 2}")
    yard.up(path)
    before = sorted(yard.pids())
    supervisor = yard.status()["pid"]
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not is_alive(supervisor))
    assert all(map(is_alive, before)), "replicas outlive their supervisor"
    said = yard.run("status", code=1)
    assert "still runs as pid" in said

    # One of them ends while nobody looks.
    os.kill(before[0], signal.SIGKILL)
    yard.up(path)
    yard.settled(2)
    assert before[1] in yard.pids() and before[0] not in yard.pids()
    assert yard.happened("Adopted")
    assert yard.says() == "one"
    # It is watched like any other.
    os.kill(before[1], signal.SIGKILL)
    eventually(lambda: before[1] not in yard.pids() and len(yard.pids()) == 2)


def test_down_ends_what_a_killed_supervisor_left(yard):
    yard.up(yard.write())
    [pid] = yard.pids()
    os.kill(yard.status()["pid"], signal.SIGKILL)
    eventually(lambda: not yard.is_up())
    assert "ended 1 process" in yard.run("down")
    assert not is_alive(pid)


def test_killed_while_it_starts(yard):
    """Whatever the moment, nothing is left that the next one does not know of."""
    path = yard.write(scaling="{min: 3}")
    for delay in (0, 0.02, 0.05, 0.1):
        with yard.foreground(path) as process:
            time.sleep(delay)
            process.kill()
            process.wait()
    yard.up(path)
    yard.settled(3)
    eventually(lambda: sorted(yard.processes()) == sorted(yard.pids()))


def test_secrets_are_passed_and_never_shown(yard):
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {token: s3cr3t-value}\n"
    env = ["{name: SECRET, valueFrom: {secretKeyRef: {name: keys, key: token}}}"]
    path = yard.write(env=env, more="---\n" + secret)
    yard.up(path)
    assert yard.ask()[1]["secret_length"] == len("s3cr3t-value")
    path = yard.write(env=[*env, "{name: EXIT_WITH, value: '3'}"], more="---\n" + secret)
    eventually(lambda: yard.happened("Exited"))
    said = yard.happened("Exited")[0]["message"]
    assert "exit code 3" in said and "no model here: (secret)" in said
    yard.run("down")
    for file in yard.state.rglob("*"):
        if file.is_file() and "logs" not in file.parts:
            assert b"s3cr3t-value" not in file.read_bytes(), file


@pytest.mark.parametrize("taken", [True, False])
def test_what_cannot_run_is_said(yard, taken):
    if taken:
        import socket

        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            said = yard.run("up", "-d", "--port", port, yard.write(), code=2)
        assert str(port) in said and "--port" in said
        return
    path = yard.write(env=["{name: EXIT_WITH, value: '3'}"])
    said = yard.run("up", "-d", "--port", "0", path, code=1)
    assert "exit code 3" in said
