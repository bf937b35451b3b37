//! `trainyard doctor` on snapshots, with the real binary.

use std::path::PathBuf;
use std::process::{Command, Output};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../diagnose/fixtures").join(name)
}

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .arg("doctor")
        .args(arguments)
        .env("KUBECONFIG", "/nonexistent")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn people_read_what_is_wrong_and_how_to_mend_it() {
    let done = doctor(&["--from", fixture("D06-split.yaml").to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    insta::assert_snapshot!(text(&done.stdout));
}

#[test]
fn programs_read_json() {
    let done = doctor(&["--from", fixture("D03-gpu-taint.yaml").to_str().unwrap(), "-o", "json"]);
    assert_eq!(done.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(answer["findings"][0]["diagnosis"], "D03");
    assert_eq!(answer["findings"][0]["rules"][0], "GPU08");
    assert!(answer["unknown"].as_array().unwrap().is_empty());
}

#[test]
fn a_dump_of_objects_is_read_and_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump.yaml");
    std::fs::write(&path, "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: x}}\n").unwrap();
    let done = doctor(&["--from", path.to_str().unwrap()]);
    // Nobody tried to read the logs: that alone is no failure.
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stdout));
    let said = text(&done.stdout);
    assert!(said.contains("unknown: ") && said.contains("a dump of objects has no logs"), "{said}");
}

#[test]
fn a_failed_read_is_no_health() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot.json");
    let snapshot = serde_json::json!({
        "format": "trainyard-snapshot/1", "takenAt": "2026-01-01T00:00:00Z", "objects": [],
        "unread": [{"what": "nodes", "reason": "nodes is forbidden"}],
    });
    std::fs::write(&path, snapshot.to_string()).unwrap();
    let done = doctor(&["--from", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stdout).contains("nodes is forbidden"));
}

#[test]
fn targets_and_mistakes() {
    let from = fixture("D03-gpu-taint.yaml");
    let from = from.to_str().unwrap();
    assert_eq!(doctor(&["deploy/llm", "--from", from]).status.code(), Some(1));
    assert_eq!(doctor(&["node/cpu-1", "--from", from]).status.code(), Some(0));
    let done = doctor(&["deploy/none", "--from", from]);
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("NotFound"), "{}", text(&done.stderr));
    let done = doctor(&["x/y", "--from", from]);
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("deployment"), "{}", text(&done.stderr));
    assert_eq!(doctor(&["--from", "/nonexistent"]).status.code(), Some(2));
    let done = doctor(&[]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stdout));
}

#[test]
fn a_probe_of_a_node_is_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe.json");
    std::fs::write(&path, r#"{"format": "trainyard-probe/1", "node": "gpu-1", "gpus": [], "xids": [{"code": 79, "line": "NVRM: Xid (PCI:0000:3b:00): 79"}]}"#).unwrap();
    let from = fixture("D03-gpu-taint.yaml");
    let from = from.to_str().unwrap();
    let done =
        doctor(&["node/gpu-1", "--from", from, "--probe", path.to_str().unwrap(), "-o", "json"]);
    let answer: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(answer["findings"][0]["diagnosis"], "D49", "{answer}");
    std::fs::write(&path, "{}").unwrap();
    let done = doctor(&["--from", from, "--probe", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("no probe of a node"));
}

#[test]
fn explanations() {
    let page = text(&doctor(&["--explain", "d48"]).stdout);
    assert!(page.starts_with("# D48: ") && page.contains("## How to mend it"), "{page}");
    assert_eq!(text(&doctor(&["--explain", "all"]).stdout).lines().count(), 57);
    assert_eq!(doctor(&["--explain", "D99"]).status.code(), Some(2));
}
