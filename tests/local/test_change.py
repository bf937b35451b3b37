"""Changes while clients are busy: none of their requests fails."""

import time

from conftest import eventually, is_alive


def test_a_changed_manifest_rolls_out(yard):
    yard.up(yard.write("one", scaling="{min: 2}"))
    with yard.load() as answers:
        yard.write("two", scaling="{min: 2}")
        eventually(lambda: answers and answers[-1]["says"] == "two")
        yard.settled(2)
        # The old ones have gone, all of them.
        time.sleep(0.3)
        assert {one["says"] for one in answers[-20:]} == {"two"}
    assert {one["says"] for one in answers} == {"one", "two"}


def test_rollback_and_back_again(yard):
    path = yard.write("one")
    yard.up(path)
    yard.write("two")
    yard.up(path)
    assert yard.says() == "two"
    with yard.load():
        yard.run("rollback", "echo")
        eventually(lambda: yard.says() == "one")
        yard.settled(1)
    yard.run("rollback", "echo")
    eventually(lambda: yard.says() == "two")
    yard.settled(1)
    assert yard.happened("Rollback")
    assert "no revision `nosuch`" in yard.run("rollback", "echo", "--to", "nosuch", code=2)


def test_a_manifest_with_a_mistake_changes_nothing(yard):
    path = yard.write("one")
    yard.up(path)
    [pid] = yard.pids()
    path.write_text(path.read_text().replace("scaling", "scalling"))
    error = eventually(lambda: yard.service()["lastError"])
    assert "scalling" in error and "echo.yaml:" in error
    assert yard.pids() == [pid] and yard.says() == "one"
    yard.write("one")
    eventually(lambda: yard.service()["lastError"] is None)
    assert yard.pids() == [pid]


def test_a_broken_revision_never_takes_traffic(yard):
    path = yard.write("one")
    yard.up(path)
    with yard.load(clients=2) as answers:
        yard.write("two", env=["{name: EXIT_WITH, value: '3'}"])
        eventually(lambda: yard.service()["phase"] == "Aborted", lambda: str(yard.service()))
    assert {one["says"] for one in answers} == {"one"}
    assert "exit code 3" in yard.happened("Exited")[0]["message"]
    yard.write("three")
    eventually(lambda: yard.says() == "three")
    yard.settled(1)


def test_a_changed_model_is_a_new_revision(yard):
    yard.up(yard.write())
    before = yard.service()["target"]
    (yard.root / "model.bin").write_bytes(b"another model")
    eventually(lambda: yard.service()["target"] != before)
    yard.settled(1)
    assert "has changed since" in yard.run("rollback", "echo", code=2)


def test_restart_replaces_every_replica(yard):
    yard.up(yard.write(scaling="{min: 2}"))
    before = set(yard.pids())
    with yard.load():
        yard.run("restart", "echo")
        eventually(lambda: len(yard.pids()) == 2 and not before & set(yard.pids()))
        yard.settled(2)


def test_scaling_down_drains(yard):
    yard.up(yard.write(scaling="{min: 3}"))
    with yard.load():
        yard.run("scale", "echo", "1")
        yard.settled(1)


def test_to_zero_and_back(yard):
    yard.up(yard.write(scaling="{min: 0, scaleToZeroAfter: 1s, concurrency: 4}"))
    [pid] = yard.pids()
    yard.run("scale", "echo", "0")
    eventually(lambda: not is_alive(pid))
    yard.settled(0)
    # Held until a replica is there.
    assert yard.says() == "one"
    assert yard.pids() not in ([], [pid])


def test_a_service_that_a_file_drops_goes(yard):
    first = yard.write().read_text()
    second = yard.write(name="other", file="other.yaml").read_text()
    both = yard.root / "both.yaml"
    both.write_text(first + "---\n" + second)
    yard.up(both)
    both.write_text(first)
    eventually(lambda: yard.service("other") is None)
    yard.settled(1)


def test_the_gateway_is_handed_over(yard):
    yard.up(yard.write(scaling="{min: 2}"))
    before, replicas = yard.status()["pid"], sorted(yard.pids())
    with yard.load():
        for _ in range(2):
            yard.run("restart", "--gateway")
            eventually(lambda: yard.is_up() and yard.status()["pid"] != before)
            before = yard.status()["pid"]
            time.sleep(0.5)
    assert sorted(yard.pids()) == replicas
    yard.settled(2)


def test_a_foreground_supervisor_hands_over_and_still_ends_it_all(yard):
    import signal

    with yard.foreground(yard.write()) as process:
        yard.settled(1)
        with yard.load(clients=2):
            yard.run("restart", "--gateway")
        eventually(lambda: yard.is_up() and yard.status()["pid"] != process.pid)
        [pid] = yard.pids()
        assert yard.says() == "one"
        # The display is still there, and Ctrl-C still means everything.
        eventually(lambda: "taken over" in yard.words())
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert not is_alive(pid)
    assert not yard.is_up()
