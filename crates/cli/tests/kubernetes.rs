//! What pods run, and what is applied to clusters: `render`, `crds`, `fetch` and the end of `serve`,
//! with the real binary.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn trainyard(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command.args(arguments).env_remove("RUST_LOG").env_remove("TRAINYARD_IMAGE");
    command
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = trainyard(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const SERVICE: &str = "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata: {name: iris}\n\
                       spec: {model: {uri: 's3://models/iris'}, scaling: {min: 0, max: 3, cpu: 70%}}\n";

#[test]
fn a_manifest_becomes_objects_on_standard_output_and_notes_beside() {
    let output = run(&["render", "-f", "-", "-n", "models"], SERVICE);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let objects: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(&text(&output.stdout)).unwrap();
    let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "ServiceAccount",
            "NetworkPolicy",
            "Service",
            "Deployment",
            "PodDisruptionBudget",
            "HorizontalPodAutoscaler"
        ]
    );
    assert!(objects.iter().all(|object| object["metadata"]["namespace"] == "models"));
    let notes = text(&output.stderr);
    assert!(notes.contains("note: `spec.scaling.min: 0` of `iris` needs the operator"), "{notes}");
    assert_eq!(run(&["render", "-f", "-", "-n", "models"], SERVICE).stdout, output.stdout);
}

#[test]
fn one_service_that_cannot_be_rendered_keeps_all_from_being_applied() {
    let both = format!(
        "{SERVICE}---\n{}",
        SERVICE.replace("s3://models/iris", "file:///iris").replace("name: iris", "name: other")
    );
    let output = run(&["render", "-f", "-"], &both);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    assert!(text(&output.stderr).contains("pvc://CLAIM/PATH"), "{}", text(&output.stderr));
}

#[test]
fn a_pool_among_the_manifests_is_what_services_get_their_part_from() {
    let pool = "apiVersion: trainyard.dev/v1alpha1\nkind: GpuPool\nmetadata: {name: default}\n\
                spec: {nodeSelector: {pool: t4}, product: Tesla-T4, sharing: {mode: mps, shares: 4}}\n";
    let service = "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata: {name: iris}\n\
                   spec: {model: {uri: 's3://models/iris'}, resources: {gpu: {share: 1/4}}}\n";
    let output = run(&["render", "-f", "-"], &format!("{service}---\n{pool}"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let objects: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(&text(&output.stdout)).unwrap();
    let find = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let pod = &find("Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["pool"], "t4");
    assert_eq!(pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu.shared"], "1");
    assert_eq!(find("ConfigMap")["metadata"]["name"], "trainyard-gpus");
    let notes = text(&output.stderr);
    assert!(notes.contains("kubectl label nodes -l pool=t4 --overwrite"), "{notes}");
    assert!(notes.contains("`requests.nvidia.com/gpu.shared`"), "{notes}");
    // What the cluster cannot do is an error, whether a service uses it or not.
    let dra = "apiVersion: trainyard.dev/v1alpha1\nkind: GpuPool\nmetadata: {name: a}\n\
               spec: {nodeSelector: {pool: a}, sharing: {mode: dra}}\n";
    let output = run(&["render", "-f", "-"], dra);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
    assert!(text(&output.stderr).contains("1.34 or newer"), "{}", text(&output.stderr));
    let output = run(&["render", "-f", "-", "--kubernetes-version", "1.34"], dra);
    assert!(text(&output.stdout).contains("kind: DeviceClass"), "{}", text(&output.stderr));
}

#[test]
fn what_stands_beside_a_service_is_left_aside() {
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: reader}\nstringData: {KEY: hidden}\n";
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n";
    let output = run(&["render", "-f", "-"], &format!("{secret}---\n{SERVICE}---\n{other}"));
    let (printed, notes) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{notes}");
    assert!(printed.contains("kind: Deployment") && !printed.contains("kind: Secret"), "{printed}");
    assert!(notes.contains("the Secret `reader` is not printed"), "{notes}");
    assert!(notes.contains("v1 ConfigMap is left aside"), "{notes}");
    assert!(!format!("{printed}{notes}").contains("hidden"));
    let output = run(&["render", "-f", "-"], other);
    assert!(!output.status.success());
}

#[test]
fn the_definition_is_printed() {
    let output = run(&["crds"], "");
    let definitions: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(&text(&output.stdout)).unwrap();
    assert_eq!(definitions[0]["metadata"]["name"], "modelservices.trainyard.dev");
    let scale = &definitions[0]["spec"]["versions"][0]["subresources"]["scale"];
    assert_eq!(scale["specReplicasPath"], ".spec.replicas");
}

#[test]
fn a_fetch_says_by_its_exit_code_what_went_wrong() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).display().to_string();
    fs::write(path("m.bin"), "abc").unwrap();
    let uri = format!("file://{}", path("m.bin"));
    let fetch = |uri: &str, sha256: &str, to: &str| {
        let (to, log) = (path(to), path("log"));
        let flags =
            ["fetch", "--to", &to, "--termination-log", &log, "--sha256", sha256, "--", uri];
        run(&flags, "").status.code()
    };
    // Of "abc", from FIPS 180-2's examples.
    let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(fetch(&uri, right, "model"), Some(0));
    assert_eq!(fs::read_to_string(Path::new(&path("model")).join("m.bin")).unwrap(), "abc");
    assert!(!Path::new(&path("log")).exists());

    assert_eq!(fetch(&uri, &right.replace('b', "c"), "other"), Some(5));
    let log = fs::read_to_string(path("log")).unwrap();
    assert!(log.starts_with("DigestMismatch: ") && log.lines().count() == 1, "{log}");
    assert!(!Path::new(&path("other")).exists());

    assert_eq!(fetch(&format!("file://{}", path("nothing")), right, "other"), Some(3));
    assert!(fs::read_to_string(path("log")).unwrap().starts_with("NotFound: "));
    assert_eq!(fetch("ftp://example.com/m", right, "other"), Some(2));
    assert!(fs::read_to_string(path("log")).unwrap().starts_with("Invalid: "));
}

fn terminate(child: &std::process::Child) {
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: a signal to a child of ours that was not waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
}

/// A pod's endpoint is still known for a while after its server was told to end.
#[test]
fn a_server_told_to_stop_goes_on_until_the_delay_is_over() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("models")).unwrap();
    let mut child = trainyard(&["serve", "models", "--model-control", "explicit", "--port", "0"])
        .args(["--address-file", "address.json", "--shutdown-delay", "1h"])
        .current_dir(root.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut wait_for = |what: &str| {
        let found = lines.by_ref().map_while(Result::ok).any(|line| line.contains(what));
        assert!(found, "the server ended without `{what}`");
    };
    wait_for("ready after");
    let address: serde_json::Value =
        serde_json::from_slice(&fs::read(root.path().join("address.json")).unwrap()).unwrap();
    let answer = || {
        let mut stream = TcpStream::connect(address["address"].as_str().unwrap()).unwrap();
        stream.write_all(b"GET /v2/health/live HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    terminate(&child);
    wait_for("told to stop");
    assert!(answer().contains(" 200 OK"), "{}", answer());
    // Who is in a hurry says so twice.
    terminate(&child);
    assert!(child.wait().unwrap().success());
}
