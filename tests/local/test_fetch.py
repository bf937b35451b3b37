"""Models that come from elsewhere: what is seen of it, and what happens while the store is down."""

import contextlib
import http.client
import json

import pytest

from custom import eventually
from store import Store

MODEL = bytes(range(256)) * 4096


MODEL_URI = "s3://models/m.onnx"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, so that nothing is there yet. Gives what sets the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def stands_at(cache, url):
    """Lets whoever is started find the store there."""
    environment = {"ENDPOINT_URL": url, "REGION": "eu-north-1", "ACCESS_KEY_ID": "AKID", "SECRET_ACCESS_KEY": "x"}
    for name, value in environment.items():
        cache.setenv(f"AWS_{name}", value)


def from_store(custom, uri, model_more="", **write):
    path = custom.write(**write)
    text = path.read_text().replace("{uri: file://./model.bin}", f"{{uri: '{uri}'{model_more}}}")
    path.write_text(text)
    return path


def get(custom, path):
    client = http.client.HTTPConnection("127.0.0.1", custom.port, timeout=30)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.headers.get("retry-after"), json.loads(answer.read())
    finally:
        client.close()


def test_a_store_that_is_down_is_asked_again(custom, cache):
    store = Store({"/models/m.onnx": MODEL})
    store.status = 503
    with store.serve() as url:
        stands_at(cache, url)
        said = custom.up(from_store(custom, MODEL_URI), code=1)
        assert "fetch failed" in said and "503" in said
        service = custom.service()
        assert (service["phase"], service["reason"]) == ("Stalled", "FetchFailed")
        assert service["fetch"]["state"] == "retrying" and service["fetch"]["failures"] == 1
        assert "fetch failed, retrying" in custom.run("status")
        assert custom.happened("FetchFailed")
        # It is known, and says why it does not answer.
        for path in ("/v2/models/echo", "/v2/models/echo/ready"):
            status, after, body = get(custom, path)
            assert status == 503 and int(after) >= 1, body
            assert "cannot be fetched" in body["error"] and "503" in body["error"]
        assert get(custom, "/v2/models/nobody")[0] == 404
        status, _, body = get(custom, "/readyz")
        assert status == 503 and "503" in body["unready"]["echo"]

        store.status = None
        custom.settled(1)
        assert custom.service()["fetch"] is None and custom.service()["lastError"] is None
        assert custom.says() == "one"
        assert get(custom, "/readyz")[0] == 200


def test_what_a_store_refuses_is_not_asked_for_again(custom, cache):
    store = Store({})
    with store.serve() as url:
        stands_at(cache, url)
        said = custom.up(from_store(custom, MODEL_URI), code=1)
        assert "there is nothing at" in said
        service = custom.service()
        assert (service["phase"], service["reason"]) == ("Stalled", "NotPrepared")
        assert service["fetch"] is None
        assert get(custom, "/v2/models/echo")[0] == 503
        # A person says so.
        store.objects["/models/m.onnx"] = MODEL
        custom.up(custom.root / "echo.yaml")
        assert custom.says() == "one"


def test_progress_is_shown(custom, cache):
    store = Store({"/models/m.onnx": MODEL})
    store.gate.clear()
    with store.serve() as url, contextlib.ExitStack() as stack:
        stands_at(cache, url)
        stack.enter_context(custom.foreground(from_store(custom, MODEL_URI)))
        fetch = eventually(lambda: (custom.service() or {}).get("fetch"))
        fetch = eventually(lambda: custom.service()["fetch"] if custom.service()["fetch"]["totalBytes"] else None)
        assert fetch["state"] == "transferring" and fetch["stage"] == "downloading"
        assert fetch["totalBytes"] == len(MODEL)
        assert "fetching, " in custom.run("status") and "of 1.0 MiB" in custom.run("status")
        eventually(lambda: "fetching, 0% of 1.0 MiB" in custom.words(), custom.words)
        store.gate.set()
        custom.settled(1)
        assert custom.says() == "one"


SECRET = """\
---
apiVersion: v1
kind: Secret
metadata: {name: reader}
stringData: {AWS_ACCESS_KEY_ID: AKIDREADER, AWS_SECRET_ACCESS_KEY: s3cr3t-of-the-store}
"""


def test_credentials_come_from_a_secret(custom, cache):
    store = Store({"/models/m.onnx": MODEL})
    with store.serve() as url:
        env = {"AWS_ENDPOINT_URL": url, "AWS_REGION": "eu-north-1", "AWS_SESSION_TOKEN": "of-someone-else"}
        with_secret = ", credentialsSecret: reader"
        path = from_store(custom, MODEL_URI, with_secret, more=SECRET)
        said = custom.up(path, env=env)
        assert custom.says() == "one"
        signed = [authorization for path, authorization in store.requests if path == "/models/m.onnx"]
        assert signed and all("Credential=AKIDREADER/" in one for one in signed)
        assert all("eu-north-1" in one for one in signed)
        assert not any("security-token" in one for one in signed), "the environment's are not mixed in"

        # A name that no store has is said, without what it holds.
        wrong = SECRET.replace("AWS_ACCESS_KEY_ID", "AWS_ACCES_KEY_ID")
        from_store(custom, MODEL_URI, with_secret, says="two", more=wrong)
        error = eventually(lambda: custom.service()["lastError"])
        assert "`AWS_ACCES_KEY_ID`" in error and "AKIDREADER" not in error
        assert custom.says() == "one"
        custom.run("down")
    secret = b"s3cr3t-of-the-store"
    assert secret.decode() not in said
    for file in custom.state.rglob("*"):
        if file.is_file():
            assert secret not in file.read_bytes() and b"AKIDREADER" not in file.read_bytes(), file
