//! `trainyard plan` on small clusters and traces.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const NODES: &str =
    "sn,cpu_milli,memory_mib,gpu,model\nn-1,16000,65536,2,T4\nn-2,16000,65536,2,T4\n";
const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time\n\
    a,4000,1024,1,500,,0,3600\n\
    b,4000,1024,1,1000,T4,0,7200\n\
    c,4000,1024,2,1000,,60,3660\n\
    d,1000,1024,0,0,,60,3660\n";

fn plan(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .arg("plan")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[track_caller]
fn succeeds(arguments: &[&str], folder: &Path) -> String {
    let output = plan(arguments, folder);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(arguments: &[&str], folder: &Path, expected: &str) {
    let output = plan(arguments, folder);
    // The report wraps its lines.
    let words =
        |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
    let error = words(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(&words(expected)), "{error}");
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("n.csv"), NODES).unwrap();
    fs::write(folder.path().join("p.csv"), PODS).unwrap();
    fs::write(
        folder.path().join("s.json"),
        r#"{"metadata": {"gap_seconds": 600}, "data": [1, 0, 1, 1, 0, 0, 1, 1, 1, 1]}"#,
    )
    .unwrap();
    folder
}

const FILES: [&str; 5] = ["simulate", "--cluster", "n.csv", "--workload", "p.csv"];

fn simulate<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&FILES[..], more].concat()
}

