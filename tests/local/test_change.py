"""Changes while clients are busy: none of their requests fails."""

import time

from custom import eventually, is_alive


def test_a_changed_manifest_rolls_out(custom):
    custom.up(custom.write("one", scaling="{min: 2}"))
    with custom.load() as answers:
        custom.write("two", scaling="{min: 2}")
        eventually(lambda: answers and answers[-1]["says"] == "two")
        custom.settled(2)
        # The old ones have gone, all of them.
        time.sleep(0.3)
        assert {one["says"] for one in answers[-20:]} == {"two"}
    assert {one["says"] for one in answers} == {"one", "two"}


def test_rollback_and_back_again(custom):
    path = custom.write("one")
    custom.up(path)
    custom.write("two")
    custom.up(path)
    assert custom.says() == "two"
    with custom.load():
        custom.run("rollback", "echo")
        eventually(lambda: custom.says() == "one")
        custom.settled(1)
    custom.run("rollback", "echo")
    eventually(lambda: custom.says() == "two")
    custom.settled(1)
    assert custom.happened("Rollback")
    assert "no revision `nosuch`" in custom.run("rollback", "echo", "--to", "nosuch", code=2)


def test_a_manifest_with_a_mistake_changes_nothing(custom):
    path = custom.write("one")
    custom.up(path)
    [pid] = custom.pids()
    path.write_text(path.read_text().replace("scaling", "scalling"))
    error = eventually(lambda: custom.service()["lastError"])
    assert "scalling" in error and "echo.yaml:" in error
    assert custom.pids() == [pid] and custom.says() == "one"
    custom.write("one")
    eventually(lambda: custom.service()["lastError"] is None)
    assert custom.pids() == [pid]


def test_a_broken_revision_never_takes_traffic(custom):
    path = custom.write("one")
    custom.up(path)
    with custom.load(clients=2) as answers:
        custom.write("two", env=["{name: EXIT_WITH, value: '3'}"])
        eventually(lambda: custom.service()["phase"] == "Aborted", lambda: str(custom.service()))
    assert {one["says"] for one in answers} == {"one"}
    assert "exit code 3" in custom.happened("Exited")[0]["message"]
    custom.write("three")
    eventually(lambda: custom.says() == "three")
    custom.settled(1)


def test_a_changed_model_is_a_new_revision(custom):
    custom.up(custom.write())
    before = custom.service()["target"]
    (custom.root / "model.bin").write_bytes(b"another model")
    eventually(lambda: custom.service()["target"] != before)
    custom.settled(1)
    # The old model is still there, though its file was overwritten.
    custom.run("rollback", "echo")
    eventually(lambda: custom.service()["target"] == before)
    custom.settled(1)
    # Nor does the file's change count again.
    time.sleep(2)
    assert custom.service()["target"] == before


def test_restart_replaces_every_replica(custom):
    custom.up(custom.write(scaling="{min: 2}"))
    before = set(custom.pids())
    with custom.load():
        custom.run("restart", "echo")
        eventually(lambda: len(custom.pids()) == 2 and not before & set(custom.pids()))
        custom.settled(2)


def test_scaling_down_drains(custom):
    custom.up(custom.write(scaling="{min: 3}"))
    with custom.load():
        custom.run("scale", "echo", "1")
        custom.settled(1)


def test_to_zero_and_back(custom):
    custom.up(custom.write(scaling="{min: 0, scaleToZeroAfter: 1s, concurrency: 4}"))
    [pid] = custom.pids()
    custom.run("scale", "echo", "0")
    eventually(lambda: not is_alive(pid))
    custom.settled(0)
    # Held until a replica is there.
    assert custom.says() == "one"
    assert custom.pids() not in ([], [pid])


def test_a_service_that_a_file_drops_goes(custom):
    first = custom.write().read_text()
    second = custom.write(name="other", file="other.yaml").read_text()
    both = custom.root / "both.yaml"
    both.write_text(first + "---\n" + second)
    custom.up(both)
    both.write_text(first)
    eventually(lambda: custom.service("other") is None)
    custom.settled(1)


def test_the_gateway_is_handed_over(custom):
    custom.up(custom.write(scaling="{min: 2}"))
    before, replicas = custom.status()["pid"], sorted(custom.pids())
    with custom.load():
        for _ in range(2):
            custom.run("restart", "--gateway")
            eventually(lambda: custom.is_up() and custom.status()["pid"] != before)
            before = custom.status()["pid"]
            time.sleep(0.5)
    assert sorted(custom.pids()) == replicas
    custom.settled(2)


def test_a_foreground_supervisor_hands_over_and_still_ends_it_all(custom):
    import signal

    with custom.foreground(custom.write()) as process:
        custom.settled(1)
        with custom.load(clients=2):
            custom.run("restart", "--gateway")
        eventually(lambda: custom.is_up() and custom.status()["pid"] != process.pid)
        [pid] = custom.pids()
        assert custom.says() == "one"
        # The display is still there, and Ctrl-C still means everything.
        eventually(lambda: "taken over" in custom.words())
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert not is_alive(pid)
    assert not custom.is_up()


CANARY = "  rollout: {strategy: canary, steps: [20], pause: %s}\n"


def test_up_does_not_wait_for_a_pause_which_no_downtime_shortens(custom):
    import os
    import signal

    custom.up(custom.write("one", more=CANARY % "8s"))
    said = custom.up(custom.write("two", more=CANARY % "8s"))
    assert "waits (CanaryStep)" in said, said
    assert custom.service()["phase"] == "Paused"
    supervisor = custom.status()["pid"]
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not is_alive(supervisor))
    time.sleep(8)
    said = custom.up()
    eventually(lambda: custom.service()["ready"] == 2)
    time.sleep(2)
    assert custom.service()["phase"] == "Paused", custom.service()
    custom.settled(1)
    assert custom.says() == "two"


def test_a_new_supervisor_is_told_what_the_old_one_was(custom):
    import pathlib

    custom.up("--offline", custom.write())
    before = custom.status()["pid"]
    for _ in range(2):
        custom.run("restart", "--gateway")
        eventually(lambda: custom.is_up() and custom.status()["pid"] != before)
        before = custom.status()["pid"]
        environ = pathlib.Path(f"/proc/{before}/environ").read_bytes().split(b"\0")
        assert b"TRAINYARD_OFFLINE=true" in environ
