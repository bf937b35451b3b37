//! `trainyard gpu defrag` on snapshots, with the real binary.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn split() -> String {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../diagnose/fixtures");
    fixtures.join("D06-split.yaml").display().to_string()
}

fn defrag(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .args(["gpu", "defrag"])
        .args(arguments)
        .env("KUBECONFIG", "/nonexistent")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A report wraps its lines.
fn words(output: &Output) -> String {
    text(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "")
}

#[test]
fn people_read_what_moves_and_what_that_frees() {
    let done = defrag(&["--dry-run", "--from", &split()]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    let lines = text(&done.stdout);
    let lines: Vec<String> =
        lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let has = |line: &str| assert!(lines.iter().any(|it| it == line), "no `{line}` in {lines:#?}");
    has("MOVE POD OF ASKS FOR FROM TO SO THAT");
    has(
        "1 research/s-1 StatefulSet/s 1 nvidia.com/gpu, 4 cores, 16 GiB gpu-1 gpu-2 models/llm-7d9-abcde fits on gpu-1",
    );
    has("models/llm-7d9-abcde 4 nvidia.com/gpu, 4 cores, 16 GiB fits on gpu-1 after 1 move");
    has("4 × nvidia.com/gpu, 4 cores, 16.0 GiB 60 0 1");
    assert!(words(&done).contains("note: there is no PodDisruptionBudget in the file"));
}

#[test]
fn programs_read_json() {
    let done = defrag(&["--dry-run", "--from", &split(), "-o", "json", "--policy", "fgd"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    let moved = &answer["moves"][0];
    assert_eq!(moved["pod"], json!({"kind": "Pod", "namespace": "research", "name": "s-1"}));
    assert_eq!((&moved["from"], &moved["to"]), (&json!("gpu-1"), &json!("gpu-2")));
    assert_eq!(moved["for"]["waitingPod"]["name"], "llm-7d9-abcde");
    assert_eq!(answer["waiting"][0]["outcome"], "FitsAfterMoves");
    assert_eq!(answer["waiting"][0]["owner"]["kind"], "Deployment");
    let large = answer["usualShapes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["gpus"] == "4 × nvidia.com/gpu");
    assert_eq!(large.map(|it| (&it["fitNow"], &it["fitAfter"])), Some((&json!(0), &json!(1))));
}

#[test]
fn nothing_to_move_is_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump.json");
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "x"},
        "spec": {"nodeName": "a", "containers": [{"resources": {"limits": {"nvidia.com/gpu": 1}}}]},
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [node, pod]});
    std::fs::write(&path, list.to_string()).unwrap();
    let done = defrag(&["--dry-run", "--from", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let said = text(&done.stdout);
    assert!(said.starts_with("no moves:") && said.contains("it has no controller"), "{said}");
}

#[test]
fn what_cannot_be_done_is_told() {
    let done = defrag(&["--from", &split()]);
    assert_eq!(done.status.code(), Some(2));
    assert!(
        words(&done).contains("`trainyard gpu defrag` moves nothing: where a pod"),
        "{}",
        words(&done)
    );
    let done = defrag(&["--dry-run"]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stdout));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot.json");
    let snapshot = json!({
        "format": "trainyard-snapshot/1", "takenAt": "2026-01-01T00:00:00Z", "objects": [],
        "unread": [{"what": "nodes", "reason": "nodes is forbidden"}],
    });
    std::fs::write(&path, snapshot.to_string()).unwrap();
    let done = defrag(&["--dry-run", "--from", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(2));
    assert!(
        words(&done).contains("nodes could not be read: nodes is forbidden"),
        "{}",
        words(&done)
    );
}
