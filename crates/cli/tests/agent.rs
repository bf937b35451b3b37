//! `trainyard agent --probe` on nodes that a small library with NVML's names plays, and what the
//! doctor makes of its answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};

/// The library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvml.c");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libnvidia-ml-fake.so");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let arguments = ["-shared", "-fPIC", "-Wall", "-Werror", "-o"];
        let done = Command::new(compiler).args(arguments).arg(&target).arg(source).status();
        assert!(done.expect("a C compiler is there").success());
        target
    })
}

/// A node's files: a GPU on the bus, a module, a kernel's log.
fn root(log: &str, modules: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("var/log/kern.log", log);
    write("proc/modules", modules);
    write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  x\n",
    );
    write("sys/bus/pci/devices/0000:3b:00.0/vendor", "0x10de\n");
    write("sys/bus/pci/devices/0000:3b:00.0/class", "0x030200\n");
    root
}

fn agent(scenario: &str, root: &Path, library: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .args(["agent", "--probe", "--node", "gpu-1", "--root"])
        .arg(root)
        .arg("--nvml")
        .arg(library)
        .env("FAKE_NVML", scenario)
        .output()
        .unwrap()
}

fn seen(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 1, "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

/// What the doctor finds on a node, from its probe alone.
fn diagnoses(probe: &Value) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (snapshot, path) = (folder.path().join("snapshot.json"), folder.path().join("probe.json"));
    let node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}, "status": {}});
    let empty = json!({"format": "trainyard-snapshot/1", "takenAt": "2026-01-01T00:00:00Z", "objects": [node]});
    fs::write(&snapshot, empty.to_string()).unwrap();
    fs::write(&path, probe.to_string()).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .args(["doctor", "-o", "json", "--from"])
        .arg(&snapshot)
        .arg("--probe")
        .arg(&path)
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    let findings = answer["findings"].as_array().unwrap().iter();
    findings.map(|it| it["diagnosis"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_healthy_node() {
    let root = root("", "nvidia 1 0 - Live 0x0\n");
    let output = agent("", root.path(), library());
    assert_eq!(output.status.code(), Some(0));
    let mut seen = seen(&output);
    assert_eq!(diagnoses(&seen), Vec::<String>::new());
    seen["takenAt"] = "[time]".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&seen).unwrap());
}

#[test]
fn what_is_wrong_is_seen_and_diagnosed() {
    let check = |scenario: &str, log: &str, expected: &[&str]| {
        let root = root(log, "nvidia 1 0 - Live 0x0\n");
        let seen = seen(&agent(scenario, root.path(), library()));
        assert_eq!(diagnoses(&seen), expected, "{scenario} {log}: {seen}");
    };
    check("lost", "", &["D49"]);
    check("", "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.\n", &["D49"]);
    check("remap", "", &["D50"]);
    check("worn", "", &["D50"]);
    check("", "NVRM: Xid (PCI:0000:3b:00): 94, pid=1, Contained\n", &["D51"]);
    check("", "NVRM: Xid (PCI:0000:3b:00): 31, pid=1, MMU Fault\n", &["D52"]);
    check("link", "", &["D53"]);
    check("", "NVRM: Xid (PCI:0000:3b:00): 119, Timeout waiting for RPC from GSP\n", &["D54"]);
    check("inforom", "", &["D55"]);
    check("hot", "", &["D41"]);
    check("fabric", "", &["D45"]);
    check("", "python[7]: segfault at 0 ip 0 sp 0 error 4 in libnccl.so.2[7f]\n", &["D33"]);
    check("mig,mps", "", &[]);
}

#[test]
fn a_driver_that_does_not_answer() {
    let root = root("", "nvidia 1 0 - Live 0x0\n");
    let output = agent("mismatch", root.path(), library());
    assert_eq!(output.status.code(), Some(1));
    let seen = seen(&output);
    assert_eq!(seen["nvml"]["status"], "error");
    assert_eq!(seen["nvml"]["message"], "nvmlInit: Driver/library version mismatch");
    assert_eq!(seen["driver"]["version"], "535.104.05");
    assert_eq!(diagnoses(&seen), ["D44"]);
}

#[test]
fn a_node_without_the_library() {
    let nouveau = root("", "nouveau 1 0 - Live 0x0\n");
    let output = agent("", nouveau.path(), Path::new("/nonexistent/libnvidia-ml.so.1"));
    assert_eq!(output.status.code(), Some(1));
    let seen_there = seen(&output);
    assert_eq!(seen_there["nvml"]["status"], "missing");
    assert_eq!(diagnoses(&seen_there), ["D44"]);
    // A node without a GPU is well without a driver.
    let plain = tempfile::tempdir().unwrap();
    let output = agent("", plain.path(), Path::new("/nonexistent/libnvidia-ml.so.1"));
    assert_eq!(output.status.code(), Some(0));
    let seen_there = seen(&output);
    assert!(seen_there["unread"].as_array().unwrap().iter().any(|it| it["what"] == "kernel log"));
    assert_eq!(diagnoses(&seen_there), Vec::<String>::new());
    // A file that is no library.
    let path = plain.path().join("libnvidia-ml.so.1");
    fs::write(&path, "text").unwrap();
    let output = agent("", plain.path(), &path);
    assert_eq!(
        (output.status.code(), seen(&output)["nvml"]["status"].as_str()),
        (Some(1), Some("error"))
    );
}
