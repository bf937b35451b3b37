//! `predict` and `inspect` with the real server and a real model.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// `trainyard serve` on a port of its own.
struct Served {
    child: Child,
    url: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        // A failed test has no patience for draining.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/iris/model.onnx")
}

fn trainyard(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command.current_dir(folder).env_remove("RUST_LOG");
    command
}

impl Served {
    fn start(folder: &Path) -> Self {
        let file = folder.join("address.json");
        let child = trainyard(folder)
            .arg("serve")
            .arg(model())
            .args(["--name", "iris", "--port", "0", "--address-file"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut served = Self { child, url: String::new() };
        let deadline = Instant::now() + Duration::from_secs(60);
        while served.url.is_empty() || !served.knows_the_model(folder) {
            assert!(Instant::now() < deadline, "the server does not come up");
            assert!(served.child.try_wait().unwrap().is_none(), "the server ended");
            std::thread::sleep(Duration::from_millis(20));
            if let Ok(text) = std::fs::read(&file) {
                let address: serde_json::Value = serde_json::from_slice(&text).unwrap();
                served.url = format!("http://{}", address["address"].as_str().unwrap());
            }
        }
        served
    }

    fn knows_the_model(&self, folder: &Path) -> bool {
        self.predict(folder, &["-i", "-"], "[1, 2, 3, 4]").status.success()
    }

    fn predict(&self, folder: &Path, arguments: &[&str], input: &str) -> Output {
        let mut child = trainyard(folder)
            .args(["predict", "iris"])
            .args(arguments)
            .args(["--url", &self.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }
}

#[test]
fn flowers_are_named() {
    // The built-in engine does not run classifiers with texts as labels.
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        println!("not tested: ORT_DYLIB_PATH is not set");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let csv = "a,b,c,d\n5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n";
    let json = r#"{"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}"#;
    for input in [csv, json] {
        let run = served.predict(folder.path(), &["-i", "-", "--select", "output_label"], input);
        let answer: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(answer["outputs"][0]["data"], serde_json::json!(["setosa", "virginica"]));
    }
    let wrong = served.predict(folder.path(), &["-i", "-"], "[[1, 2]]");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("[-1, 4]"));

    let load = ["-i", "-", "--bench", "--json", "--duration", "300ms", "--warmup", "0s"];
    let run = served.predict(folder.path(), &load, csv);
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(report["requests"].as_u64() > Some(20), "{report}");
}

#[test]
fn the_example_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let run = trainyard(folder.path())
        .args(["inspect", "--engine", "tract", "--json"])
        .arg(model())
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let facts = &report[0]["facts"];
    assert_eq!(facts["inputs"][0]["type"], "tensor(float)");
    assert_eq!(facts["opsets"].as_array().unwrap().len(), 2);
    assert_eq!(report[0]["engine"]["missing_operators"], serde_json::json!([]));
}
