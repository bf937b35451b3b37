"""What `trainyard lint` prints is what the programs that read it expect."""

import json
import pathlib
import re

import jsonschema
from conftest import BINARY
from running import run

SCHEMA = pathlib.Path(__file__).parent / "sarif/sarif-schema-2.1.0.json"

# A character of two UTF-16 units and four bytes stands before a finding, and a document is broken.
MANIFEST = """\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - {name: "🚂", image: "a:1", resources: {requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 2}}}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  nodeSelector: {accelerator: a100}
  containers:
    - name: main
      image: a:1
      env: [{name: HF_TOKEN, value: hf_abcdefghijklmnop}]
      resources: {limits: {nvidia.com/gpu: 1}}
"""
BROKEN = "a: [1\n"


def lint(folder, *arguments, code=1):
    done = run([BINARY, "lint", *arguments], check=False, cwd=folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def write(folder):
    (folder / "with space,and%.yaml").write_text(MANIFEST)
    (folder / "broken.yaml").write_text(BROKEN)
    findings = json.loads(lint(folder, "--format", "json", code=2))
    assert {"GPU01", "GPU07", "SRV13"} <= {finding["rule"] for finding in findings["findings"]}
    return findings


def test_json(tmp_path):
    found = write(tmp_path)
    keys = {"rule", "level", "file", "line", "column", "object", "message", "fix"}
    for finding in found["findings"]:
        assert set(finding) == keys
        assert finding["level"] in ("error", "warning", "hygiene")
    (error,) = found["errors"]
    assert (error["file"], error["line"]) == ("broken.yaml", 1) and error["message"]
    first = next(finding for finding in found["findings"] if finding["rule"] == "GPU01")
    assert (first["line"], first["object"]) == (6, "Pod/a")
    line = MANIFEST.splitlines()[5]
    # Columns are characters, from 1.
    assert line[first["column"] - 1] in "12"


def test_sarif_is_valid_and_says_the_same(tmp_path):
    found = write(tmp_path)
    text = json.loads(lint(tmp_path, "--format", "sarif", code=2))
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker()).validate(text)
    (ran,) = text["runs"]
    assert ran["columnKind"] == "unicodeCodePoints"
    assert [result["ruleId"] for result in ran["results"]] == [it["rule"] for it in found["findings"]]
    rules = ran["tool"]["driver"]["rules"]
    for result, finding in zip(ran["results"], found["findings"]):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert place["region"]["startLine"] == finding["line"]
        assert place["region"]["startColumn"] == finding["column"]
        assert place["artifactLocation"]["uri"] == "with%20space%2Cand%25.yaml"
        assert result["level"] == {"error": "error", "warning": "warning", "hygiene": "note"}[finding["level"]]
    assert any("fixes" in result for result in ran["results"])
    (invocation,) = ran["invocations"]
    assert invocation["executionSuccessful"] is False
    assert len(invocation["toolExecutionNotifications"]) == 1


def test_sarif_without_findings_is_valid(tmp_path):
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    text = json.loads(lint(tmp_path, "--format", "sarif", code=0))
    jsonschema.Draft4Validator(json.loads(SCHEMA.read_text())).validate(text)
    assert text["runs"][0]["results"] == []


def unescape(text):
    for code, char in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, char)
    return text


def test_github_annotations(tmp_path):
    """Each line is a command as the runner reads it: properties up to `::`, then the message."""
    found = write(tmp_path)
    lines = lint(tmp_path, "--format", "github", code=2).splitlines()
    assert len(lines) == len(found["findings"]) + len(found["errors"])
    seen = []
    for line in lines:
        command, properties, message = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.+)", line).groups()
        values = dict(item.split("=", 1) for item in properties.split(","))
        values = {key: unescape(value) for key, value in values.items()}
        assert unescape(message).strip()
        seen.append((values["file"], int(values["line"]), values.get("title"), command))
    commands = {"error": "error", "warning": "warning", "hygiene": "notice"}
    for finding in found["findings"]:
        expected = (finding["file"], finding["line"], finding["rule"], commands[finding["level"]])
        assert expected in seen


def test_markdown(tmp_path):
    found = write(tmp_path)
    text = lint(tmp_path, "--format", "markdown", code=2)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert len(widths) == 1, "every row of a table has as many cells"
    for finding in found["findings"]:
        assert finding["rule"] in text
