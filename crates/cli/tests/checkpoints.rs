//! `trainyard checkpoints` on a store in a folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use trainyard_checkpoint::{Keeper, Settings};

fn trainyard(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .arg("checkpoints")
        .args(arguments)
        .current_dir(folder)
        // No cluster of the one who tests is asked.
        .env("KUBECONFIG", folder.join("none"))
        .env_remove("TRAINYARD_STATE_DIR")
        .output()
        .unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    assert!(out.contains(stdout), "{out}\n{err}");
    assert!(err.contains(stderr), "{out}\n{err}");
}

/// Three checkpoints in `store`, of a program that wrote to `program`.
fn make(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let store = folder.join("store").display().to_string();
    let keeper = Keeper::open(Settings::new(folder.join("program"), store)).unwrap();
    for step in [10, 20, 30] {
        let target = folder.join(format!("program/step-{step}"));
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join("model"), format!("weights of step {step}")).unwrap();
        fs::write(target.join("_SUCCESS"), "").unwrap();
        let flushed = runtime.block_on(keeper.flush(Duration::from_secs(60)));
        assert_eq!(flushed.saved, [format!("step-{step}")], "{flushed:?}");
    }
}

#[test]
fn look_check_fetch_and_remove() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    check(&trainyard(&["ls", "./store"], root), 0, "", "there are no checkpoints in `./store`");
    check(&trainyard(&["pull", "./store"], root), 3, "", "there is no checkpoint");
    // Without a folder it is the name of a job, and here is none.
    check(&trainyard(&["ls", "store"], root), 2, "", "there is no folder `store`");
    check(&trainyard(&["ls", "ms/digits"], root), 2, "", "no training job");
    check(&trainyard(&["ls", "ftp://x/y"], root), 2, "", "none of file");
    make(root);

    let listed = trainyard(&["ls", "store"], root);
    check(&listed, 0, "NAME     STEP  SIZE  FILES  PARTS  LAYOUT  AGE", "");
    let text = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<&str> = text.lines().skip(1).filter_map(|it| it.split(' ').next()).collect();
    assert_eq!(names, ["step-30", "step-20", "step-10"]);
    let json: Value =
        serde_json::from_slice(&trainyard(&["ls", "store", "-o", "json"], root).stdout).unwrap();
    assert_eq!(json["checkpoints"][0]["step"], 30);
    assert_eq!(json["checkpoints"][0]["complete"], true);

    check(&trainyard(&["verify", "store", "20"], root), 0, "step-20  good", "");
    check(&trainyard(&["verify", "store", "21"], root), 3, "", "`step-30`, `step-20`, `step-10`");
    check(&trainyard(&["pull", "store", "step-20", "--to", "there"], root), 0, "there/step-20", "");
    let model = fs::read_to_string(root.join("there/step-20/model")).unwrap();
    assert_eq!(model, "weights of step 20");

    // The newest is damaged.
    let chunk = chunk_of(&root.join("store/chunks"), "weights of step 30");
    fs::write(&chunk, "weights of step 31").unwrap();
    check(&trainyard(&["verify", "store"], root), 1, "step-30  damaged", "");
    let pulled = trainyard(&["pull", "store", "-o", "json"], root);
    check(&pulled, 1, "\"name\": \"step-20\"", "`step-30` was passed over");
    check(&trainyard(&["pull", "store", "30"], root), 1, "", "holds other bytes");
    let prune = ["prune", "store", "--keep", "1"];
    let dry = [&prune[..], &["--dry-run", "--verify"]].concat();
    check(&trainyard(&dry, root), 0, "would remove step-10", "`step-30` is damaged");
    check(&trainyard(&[&prune[..], &["--verify"]].concat(), root), 0, "removed step-10", "");
    check(&trainyard(&["pull", "store"], root), 1, "step-20", "");
    check(&trainyard(&["prune", "store", "--keep", "0"], root), 2, "", "0 is not in 1..");
}

fn chunk_of(folder: &Path, content: &str) -> std::path::PathBuf {
    let folders = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let files = folders.flat_map(|it| fs::read_dir(it).unwrap().map(|it| it.unwrap().path()));
    files.into_iter().find(|it| fs::read(it).unwrap() == content.as_bytes()).unwrap()
}
