"""A folder as a target: what is put into it is served, what is taken out of it ends."""

import os
import shutil
import signal

import pytest

from custom import eventually, is_alive


def names(custom):
    return [one["name"] for one in custom.status()["services"]]


@pytest.fixture
def folder(custom, monkeypatch):
    """A folder of manifests with one service, `echo`."""
    folder = custom.root / "services"
    folder.mkdir()
    monkeypatch.setenv("YARD", str(folder))
    (folder / "model.bin").write_bytes(b"model")
    custom.root = folder
    custom.write()
    return folder


def test_manifests_come_and_go(custom, folder):
    custom.up(folder)
    assert names(custom) == ["echo"]
    with custom.load(clients=2):
        other = custom.write(says="two", name="other", file="other.yaml")
        custom.settled(1, "other")
        assert custom.says("other") == "two"
        other.unlink()
        eventually(lambda: names(custom) == ["echo"])
    assert custom.happened("NotDeclared")
    # Also the last one.
    (folder / "echo.yaml").unlink()
    eventually(lambda: names(custom) == [])
    custom.write(says="three")
    custom.settled(1)
    assert custom.says() == "three"


def test_what_a_person_did_stays(custom, folder):
    custom.write(says="two", name="other", file="other.yaml")
    custom.up(folder)
    custom.write(says="three")
    eventually(lambda: custom.says() == "three")
    custom.settled(1)
    custom.run("rollback", "echo")
    eventually(lambda: custom.says() == "one")
    custom.run("down", "other")
    custom.write(says="four", name="new", file="new.yaml")
    custom.settled(1, "new")
    assert names(custom) == ["echo", "new"], "it was taken down"
    assert custom.says() == "one", "it was rolled back"


def test_a_mistake_in_a_new_manifest_waits_for_its_correction(custom, folder):
    custom.up(folder)
    (folder / "new.yaml").write_text("kind: ModelServce\n")
    eventually(lambda: custom.happened("NotApplied"))
    assert names(custom) == ["echo"] and custom.says() == "one"
    custom.write(name="new", file="new.yaml")
    custom.settled(1, "new")


def test_the_next_supervisor_goes_on_watching(custom, folder):
    gone = custom.write(name="gone", file="gone.yaml")
    custom.up(folder)
    supervisor = custom.status()["pid"]
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not is_alive(supervisor))
    gone.unlink()
    custom.write(name="new", file="new.yaml")
    custom.up()
    custom.settled(1, "new")
    eventually(lambda: names(custom) == ["echo", "new"])


def test_models_come_and_go(yard, zoo):
    """A model repository; and names that are no name of a service."""
    repository = yard.folder / "repository"

    def put(name):
        version = repository / name / "1"
        version.mkdir(parents=True)
        shutil.copy(zoo / "identity_fp32.onnx", version / "model.onnx")

    def has(*expected):
        return sorted(one["name"] for one in yard.status()["services"]) == sorted(expected)

    put("first")
    yard.up(repository)
    put("my_second")
    yard.until(lambda: yard.get("/v2/models/my_second/ready")[0] == 200)
    assert has("first", "my-second")
    shutil.rmtree(repository / "first")
    yard.until(lambda: has("my-second"))
    assert yard.get("/v2/models/first")[0] == 404