#[test]
fn policies_are_compared() {
    let folder = folder();
    let root = folder.path();
    let text = succeeds(&simulate(&["--policy", "all", "--runs", "2", "-o", "json"]), root);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["policies"].as_array().unwrap().len(), 9);
    for policy in json["policies"].as_array().unwrap() {
        let percent = policy["allocated_percent"]["mean"].as_f64().unwrap();
        assert!(percent > 40.0 && percent <= 100.0, "{policy}");
    }
    // Equal seeds, equal results.
    let csv = |seed| {
        let more = ["--policy", "fgd,random", "--runs", "3", "--seed", seed, "-o", "csv"];
        succeeds(&simulate(&more), root)
    };
    assert_eq!(csv("7"), csv("7"));
    let csv = csv("7");
    assert!(csv.starts_with("policy,allocated_percent,allocated_percent_sd,"), "{csv}");
    assert_eq!(csv.lines().count(), 3);
    let table = succeeds(&simulate(&["--runs", "1", "--plot", "p.svg"]), root);
    assert!(table.contains("POLICY") && table.contains("least-stranding"), "{table}");
    let picture = fs::read_to_string(root.join("p.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.matches("<g ").count() == 3);
}

#[test]
fn a_cluster_fills_up_from_what_runs_there() {
    let folder = folder();
    let root = folder.path();
    let snapshot =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../diagnose/fixtures/D06-split.yaml");
    let from = snapshot.to_str().unwrap();
    let arguments = |load| {
        ["simulate", "--from", from, "--load", load, "--policy", "fgd", "--runs", "1", "-o", "json"]
    };
    let percent = |load| {
        let json: Value = serde_json::from_str(&succeeds(&arguments(load), root)).unwrap();
        let policy = &json["policies"][0];
        let of = |key: &str| policy[key]["mean"].as_f64().unwrap();
        (of("allocated_percent"), of("refused"), of("pods"))
    };
    // Eleven of sixteen GPUs are in use, and no node has room for the four that a pod waits for.
    assert_eq!(percent("0.5"), (68.75, 0.0, 0.0));
    assert_eq!(percent("0.94"), (68.75, 1.0, 1.0));
    assert!(percent("3").0 > 68.75);
    fails(&["simulate"], root, "which cluster?");
    fails(&["simulate", "--cluster", "n.csv"], root, "which pods come?");
    let both = ["simulate", "--from", from, "--workload", "p.csv"];
    fails(&both, root, "name GPUs otherwise");
    fails(&simulate(&["--context", "x"]), root, "nodes are in a file, or in a cluster");
    let timed = ["simulate", "--from", from, "--mode", "timed"];
    fails(&timed, root, "nobody knows when the pods of a cluster end");
}

#[test]
fn a_trace_is_played() {
    let folder = folder();
    let more = ["--mode", "timed", "--policy", "best-fit", "--runs", "1", "-o", "json"];
    let text = succeeds(&simulate(&more), folder.path());
    let json: Value = serde_json::from_str(&text).unwrap();
    let policy = &json["policies"][0];
    // All fit at once: half a GPU, one and two of four.
    assert_eq!(policy["longest_wait_seconds"]["mean"], 0.0);
    assert_eq!(policy["makespan_seconds"]["mean"], 7200.0);
}

#[test]
fn spot_machines_are_weighed() {
    let folder = folder();
    let arguments = ["spot", "--trace", "s.json", "--work", "1", "--deadline", "1.5", "-o", "csv"];
    let text = succeeds(&arguments, folder.path());
    assert_eq!(text.lines().count(), 7);
    let late = ["spot", "--trace", "s.json", "--work", "2", "--deadline", "2"];
    fails(&late, folder.path(), "a deadline of 2 h cannot be kept");
}

#[test]
fn machines_are_counted() {
    let folder = folder();
    let root = folder.path();
    let arguments = ["capacity", "--workload", "p.csv", "--max-wait", "10m", "-o", "json"];
    let json: Value = serde_json::from_str(&succeeds(&arguments, root)).unwrap();
    let plans = json["plans"].as_array().unwrap();
    let prices: Vec<f64> =
        plans.iter().map(|plan| plan["dollars_per_hour"].as_f64().unwrap()).collect();
    assert!(prices.is_sorted() && prices[0] > 0.0, "{text}", text = json);
    let with = |more: &[&str]| [&arguments[..5], more].concat().join(" ");
    let check = |more: &[&str], expected: &str| {
        let all = with(more);
        fails(&all.split(' ').collect::<Vec<_>>(), root, expected);
    };
    check(
        &["--region", "moon"],
        "no prices of region `moon` in gpu-prices.csv; there are eu-west-1",
    );
    check(&["--instance", "abacus"], "no price of `abacus` in us-east-2; there are g4dn.12xlarge");
    check(&["--region", "us-west-2", "--instance", "p4d.24xlarge"], "no kind of machine has room");
    let all = with(&["--region", "us-central1", "--instance", "n1-standard-32+4xT4"]);
    let printed = succeeds(&all.split(' ').collect::<Vec<_>>(), root);
    assert!(printed.contains("1 × n1-standard-32+4xT4"), "{printed}");
    // With a name that means what is sold.
    let all = with(&["--instance", "p4d.24xlarge", "--alias", "T4=A100"]);
    assert!(succeeds(&all.split(' ').collect::<Vec<_>>(), root).contains("1 × p4d.24xlarge"));
}

#[test]
fn mistakes_are_told() {
    let folder = folder();
    let root = folder.path();
    fs::write(root.join("bad.csv"), NODES.replace("16000", "many")).unwrap();
    let bad = ["simulate", "--cluster", "bad.csv", "--workload", "p.csv"];
    fails(
        &bad,
        root,
        "bad.csv:2: column `cpu_milli` is `many`, not a whole number from 0 to 4294967295",
    );
    let gone = ["simulate", "--cluster", "gone.csv", "--workload", "p.csv"];
    fails(&gone, root, "reading gone.csv failed");
    fails(
        &simulate(&["--policy", "fdg"]),
        root,
        "`fdg` is no policy; there are first-fit, best-fit",
    );
    fails(&simulate(&["--load", "0"]), root, "a number from 0.01 to 100");
    fs::write(root.join("t.csv"), "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,0,0\n")
        .unwrap();
    let timed = ["simulate", "--cluster", "n.csv", "--workload", "t.csv", "--mode", "timed"];
    fails(&timed, root, "pod `a` has no `creation_time`");
    fails(&["spot", "--trace", "n.csv"], root, "n.csv is no trace of spot machines");
}
