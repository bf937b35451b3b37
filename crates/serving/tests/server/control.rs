use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use trainyard_serving::error::ErrorKind;
use trainyard_serving::request::VersionChoice;
use trainyard_serving::server::{LoadOptions, VersionState};

use crate::models;
use crate::support::{answer, explicit, latest, options, started, state, until, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_and_unload() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("a/1/model.onnx"), 1.0, None);
    models::write(&folder.path().join("b/1/model.onnx"), 2.0, None);
    let server = started(explicit(folder.path().to_owned(), &["a"])).await;
    assert_eq!(latest(&server, "a").await.expect("answers"), 2.0);
    let error = latest(&server, "b").await.expect_err("not loaded");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let index = server.index();
    let b = index.iter().find(|entry| entry.name == "b").expect("known");
    assert_eq!((b.version, b.state), (None, VersionState::Unavailable));

    server.load("b", LoadOptions::default()).await.expect("loads");
    assert_eq!(latest(&server, "b").await.expect("answers"), 3.0);
    server.unload("b").await.expect("unloads");
    assert!(latest(&server, "b").await.is_err());
    let unloaded = (VersionState::Unavailable, "unloaded".to_owned());
    assert_eq!(state(&server, "b", 1), Some(unloaded));
    // What was unloaded on purpose is not missed.
    assert!(server.is_ready());
    server.load("b", LoadOptions::default()).await.expect("loads again");
    assert_eq!(state(&server, "b", 1), Some((VersionState::Ready, String::new())));

    let every = started(explicit(folder.path().to_owned(), &["*"])).await;
    assert_eq!(latest(&every, "b").await.expect("answers"), 3.0);

    for hostile in ["../a", "", "/etc/passwd", "a/1", "nosuch"] {
        let error = server.load(hostile, LoadOptions::default()).await.expect_err(hostile);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{hostile}");
        assert!(error.to_string().starts_with("failed to load"), "{error}");
    }
    assert_eq!(server.unload("nosuch").await.expect_err("unknown").kind(), ErrorKind::NotFound);
    // A model that came after the start.
    models::write(&folder.path().join("c/1/model.onnx"), 3.0, None);
    server.load("c", LoadOptions::default()).await.expect("loads");
    assert_eq!(latest(&server, "c").await.expect("answers"), 4.0);
    server.shutdown().await;
    assert!(server.load("c", LoadOptions::default()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_loses_no_request() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("a/1/model.onnx"), 0.0, None);
    let server = started(explicit(folder.path().to_owned(), &["a"])).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (server, stop) = (server.clone(), stop.clone());
            tokio::spawn(async move {
                let mut answered = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    latest(&server, "a").await.expect("always answered");
                    answered += 1;
                    tokio::task::yield_now().await;
                }
                answered
            })
        })
        .collect();
    for turn in 2u8..6 {
        let path = folder.path().join(format!("a/{turn}/model.onnx"));
        models::write(&path, f32::from(turn), None);
        server.load("a", LoadOptions::default()).await.expect("loads");
        assert_eq!(latest(&server, "a").await.expect("answers"), f32::from(turn) + 1.0);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.expect("no request failed") > 0);
    }
    let metadata = server.metadata("a", &VersionChoice::Latest).expect("ready");
    assert_eq!(metadata.versions, [5]);
    let drained = Some((VersionState::Unavailable, "unloaded".to_owned()));
    until("old versions are unloaded", async || state(&server, "a", 4) == drained).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_load_leaves_the_old_version() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("a/1/model.onnx"), 1.0, None);
    let server = started(explicit(folder.path().to_owned(), &["a"])).await;

    write(&folder.path().join("a/2/model.onnx"), "no model");
    let error = server.load("a", LoadOptions::default()).await.expect_err("no model").to_string();
    assert!(error.starts_with("failed to load 'a'") && error.contains("a/2/model.onnx"), "{error}");
    assert_eq!(latest(&server, "a").await.expect("still answers"), 2.0);
    assert_eq!(state(&server, "a", 1), Some((VersionState::Ready, String::new())));
    let (failed, reason) = state(&server, "a", 2).expect("listed");
    assert_eq!(failed, VersionState::Unavailable);
    assert!(reason.contains("a/2/model.onnx"), "{reason}");
    assert!(server.is_ready());

    // The same version, replaced by something else.
    std::fs::remove_dir_all(folder.path().join("a/2")).expect("removed");
    write(&folder.path().join("a/1/model.onnx"), "no model");
    server.load("a", LoadOptions::default()).await.expect_err("no model");
    let (ready, reason) = state(&server, "a", 1).expect("listed");
    assert_eq!(ready, VersionState::Ready);
    assert!(reason.contains("a/1/model.onnx"), "{reason}");
    assert_eq!(latest(&server, "a").await.expect("still answers"), 2.0);

    // A configuration that cannot be read.
    write(&folder.path().join("a/config.pbtxt"), "max_batch_size:");
    let error = server.load("a", LoadOptions::default()).await.expect_err("no value").to_string();
    assert!(error.contains("config.pbtxt:1:16"), "{error}");
    assert_eq!(latest(&server, "a").await.expect("still answers"), 2.0);

    std::fs::remove_file(folder.path().join("a/config.pbtxt")).expect("removed");
    models::write(&folder.path().join("a/1/model.onnx"), 5.0, None);
    server.load("a", LoadOptions::default()).await.expect("mended");
    assert_eq!(latest(&server, "a").await.expect("answers"), 6.0);
    assert_eq!(state(&server, "a", 1), Some((VersionState::Ready, String::new())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_may_bring_configuration_and_files() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("a/1/model.onnx"), 1.0, None);
    models::write(&folder.path().join("a/2/model.onnx"), 2.0, None);
    let server = started(explicit(folder.path().to_owned(), &["a"])).await;
    let config =
        |text: &str| LoadOptions { config: Some(text.to_owned()), ..LoadOptions::default() };
    let versions = r#"{"version_policy": {"specific": {"versions": [1]}}, "max_batch_size": 2}"#;
    server.load("a", config(versions)).await.expect("loads");
    assert_eq!(latest(&server, "a").await.expect("answers"), 2.0);
    assert_eq!(server.config("a").expect("ready")["max_batch_size"], 2);
    for (text, part) in
        [("{", "JSON"), (r#"{"backend": "python"}"#, "python"), (r#"{"name": "b"}"#, "'b'")]
    {
        let error = server.load("a", config(text)).await.expect_err(text).to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(latest(&server, "a").await.expect("still answers"), 2.0);
    server.load("a", LoadOptions::default()).await.expect("as the repository has it");
    assert_eq!(latest(&server, "a").await.expect("answers"), 3.0);

    let files = |path: &str| {
        let model = Bytes::from(models::bytes(7.0, None));
        LoadOptions { files: BTreeMap::from([(path.to_owned(), model)]), ..LoadOptions::default() }
    };
    server.load("uploaded", files("1/model.onnx")).await.expect("loads");
    assert_eq!(latest(&server, "uploaded").await.expect("answers"), 8.0);
    server.load("uploaded", files("3/model.onnx")).await.expect("loads");
    assert_eq!(answer(&server, "uploaded", VersionChoice::Number(3)).await.expect("answers"), 8.0);
    for hostile in ["../x/1/model.onnx", "/tmp/x", "1/../../x"] {
        let error = server.load("uploaded", files(hostile)).await.expect_err(hostile);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("leaves the model's folder"), "{error}");
    }
    server.unload("uploaded").await.expect("unloads");
    assert!(latest(&server, "uploaded").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_explicit_control_takes_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("a/1/model.onnx"), 1.0, None);
    let server = started(options(folder.path().to_owned())).await;
    let refused = server.unload("a").await.expect_err("not explicit");
    assert_eq!(refused.kind(), ErrorKind::Unimplemented);
    assert!(refused.to_string().contains("explicit model load / unload is not allowed"));
    let error = server.load("../a", LoadOptions::default()).await.expect_err("a path");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(latest(&server, "a").await.expect("answers"), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_of_one_model_take_turns() {
    let folder = tempfile::tempdir().expect("a folder");
    for version in [1, 2] {
        models::write(&folder.path().join(format!("a/{version}/model.onnx")), 1.0, None);
    }
    models::write(&folder.path().join("b/1/model.onnx"), 1.0, None);
    let server = started(explicit(folder.path().to_owned(), &["a"])).await;
    let commands = (0..12).map(|turn| {
        let server = server.clone();
        async move {
            match turn % 3 {
                0 => server.unload("a").await,
                1 => server.load("a", LoadOptions::default()).await,
                _ => server.load("b", LoadOptions::default()).await,
            }
        }
    });
    for result in futures_util::future::join_all(commands).await {
        result.expect("every command is obeyed");
    }
    server.load("a", LoadOptions::default()).await.expect("loads");
    assert_eq!(latest(&server, "a").await.expect("answers"), 2.0);
}
