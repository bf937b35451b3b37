"""One scenario for two drivers: a person looks at a service and changes it by hand, on one machine and
in a cluster, with the same commands.

A driver has `run(*arguments, code=0)`, which runs `trainyard` and checks its exit code, and
`change()`, which gives the service `iris` another revision.
"""

import json


def look(driver):
    assert driver.run("wait", "iris", "--for", "ready", "--timeout", "120s").stdout == (
        "modelservice.trainyard.dev/iris condition met\n"
    )
    header, row = driver.run("get", "iris").stdout.splitlines()
    assert header.split() == ["NAME", "READY", "REPLICAS", "REVISION", "URL", "AGE"]
    name, ready, replicas, revision, url, _ = row.split()
    assert (name, ready, replicas) == ("iris", "True", "1") and url.startswith("http://")
    assert "MODEL" in driver.run("get", "-o", "wide").stdout
    assert "NAME" not in driver.run("get", "--no-headers").stdout

    one = json.loads(driver.run("get", "ms/iris", "-o", "json").stdout)
    assert (one["kind"], one["metadata"]["name"]) == ("ModelService", "iris")
    assert one["spec"]["model"]["uri"] and one["status"]["revision"] == revision
    assert "managedFields" not in one["metadata"]
    conditions = {it["type"]: it["status"] for it in one["status"]["conditions"]}
    assert conditions == {"Ready": "True", "Progressing": "False", "Degraded": "False", "Stalled": "False"}
    assert [it["metadata"]["name"] for it in json.loads(driver.run("get", "-o", "json").stdout)["items"]] == ["iris"]
    assert driver.run("get", "-o", "name").stdout == "modelservice.trainyard.dev/iris\n"
    assert "kind: ModelService" in driver.run("get", "iris", "-o", "yaml").stdout

    status = driver.run("status").stdout
    assert "iris" in status and "Stable" in status and revision in status and "100%" in status, status
    assert "iris" in driver.run("status", "-o", "json").stdout
    assert "iris" in driver.run("status", "-o", "yaml").stdout

    described = driver.run("describe", "iris").stdout
    for part in ["Name:", "Model:", "URL:", "Endpoints:", "Conditions:", "Revisions:", "Replicas:", "Events:", revision]:
        assert part in described, f"{part}\n{described}"

    lines = driver.run("logs", "iris", "--tail", "2").stdout.splitlines()
    assert 1 <= len(lines) <= 2, lines
    assert driver.run("logs", "iris", "--since", "1h").stdout

    events = json.loads(driver.run("events", "iris", "-o", "json").stdout)
    times = [event["lastMs"] for event in events]
    told = [(event["object"], event["reason"], event["message"]) for event in events]
    assert events and times == sorted(times) and len(set(told)) == len(told)
    assert driver.run("events", "iris").stdout


def mistakes(driver):
    for command in (["get"], ["describe"], ["wait"], ["scale", "2"], ["logs"], ["rollback"], ["delete"]):
        first, *rest = command
        done = driver.run(first, "irs", *rest, code=2)
        assert 'NotFound: modelservices.trainyard.dev "irs" not found' in unwrapped(done.stderr), (command, done.stderr)
        assert "did you mean `iris`?" in unwrapped(done.stderr), (command, done.stderr)
    assert "no kind" in driver.run("get", "pod/iris", code=2).stderr
    done = driver.run("wait", "iris", "--for", "condition=Stalled", "--timeout", "0s", code=1)
    assert "timed out waiting for `condition=Stalled`" in done.stderr, done.stderr


def change(driver):
    driver.run("scale", "iris", "2")
    driver.run("wait", "iris", "--timeout", "120s")
    driver.until(lambda: driver.run("get", "iris", "--no-headers").stdout.split()[2] == "2")
    lines = driver.run("logs", "iris", "--tail", "1").stdout.splitlines()
    assert len({line.split("  ")[0] for line in lines}) == 2, lines
    first = served(driver)
    driver.change()
    driver.until(lambda: served(driver) not in (None, first))
    driver.run("wait", "iris", "--timeout", "120s")
    driver.run("rollback", "iris")
    driver.until(lambda: served(driver) == first)
    driver.run("wait", "iris", "--timeout", "120s")


def delete(driver):
    assert driver.run("delete", "iris", "--dry-run").stdout == 'modelservice.trainyard.dev "iris" deleted (dry run)\n'
    driver.run("get", "iris")
    assert driver.run("delete", "iris").stdout == 'modelservice.trainyard.dev "iris" deleted\n'
    driver.run("wait", "iris", "--for", "deleted", "--timeout", "60s")
    assert "NotFound" in driver.run("get", "iris", code=2).stderr
    assert driver.run("delete", "iris", "--ignore-not-found").stdout == ""
    assert driver.run("get", "-o", "name").stdout.strip() == ""


def served(driver):
    return json.loads(driver.run("get", "iris", "-o", "json").stdout)["status"].get("revision")


def unwrapped(text):
    """Errors for people are broken into lines."""
    return " ".join(text.replace("│", " ").split())
