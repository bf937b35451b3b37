//! Fetching from web servers, good and bad.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{Reply, Server, content, files_in, get, good, options};
use tokio_util::sync::CancellationToken;
use trainyard_storage::{FetchOptions, Source, Stage, StorageError, fetch};

const SIZE: usize = 1_000_000;

#[tokio::test]
async fn parts_are_put_together_and_kept() {
    let body = content(SIZE, 1);
    let served = body.clone();
    let server = Server::start(move |request| good(request, &served, "\"a\"")).await;
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let url = server.url("models/my%20model.onnx?token=secret");

    let first = get(&url, &options).await.unwrap();
    assert_eq!(fs::read(&first.path).unwrap(), body);
    assert_eq!(first.path.file_name().unwrap(), "my model.onnx");
    assert_eq!((first.bytes, first.source), (SIZE as u64, Source::Remote));
    assert_eq!(fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(server.starts(0).len(), SIZE.div_ceil(64 << 10));
    for record in files_in(cache.path(), "remotes") {
        let text = fs::read_to_string(cache.path().join("remotes").join(record)).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }

    let before = server.count();
    let again = get(&url, &options).await.unwrap();
    assert_eq!((again.source, &again.path), (Source::Cache, &first.path));
    assert_eq!(server.count(), before + 1, "one conditional request");

    let offline = FetchOptions { offline: true, ..options.clone() };
    assert_eq!(get(&url, &offline).await.unwrap().path, first.path);
    let sha256 = first.fingerprint.strip_prefix("sha256:").unwrap().to_owned();
    let pinned = FetchOptions { sha256: Some(sha256), ..options };
    assert_eq!(get(&url, &pinned).await.unwrap().path, first.path);
    assert_eq!(server.count(), before + 1, "neither asks the server");
}

#[tokio::test]
async fn new_content_gets_a_new_path() {
    let version = std::sync::Arc::new(AtomicU64::new(1));
    let current = std::sync::Arc::clone(&version);
    let server = Server::start(move |request| {
        let seed = current.load(Ordering::Relaxed);
        good(request, &content(1000, seed), &format!("\"{seed}\""))
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let (url, options) = (server.url("m.onnx"), options(cache.path()));
    let old = get(&url, &options).await.unwrap();
    version.store(2, Ordering::Relaxed);
    let new = get(&url, &options).await.unwrap();
    assert_ne!(old.path, new.path);
    assert_eq!(fs::read(&old.path).unwrap(), content(1000, 1), "still there for who reads it");
    assert_eq!(fs::read(&new.path).unwrap(), content(1000, 2));
}

#[tokio::test]
async fn servers_without_ranges_or_lengths_or_tags() {
    let body = content(SIZE, 2);
    // (path, headers, whether the second fetch finds it unchanged)
    let cases = [("plain", vec![], false), ("tagged", vec![("etag", "\"a\"".to_owned())], true)];
    for (path, headers, kept) in cases {
        let served = body.clone();
        let server = Server::start(move |_| Reply {
            status: 200,
            headers: headers.clone(),
            body: served.clone(),
            ..Reply::default()
        })
        .await;
        let cache = tempfile::tempdir().unwrap();
        let options = options(cache.path());
        let fetched = get(&server.url(path), &options).await.unwrap();
        assert_eq!(fs::read(&fetched.path).unwrap(), body, "{path}");
        let again = get(&server.url(path), &options).await.unwrap();
        assert_eq!(again.source == Source::Cache, kept, "{path}");
        assert_eq!(again.path, fetched.path, "the content is the same");
    }
    // Promises ranges, then answers with everything.
    let served = body.clone();
    let server = Server::start(move |request| match request.range {
        Some((0, 0)) => good(request, &served, "\"a\""),
        _ => good(&support::Request { range: None, ..request.clone() }, &served, "\"a\""),
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let fetched = get(&server.url("m"), &options(cache.path())).await.unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), body);
}

#[tokio::test]
async fn an_empty_file() {
    let server = Server::start(|request| good(request, b"", "\"a\"")).await;
    let cache = tempfile::tempdir().unwrap();
    let fetched = get(&server.url("m"), &options(cache.path())).await.unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), b"");
}

#[tokio::test]
async fn cut_connections_are_gone_on_from() {
    let body = content(SIZE, 3);
    let served = body.clone();
    let server = Server::start(move |request| {
        let cut = (request.range != Some((0, 0))).then_some(20_000);
        Reply { cut_after: cut, ..good(request, &served, "\"a\"") }
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let fetched = get(&server.url("m"), &options(cache.path())).await.unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), body);
    let starts = server.starts(0);
    let unique: std::collections::BTreeSet<_> = starts.iter().collect();
    assert!(unique.len() * 10 >= starts.len() * 9, "few bytes were asked for twice");
}

#[tokio::test]
async fn busy_servers_are_asked_again() {
    let server = Server::start(|request| match request.number {
        0 => Reply {
            status: 503,
            headers: vec![("retry-after", "0".to_owned())],
            ..Reply::default()
        },
        2 => Reply { status: 429, ..Reply::default() },
        4 => Reply { cut_after: Some(0), announced: Some(9), status: 500, ..Reply::default() },
        _ => good(request, &content(200_000, 4), "\"a\""),
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let fetched = get(&server.url("m"), &options(cache.path())).await.unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), content(200_000, 4));
}

#[tokio::test]
async fn a_content_that_changes_is_never_mixed() {
    let server = Server::start(|request| {
        // The second content appears after the first parts of the first were sent.
        let version = if request.number < 5 { 1 } else { 2 };
        good(request, &content(SIZE, version), &format!("\"{version}\""))
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let fetched = get(&server.url("m"), &options(cache.path())).await.unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), content(SIZE, 2));
    assert!(files_in(cache.path(), "partial").is_empty());

    let server = Server::start(|request| {
        good(request, &content(SIZE, 1), &format!("\"{}\"", request.number))
    })
    .await;
    let error = get(&server.url("m"), &options(cache.path())).await.unwrap_err();
    assert!(matches!(error, StorageError::Changing { .. }), "{error}");
}

#[tokio::test]
async fn lengths_that_lie() {
    let cache = tempfile::tempdir().unwrap();
    let options = FetchOptions { attempts: 3, ..options(cache.path()) };
    // More announced than sent, without ranges.
    let server = Server::start(|_| Reply {
        status: 200,
        body: content(1000, 1),
        announced: Some(2000),
        ..Reply::default()
    })
    .await;
    let error = get(&server.url("m"), &options).await.unwrap_err();
    assert!(matches!(error, StorageError::Remote { attempts: 3, .. }), "{error}");
    assert!(error.is_transient());
    // Another range than asked for.
    let server = Server::start(|request| {
        let mut reply = good(request, &content(1000, 1), "\"a\"");
        if request.range != Some((0, 0)) {
            reply.headers.retain(|header| header.0 != "content-range");
            reply.headers.push(("content-range", "bytes 5-1004/1000".to_owned()));
        }
        reply
    })
    .await;
    let error = get(&server.url("m"), &options).await.unwrap_err();
    assert!(error.to_string().contains("another range"), "{error}");
    // More than any disk has.
    let server = Server::start(|request| {
        let mut reply = good(request, b"x", "\"a\"");
        reply.headers.retain(|header| header.0 != "content-range");
        reply.headers.push(("content-range", format!("bytes 0-0/{}", u64::MAX / 2)));
        reply
    })
    .await;
    let error = get(&server.url("m"), &options).await.unwrap_err();
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
    assert!(files_in(cache.path(), "blobs").is_empty());
}

#[tokio::test]
async fn a_wrong_digest_is_not_kept() {
    let server = Server::start(|request| good(request, &content(SIZE, 5), "\"a\"")).await;
    let cache = tempfile::tempdir().unwrap();
    let wanted = FetchOptions { sha256: Some("0".repeat(64)), ..options(cache.path()) };
    let error = get(&server.url("m"), &wanted).await.unwrap_err();
    assert!(matches!(&error, StorageError::Digest { expected, .. } if *expected == "0".repeat(64)));
    assert!(
        files_in(cache.path(), "blobs").is_empty() && files_in(cache.path(), "trees").is_empty()
    );
    let offline = FetchOptions { offline: true, ..options(cache.path()) };
    let error = get(&server.url("m"), &offline).await.unwrap_err();
    assert!(matches!(error, StorageError::NotCached { .. }), "{error}");
}

#[tokio::test]
async fn refusals_are_told_at_once_and_without_secrets() {
    let server = Server::start(|request| Reply {
        status: request.target[1..4].parse().unwrap(),
        ..Reply::default()
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let mut messages = Vec::new();
    for status in [401, 403, 404, 400] {
        let before = server.count();
        let url = server.url(&format!("{status}?signature=secret"));
        let error = get(&url, &options(cache.path())).await.unwrap_err();
        assert_eq!(server.count(), before + 1, "{status} is not tried again");
        assert!(!error.is_transient(), "{error}");
        messages.push(error.to_string().replace(&server.address, "HOST"));
    }
    insta::assert_snapshot!(messages.join("\n"), @r"
    no access to `http://HOST/401`: it answered 401 Unauthorized (a signed URL may have expired)
    no access to `http://HOST/403`: it answered 403 Forbidden (a signed URL may have expired)
    there is nothing at `http://HOST/404`
    a request to `http://HOST/400` failed: it answered 400 Bad Request
    ");
    let error = get(&server.url("folder/"), &options(cache.path())).await.unwrap_err();
    assert!(error.to_string().contains("no folders to list"), "{error}");
}

#[tokio::test]
async fn redirects_must_stay_protected() {
    let server = Server::start(|request| match request.target.as_str() {
        "/there" => good(request, b"there", "\"a\""),
        "/here" => Reply {
            status: 302,
            headers: vec![("location", "/there".to_owned())],
            ..Reply::default()
        },
        "/circle" => Reply {
            status: 302,
            headers: vec![("location", "/circle".to_owned())],
            ..Reply::default()
        },
        _ => Reply {
            status: 302,
            headers: vec![("location", "http://example.invalid/m".to_owned())],
            ..Reply::default()
        },
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let options = FetchOptions { attempts: 1, ..options(cache.path()) };
    let fetched = get(&server.url("here"), &options).await.unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), b"there");
    let error = get(&server.url("away"), &options).await.unwrap_err();
    assert!(error.to_string().contains("plain http"), "{error}");
    let error = get(&server.url("circle"), &options).await.unwrap_err();
    assert!(error.to_string().contains("circles"), "{error}");
}

#[tokio::test]
async fn silent_servers_and_deadlines() {
    let server =
        Server::start(|_| Reply { delay: Duration::from_secs(60), ..Reply::default() }).await;
    let cache = tempfile::tempdir().unwrap();
    let stalled =
        FetchOptions { attempts: 2, stall: Duration::from_millis(50), ..options(cache.path()) };
    let error = get(&server.url("m"), &stalled).await.unwrap_err();
    assert!(error.to_string().contains("it sent nothing for 50ms"), "{error}");
    let limited =
        FetchOptions { deadline: Some(Duration::from_millis(100)), ..options(cache.path()) };
    let began = Instant::now();
    let error = get(&server.url("m"), &limited).await.unwrap_err();
    assert!(matches!(error, StorageError::Deadline { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_cancelled_fetch_is_gone_on_from() {
    let body = content(SIZE, 6);
    let served = body.clone();
    let server = Server::start(move |request| good(request, &served, "\"a\"")).await;
    let cache = tempfile::tempdir().unwrap();
    let options = FetchOptions { parallel: 1, ..options(cache.path()) };
    let cancel = CancellationToken::new();
    let stop_midway = |progress: trainyard_storage::Progress| {
        if progress.done_bytes > SIZE as u64 / 2 {
            cancel.cancel();
        }
    };
    let error = fetch(&server.url("m"), &options, &stop_midway, &cancel).await.unwrap_err();
    assert!(matches!(error, StorageError::Cancelled { .. }), "{error}");
    assert!(files_in(cache.path(), "blobs").is_empty());

    let before = server.count();
    let fetched = get(&server.url("m"), &options).await.unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), body);
    let starts = server.starts(before);
    assert!(starts.iter().all(|start| *start > SIZE / 3), "{starts:?}");
}

#[tokio::test]
async fn fetches_at_once_download_once() {
    let server = Server::start(|request| Reply {
        delay: Duration::from_millis(20),
        ..good(request, &content(300_000, 7), "\"a\"")
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let (url, options) = (server.url("m"), options(cache.path()));
    let waited = AtomicU64::new(0);
    let note = |progress: trainyard_storage::Progress| {
        if progress.stage == Stage::Waiting {
            waited.fetch_add(1, Ordering::Relaxed);
        }
    };
    let cancel = CancellationToken::new();
    let fetches = (0..5).map(|_| fetch(&url, &options, &note, &cancel));
    let fetched = futures_util::future::join_all(fetches).await;
    let downloads =
        fetched.iter().filter(|it| it.as_ref().unwrap().source == Source::Remote).count();
    assert_eq!(downloads, 1);
    assert_eq!(server.starts(0).len(), 300_000usize.div_ceil(64 << 10));
    assert!(waited.load(Ordering::Relaxed) > 0);
}
