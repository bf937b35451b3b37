//! Real processes: killed in the middle, several at once, a full disk, and S3 (moto's server).

#[path = "../../storage/tests/moto/mod.rs"]
mod moto;
mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use moto::Moto;
use support::{content, names, tree, write_step};
use trainyard_checkpoint::{Keeper, PruneOptions, Settings, Store, Tuning};
use trainyard_storage::Credentials;

const TUNING: Tuning = Tuning { parallel: 2, chunk_bytes: 64 << 10 };

/// Run by the other tests in a process of its own; does nothing otherwise.
#[test]
fn child() {
    let Ok(uri) = std::env::var("TEST_CHECKPOINT_URI") else { return };
    let path = std::env::var_os("TEST_CHECKPOINT_PATH").unwrap();
    if let Ok(most) = std::env::var("TEST_FILE_BYTES") {
        // A longer file is the error of a full disk to its writer; the signal would end the process.
        let limit = Some(most.parse().unwrap());
        let limits = rustix::process::Rlimit { current: limit, maximum: limit };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limits).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let settings = Settings {
        tuning: TUNING,
        still_for: Duration::ZERO,
        ..Settings::new(std::path::PathBuf::from(path), uri)
    };
    let keeper = Keeper::open(settings).unwrap();
    let flushed = runtime.block_on(keeper.flush(Duration::from_secs(120)));
    println!("flushed {:?} left {:?}", flushed.saved, flushed.left);
}

fn spawn(uri: &str, path: &Path, more: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("TEST_CHECKPOINT_URI", uri)
        .env("TEST_CHECKPOINT_PATH", path)
        .envs(more.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn open(uri: &str) -> Store {
    Store::open(uri, &Credentials::default()).unwrap().with_tuning(TUNING)
}

fn chunks(store: &Path) -> usize {
    let chunks = store.join("chunks");
    if chunks.is_dir() { tree(&chunks).len() } else { 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upload_goes_on_and_shows_nothing_before_it_is_whole() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let uri = store.path().display().to_string();
    write_step(program.path(), "step-1", &[("model", content(8_000_000, 1))]);
    let mut reached = 0;
    for round in 0..4 {
        let mut child = spawn(&uri, program.path(), &[]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while chunks(store.path()) < reached + 8 {
            assert!(Instant::now() < deadline, "round {round} uploads nothing");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let now = chunks(store.path());
        assert!(now >= reached + 8, "what was there stays");
        reached = now;
        if reached < 123 {
            assert!(open(&uri).catalogue().await.unwrap().steps.is_empty(), "round {round}");
        }
    }
    assert!(said(spawn(&uri, program.path(), &[])).contains("flushed [\"step-1\"] left []"));
    let store = open(&uri);
    let to = tempfile::tempdir().unwrap();
    let restored = store.restore_newest(to.path(), None).await.unwrap().unwrap();
    assert_eq!(tree(&restored.path), tree(&program.path().join("step-1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_nothing_is_published() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let uri = store.path().display().to_string();
    write_step(program.path(), "step-1", &[("model", content(300_000, 1))]);
    // Rust ignores no SIGXFSZ; the shell's trap does, and children inherit it.
    let program_path = program.path().display().to_string();
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact child --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env("TEST_CHECKPOINT_URI", &uri)
        .env("TEST_CHECKPOINT_PATH", program_path)
        .env("TEST_FILE_BYTES", "20000")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("no space for"), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert!(open(&uri).catalogue().await.unwrap().steps.is_empty());
    assert!(tree(&store.path().join("tmp")).is_empty(), "what was half written is gone");
}

/// Processes that share a store, while it is pruned again and again.
#[tokio::test(flavor = "multi_thread")]
async fn several_processes_share_a_store() {
    let store = tempfile::tempdir().unwrap();
    let uri = store.path().display().to_string();
    let programs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    for round in 1..=3u64 {
        let children: Vec<Child> = programs
            .iter()
            .zip(0u64..)
            .map(|(program, n)| {
                let files =
                    [("own", content(200_000, round * 10 + n)), ("same", content(400_000, 1))];
                write_step(program.path(), &format!("step-{round}{n}"), &files);
                spawn(&uri, program.path(), &[])
            })
            .collect();
        let store = open(&uri);
        for child in children {
            store.prune(&PruneOptions::keep(2)).await.unwrap();
            assert!(said(child).contains("left []"));
        }
        let catalogue = store.catalogue().await.unwrap();
        for step in catalogue.complete().take(2) {
            assert_eq!(store.verify(step).await.unwrap(), [], "{:?}", step.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let home = tempfile::tempdir().unwrap();
    let Some(moto) = Moto::start(home.path()) else {
        println!("S3 is not tested: TRAINYARD_TEST_PYTHON is not set");
        return;
    };
    let port = moto.port;
    // The client's signature is checked by nobody; a raw request makes the bucket.
    let request = format!(
        "PUT /bucket HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: 0\r\nauthorization: \
         AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=0\r\nconnection: close\r\n\r\n"
    );
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let credentials: Credentials = [
        ("AWS_ACCESS_KEY_ID", "testing".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "very-secret".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect();
    let program = tempfile::tempdir().unwrap();
    let settings = Settings {
        credentials: credentials.clone(),
        keep: 2,
        tuning: TUNING,
        still_for: Duration::ZERO,
        ..Settings::new(program.path(), "s3://bucket/jobs/a")
    };
    let keeper = Keeper::open(settings).unwrap();
    for step in 1..=3u64 {
        let files = [("model", content(300_000, step)), ("frozen", content(300_000, 9))];
        write_step(program.path(), &format!("step-{step}"), &files);
        let flushed = keeper.flush(Duration::from_secs(60)).await;
        assert_eq!(flushed.saved, [format!("step-{step}")], "{flushed:?}");
    }
    assert_eq!(keeper.counters().uploaded_bytes, 4 * 300_000);
    let store = Store::open("s3://bucket/jobs/a", &credentials).unwrap().with_tuning(TUNING);
    let pruned = store.prune(&PruneOptions::keep(2)).await.unwrap();
    assert_eq!((pruned.removed.len(), pruned.freed_bytes), (1, 300_000));
    let catalogue = store.catalogue().await.unwrap();
    assert_eq!(catalogue.steps.len(), 2);
    for step in &catalogue.steps {
        assert_eq!(store.verify(step).await.unwrap(), []);
    }
    let to = tempfile::tempdir().unwrap();
    let restored = store.restore_newest(to.path(), None).await.unwrap().unwrap();
    assert_eq!(tree(&restored.path), tree(&program.path().join("step-3")));
    assert_eq!(names(to.path()), ["step-3"]);
    let wrong = Store::open("s3://nobucket/x", &credentials).unwrap();
    let error = wrong.restore_newest(to.path(), None).await.unwrap_err().to_string();
    assert!(!error.contains("very-secret"), "{error}");
    fs::remove_dir_all(program.path()).unwrap();
}
