use trainyard_serving::Server;
use trainyard_serving::request::VersionChoice;
use trainyard_serving::server::{ServerOptions, VersionState};

use crate::models;
use crate::support::{answer, explicit, latest, options, started, state, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_and_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("one.onnx"), 1.0, None);
    models::write(&folder.path().join("two/anything.onnx"), 2.0, None);
    let targets = vec![folder.path().join("one.onnx"), folder.path().join("two/")];
    let server = started(ServerOptions { targets, ..options(folder.path().into()) }).await;

    assert_eq!(latest(&server, "one").await.expect("answers"), 2.0);
    assert_eq!(latest(&server, "two").await.expect("answers"), 3.0);
    let unknown = latest(&server, "three").await.expect_err("unknown").to_string();
    assert_eq!(unknown, "Request for unknown model: 'three' is not found");
    let metadata = server.metadata("one", &VersionChoice::Latest).expect("ready");
    assert_eq!((metadata.version, metadata.versions, metadata.max_batch_size), (1, vec![1], 64));
    assert!(metadata.notes.iter().any(|(key, note)| key == "engine" && note.contains("tract")));
    assert!(server.metrics().encode().contains(r#"trainyard_engine_info{name="tract""#));
    server.shutdown().await;
    assert!(!server.is_ready());
    let refused = latest(&server, "one").await.expect_err("refused").to_string();
    assert_eq!(refused, "the server is shutting down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_of_gpu_memory_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("model.onnx"), 1.0, None);
    let one = folder.path().join("model.onnx");
    let bound =
        started(ServerOptions { gpu_memory_limit: Some(6 << 30), ..options(one.clone()) }).await;
    assert!(bound.metrics().encode().contains("trainyard_gpu_memory_limit_bytes 6442450944\n"));
    let free = started(options(one)).await;
    assert!(!free.metrics().encode().contains("gpu_memory"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_and_labels_of_a_repository() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("repository");
    for version in [1u8, 2, 3] {
        let path = root.join(format!("shift/{version}/model.onnx"));
        models::write(&path, f32::from(version) * 100.0, None);
    }
    write(
        &root.join("shift/config.pbtxt"),
        r#"name: "shift" platform: "onnxruntime_onnx" max_batch_size: 8
           version_policy { specific { versions: [ 1, 3 ] } }
           input { name: "x" data_type: TYPE_FP32 dims: 2 }
           output { name: "y" data_type: TYPE_FP32 dims: 2 label_filename: "labels.txt" }
           dynamic_batching { max_queue_delay_microseconds: 200 }
           optimization { graph { level: 1 } }
           metric_tags { key: "team" value: "flowers" }
           model_warmup { name: "zeros" batch_size: 2
             inputs { key: "x" value { data_type: TYPE_FP32 dims: 2 zero_data: true } } }
           parameters { key: "version_labels" value { string_value: "stable=1,canary=2" } }"#,
    );
    write(&root.join("shift/labels.txt"), "left\nright\n");
    let server = started(options(root)).await;

    let number = |number| answer(&server, "shift", VersionChoice::Number(number));
    assert_eq!(latest(&server, "shift").await.expect("answers"), 301.0);
    assert_eq!(number(1).await.expect("answers"), 101.0);
    let refused = number(2).await.expect_err("not served").to_string();
    assert!(refused.contains("version 2") && refused.contains("[1, 3]"), "{refused}");
    let label = |label: &str| answer(&server, "shift", VersionChoice::Label(label.to_owned()));
    assert_eq!(label("stable").await.expect("answers"), 101.0);
    assert!(label("canary").await.is_err(), "its version is not served");
    assert!(label("nosuch").await.expect_err("unknown").to_string().contains("nosuch"));
    assert_eq!(
        server.labels("shift").expect("known").into_iter().collect::<Vec<_>>(),
        [("stable".to_owned(), 1)]
    );

    let metadata = server.metadata("shift", &VersionChoice::Latest).expect("ready");
    assert_eq!(metadata.versions, [1, 3]);
    assert_eq!(metadata.signature.outputs[0].labels, ["left", "right"]);
    let warning = metadata.notes.iter().find(|(key, _)| key == "warnings").expect("one");
    assert!(warning.1.contains("optimization is not supported"), "{warning:?}");
    let config = server.config("shift").expect("ready");
    assert_eq!(config["max_batch_size"], 8);
    assert_eq!(config["input"][0]["data_type"], "TYPE_FP32");
    assert_eq!(config["input"][0]["dims"], serde_json::json!([2]));
    assert_eq!(config["dynamic_batching"]["max_queue_delay_microseconds"], 200);
    assert_eq!(state(&server, "shift", 2), None);
    assert_eq!(state(&server, "shift", 3), Some((VersionState::Ready, String::new())));
    let metrics = server.metrics().encode();
    assert!(
        metrics.contains(r#"trainyard_model_tags{model="shift",version="3",team="flowers"} 1"#)
    );
}

#[track_caller]
fn refused(options: ServerOptions, parts: &[&str]) {
    let error = Server::start(options).err().expect("refused").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[tokio::test]
async fn mistakes_are_told_at_once_and_all_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("repository");
    models::write(&root.join("a/1/model.onnx"), 1.0, None);
    models::write(&root.join("b/1/model.onnx"), 1.0, None);
    write(&root.join("a/config.pbtxt"), "backend: \"python\"");
    write(&root.join("b/config.pbtxt"), "name: \"other\"");
    write(&root.join("c/2/readme.txt"), "");
    refused(options(root.clone()), &["a/config.pbtxt:1:1", "python", "'other'", "c/2/model.onnx"]);
    refused(explicit(root.clone(), &["b"]), &["b/config.pbtxt"]);
    refused(explicit(root, &["nosuch"]), &["nosuch"]);
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    refused(options(empty.clone()), &[&empty.display().to_string()]);
    assert!(Server::start(explicit(empty, &[])).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_to_load_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cut.onnx");
    std::fs::write(&path, &models::bytes(1.0, None)[..40]).expect("written");
    let server = Server::start(options(path.clone())).expect("starts");
    let error = server.loaded().await.expect_err("cut").to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(!server.is_ready());
    let refused = latest(&server, "cut").await.expect_err("not ready").to_string();
    assert!(refused.contains("model 'cut' is not ready") && refused.contains("cut.onnx"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_does_not_fit_the_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("m/1/model.onnx"), 1.0, None);
    let config = folder.path().join("m/config.pbtxt");
    write(&config, "max_batch_size: 4\ninput { name: \"x\" data_type: TYPE_INT64 dims: 2 }");
    let server = Server::start(options(folder.path().join("m"))).expect("starts");
    let error = server.loaded().await.expect_err("does not fit").to_string();
    assert!(error.contains("config.pbtxt:2:7") && error.contains("INT64"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_would_be_wrong_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("m/1/model.onnx"), 1.0, Some(1));
    write(&folder.path().join("m/config.pbtxt"), "max_batch_size: 4");
    let server = started(options(folder.path().join("m"))).await;
    let metadata = server.metadata("m", &VersionChoice::Latest).expect("ready");
    assert_eq!(metadata.max_batch_size, 0);
    let notes = format!("{:?}", metadata.notes);
    assert!(notes.contains("config.pbtxt:1:1") && notes.contains("is always 1"), "{notes}");
    assert_eq!(latest(&server, "m").await.expect("answers"), 2.0);
}
