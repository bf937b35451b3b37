//! `trainyard lint` as people and pipelines call it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const SAMPLE: &str = include_str!("../../rules/tests/sample/manifests.yaml");

const POD: &str = "\
# our pod
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main # the one
      image: a:1
      resources:
        requests: {nvidia.com/gpu: 1}
        limits: {nvidia.com/gpu: 2}
";

fn lint(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .arg("lint")
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

#[test]
fn people_see_the_line_and_the_exit_code_tells_pipelines() {
    let folder = folder(&[("pod.yaml", POD)]);
    let output = lint(folder.path(), &["--rules", "GPU01"]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stdout(&output));
    let output = lint(folder.path(), &["--skip", "GPU,SRV,TRN,SEC,CST,OBS,SCL,NET"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

#[test]
fn json_has_the_fields_that_pipelines_read() {
    let folder = folder(&[("sample.yaml", SAMPLE)]);
    let output = lint(folder.path(), &["--format", "json", "sample.yaml"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = value["findings"].as_array().expect("findings");
    let gpu07 = findings.iter().find(|f| f["rule"] == "GPU07").expect("GPU07");
    assert_eq!(gpu07["level"], "error");
    assert_eq!(gpu07["file"], "sample.yaml");
    assert_eq!(gpu07["line"], 37);
    assert_eq!(gpu07["column"], 22);
    assert_eq!(gpu07["object"], "Deployment/image-classifier");
    assert!(gpu07["message"].is_string() && gpu07["fix"].is_string());
    assert_eq!(gpu07.as_object().expect("an object").len(), 8);
    assert!(value.get("errors").is_none());
}

#[test]
fn standard_input_is_read() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .args(["lint", "--format", "github", "--rules", "GPU01", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("piped").write_all(POD.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("ends");
    let text = stdout(&output);
    assert!(
        text.starts_with("::error file=-,line=10,col=36,endLine=10,endColumn=37,title=GPU01::"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_read_is_told_and_ends_with_2() {
    let folder = folder(&[("a.yaml", "a: {{ .Values.x }}\n---\nb: [\n"), ("pod.yaml", POD)]);
    let output = lint(folder.path(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["errors"].as_array().map(Vec::len), Some(2));
    assert!(value["findings"].as_array().is_some_and(|list| !list.is_empty()));
    let output = lint(folder.path(), &["no-such-file"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn our_own_kinds_are_read_as_they_will_be() {
    let job = |more: &str| {
        format!(
            "apiVersion: trainyard.dev/v1alpha1\nkind: TrainingJob\nmetadata: {{name: digits}}\n\
             spec:\n  framework: pytorch\n  image: app:1\n  command: [python, train.py]\n{more}"
        )
    };
    let second = job("  workers: {count: 2, min: 3}\n  restarts: 1\n");
    let reserved = job("  env:\n  - {name: A, value: b}\n  - {value: '4', name: WORLD_SIZE}\n");
    let pattern = job("  progress: {timeout: 5m, logPattern: '('}\n");
    let all = format!("{POD}---\n{second}---\n{reserved}---\n{pattern}");
    let folder = folder(&[
        ("good.yaml", &job("")),
        ("chart.yaml", "apiVersion: other/v1\nkind: TrainingJob\nspec: {restarts: 1}\n"),
        ("jobs.yaml", &all),
    ]);
    let output = lint(folder.path(), &["--rules", "GPU01", "--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let errors: Vec<String> = value["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|it| format!("{}:{}: {}", it["file"], it["line"], it["message"]))
        .collect();
    let line = |text: &str| all.lines().position(|it| it.contains(text)).map_or(0, |at| at + 1);
    for (text, said) in [
        ("min: 3", "more than `count`"),
        ("restarts: 1", "unknown field"),
        ("WORLD_SIZE", "sets `WORLD_SIZE`"),
        ("logPattern", "no regular expression"),
    ] {
        let place = format!("\"jobs.yaml\":{}: ", line(text));
        assert!(errors.iter().any(|it| it.starts_with(&place) && it.contains(said)), "{errors:?}");
    }
    assert_eq!(errors.len(), 4, "{errors:?}");
}

#[test]
fn fixes_keep_comments_and_layout() {
    let folder = folder(&[("pod.yaml", POD)]);
    let output = lint(folder.path(), &["--diff", "--rules", "GPU01"]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stdout(&output));
    let text = || std::fs::read_to_string(folder.path().join("pod.yaml")).expect("text");
    assert_eq!(text(), POD);
    let output = lint(folder.path(), &["--fix", "--rules", "GPU01"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert_eq!(
        text(),
        POD.replace("requests: {nvidia.com/gpu: 1}", "requests: {nvidia.com/gpu: 2}")
    );
    // Twice changes nothing.
    lint(folder.path(), &["--fix", "--rules", "GPU01"]);
    assert_eq!(lint(folder.path(), &["--diff", "--rules", "GPU01"]).status.code(), Some(0));
}

#[test]
fn a_baseline_leaves_only_what_is_new() {
    let folder = folder(&[("pod.yaml", POD)]);
    assert_eq!(lint(folder.path(), &["--write-baseline", "base.json"]).status.code(), Some(0));
    let moved = format!("# one line more\n{POD}");
    std::fs::write(folder.path().join("pod.yaml"), moved).expect("written");
    let arguments = ["--baseline", "base.json", "--format", "json", "pod.yaml"];
    let output = lint(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let worse = format!("{POD}  hostname: x\n---\n{}", POD.replace("name: a", "name: b"));
    std::fs::write(folder.path().join("pod.yaml"), worse).expect("written");
    let output = lint(folder.path(), &arguments);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let objects: Vec<&Value> =
        value["findings"].as_array().expect("a list").iter().map(|f| &f["object"]).collect();
    assert!(!objects.is_empty() && objects.iter().all(|object| **object == "Pod/b"), "{objects:?}");
}

#[test]
fn settings_choose_rules_levels_and_paths() {
    let settings = "\
include: [GPU01, ORG01]
levels: {GPU01: hygiene}
ignorePaths: [old]
rules:
  - id: ORG01
    level: error
    expression: has(object.metadata.labels)
    message: no labels
";
    let folder = folder(&[(".trainyard-lint.yaml", settings), ("pod.yaml", POD)]);
    let inner = folder.path().join("old");
    std::fs::create_dir(&inner).expect("a folder");
    std::fs::write(inner.join("x.yaml"), POD).expect("written");
    let output = lint(folder.path(), &["--format", "json"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found: Vec<(&Value, &Value, &Value)> = value["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|f| (&f["rule"], &f["level"], &f["file"]))
        .collect();
    let expected: Vec<(Value, Value, Value)> =
        [("ORG01", "error", "pod.yaml"), ("GPU01", "hygiene", "pod.yaml")]
            .map(|(a, b, c)| (a.into(), b.into(), c.into()))
            .to_vec();
    let expected: Vec<_> = expected.iter().map(|(a, b, c)| (a, b, c)).collect();
    assert_eq!(found, expected);
    // From a folder below, the settings above count.
    assert_eq!(lint(&inner, &["--rules", "GPU01", "x.yaml"]).status.code(), Some(0));
    let wrong = lint(folder.path(), &["--rules", "XYZ"]);
    assert_eq!(wrong.status.code(), Some(2));
    std::fs::write(folder.path().join(".trainyard-lint.yaml"), "rule: []\n").expect("written");
    assert_eq!(lint(folder.path(), &[]).status.code(), Some(2));
}

#[test]
fn sarif_has_what_its_schema_wants() {
    let folder = folder(&[("my pod.yaml", POD)]);
    let output = lint(folder.path(), &["--format", "sarif", "--rules", "GPU01"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["version"], "2.1.0");
    let run = &value["runs"][0];
    let result = &run["results"][0];
    let index = result["ruleIndex"].as_u64().expect("an index") as usize;
    assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "GPU01");
    assert_eq!(result["level"], "error");
    let location = &result["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "my%20pod.yaml");
    assert_eq!(location["region"]["startLine"], 10);
    let replacement = &result["fixes"][0]["artifactChanges"][0]["replacements"][0];
    assert_eq!(replacement["insertedContent"]["text"], "2");
}

#[test]
fn rules_explain_themselves() {
    let folder = folder(&[]);
    let output = lint(folder.path(), &["--explain", "gpu01"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("## How to fix it"));
    assert!(stdout(&lint(folder.path(), &["--explain", "all"])).contains("SRV16"));
    assert_eq!(lint(folder.path(), &["--explain", "GPU99"]).status.code(), Some(2));
}
