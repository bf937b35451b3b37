//! The agent in a folder of its own, as it is run in images that have nothing for it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Asks a store, as the pod does that looks before a start.
fn ask(folder: &Path, variables: &[(&str, &str)]) -> Output {
    let mut agent = Command::new(folder.join("ld.so"));
    agent.arg("--library-path").arg(folder).arg(folder.join("trainyard"));
    agent.args(["fetch", "--check", "--may-be-empty", "--", "s3://steps/line"]);
    agent.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    agent.env_remove("SSL_CERT_DIR").envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn it_brings_certificates_and_says_whose_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there.pem");
    fs::write(&there, "what the system trusts").unwrap();
    let to = folder.path().join("bin");
    let install = |certificates: &Path| {
        Command::new(env!("CARGO_BIN_EXE_trainyard"))
            .args(["agent", "install", "--to"])
            .arg(&to)
            .env("SSL_CERT_FILE", certificates)
            .output()
            .unwrap()
    };
    let output = install(&there);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(to.join("certificates.pem")).unwrap(), "what the system trusts");
    // Whoever names some does not mean those.
    let output = ask(&to, &[("SSL_CERT_FILE", "/nowhere/ca.pem")]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("`SSL_CERT_FILE=/nowhere/ca.pem` names no certificates"), "{text}");
    let output = install(Path::new("/nowhere/ca.pem"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("there is no `/nowhere/ca.pem`"), "{text}");
}
