//! Several processes, killed processes, and a disk that is full.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Reply, Server, content, files_in, get, good, options};
use trainyard_storage::{FetchOptions, StorageError};

const SIZE: usize = 2_000_000;

/// Run by the other tests in a process of its own; does nothing otherwise.
#[test]
fn child() {
    let Ok(uri) = std::env::var("TEST_FETCH_URI") else { return };
    let cache = PathBuf::from(std::env::var_os("TEST_FETCH_CACHE").unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let options = FetchOptions { parallel: 2, ..options(&cache) };
    let fetched = runtime.block_on(get(&uri, &options)).unwrap();
    println!("fetched {}", fetched.path.display());
}

fn spawn(uri: &str, cache: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("TEST_FETCH_URI", uri)
        .env("TEST_FETCH_CACHE", cache)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_what_the_next_goes_on_from() {
    let body = content(SIZE, 1);
    let served = body.clone();
    let server = Server::start(move |request| Reply {
        delay: Duration::from_millis(10),
        ..good(request, &served, "\"a\"")
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let url = server.url("m");
    for round in 0..3 {
        let before = server.starts(0).len();
        let mut child = spawn(&url, cache.path());
        let deadline = Instant::now() + Duration::from_secs(60);
        // A few parts in each life.
        while server.starts(0).len() < before + 6 {
            assert!(Instant::now() < deadline, "round {round} fetches nothing");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(files_in(cache.path(), "blobs").is_empty(), "nothing torn is visible");
        assert!(files_in(cache.path(), "trees").is_empty());
    }
    let before = server.count();
    let fetched = get(&url, &options(cache.path())).await.unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), body);
    let left = server.starts(before).len();
    assert!(left <= SIZE.div_ceil(64 << 10) - 8, "{left} parts were still to fetch");
    assert!(files_in(cache.path(), "partial").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_at_once_download_once() {
    let body = content(SIZE, 2);
    let served = body.clone();
    let server = Server::start(move |request| good(request, &served, "\"a\"")).await;
    let cache = tempfile::tempdir().unwrap();
    let url = server.url("m");
    let children: Vec<Child> = (0..4).map(|_| spawn(&url, cache.path())).collect();
    for child in children {
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let path = text.lines().find_map(|line| line.split_once("fetched ")).unwrap().1;
        assert_eq!(fs::read(path).unwrap(), body);
    }
    assert_eq!(server.starts(0).len(), SIZE.div_ceil(64 << 10));
}

/// A file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "trainyard-test"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_named_and_the_next_try_succeeds() {
    let Some(disk) = SmallDisk::mount(3 << 20) else {
        println!("not tested: mounting a small disk needs root");
        return;
    };
    let cache = disk.0.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).unwrap();

    // The size is known: nothing is fetched.
    let server = Server::start(|request| good(request, &content(SIZE, 3), "\"a\"")).await;
    let error = get(&server.url("m"), &options(&cache)).await.unwrap_err();
    let StorageError::NoSpace { needed, available: Some(available), .. } = &error else {
        panic!("{error}")
    };
    assert!(*needed == SIZE as u64 && *available <= 1 << 20, "{error}");
    assert!(server.starts(0).is_empty());

    // It is not known until the disk is full.
    let chunked = Server::start(|_| Reply {
        status: 200,
        headers: vec![("transfer-encoding", "chunked".to_owned())],
        body: [b"1e8480\r\n".as_slice(), &content(SIZE, 3), b"\r\n0\r\n\r\n"].concat(),
        ..Reply::default()
    })
    .await;
    let error = get(&chunked.url("m"), &options(&cache)).await.unwrap_err();
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
    assert!(files_in(&cache, "blobs").is_empty());

    fs::remove_file(ballast).unwrap();
    let fetched = get(&server.url("m"), &options(&cache)).await.unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), content(SIZE, 3));
}
