//! The same server on ONNX Runtime. Skipped, with a message, where no library is named.

use std::path::Path;

use trainyard_serving::engine::{EnginePreference, SessionOptions, choose};
use trainyard_serving::request::VersionChoice;
use trainyard_serving::server::ServerOptions;
use trainyard_serving::tensor::Data;
use trainyard_serving::{DataType, InferRequest, Tensor};

use crate::models;
use crate::support::{latest, number, options, request, started, write};

fn has_library() -> bool {
    let named = std::env::var_os("ORT_DYLIB_PATH").is_some();
    if !named {
        eprintln!("skipped: ORT_DYLIB_PATH names no library of ONNX Runtime");
    }
    named
}

/// A setosa and a virginica, in centimetres.
fn flowers() -> Tensor {
    let elements = vec![5.1f32, 3.5, 1.4, 0.2, 6.7, 3.0, 5.2, 2.3];
    Tensor::from_vec(DataType::Fp32, [2, 4].into_iter().collect(), elements).expect("fits")
}

fn examples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

#[test]
fn the_engine_runs_a_classifier() {
    if !has_library() {
        return;
    }
    let engine = choose(EnginePreference::OnnxRuntime).expect("starts").engine;
    assert_eq!(engine.info().name, "onnxruntime");
    let model = examples().join("iris/model.onnx");
    let session = engine.load(&model, &SessionOptions::default()).expect("loads");
    let outputs = session.run(&[Some(&flowers())], &[0, 1]).expect("runs");
    let Data::Bytes(labels) = outputs[0].data() else { panic!("labels are strings") };
    assert_eq!(*labels, ["setosa", "virginica"]);
    assert_eq!(outputs[1].shape(), [2, 3]);
}

#[test]
fn a_session_answers_the_same_after_it_has_settled() {
    if !has_library() {
        return;
    }
    let engine = choose(EnginePreference::OnnxRuntime).expect("starts").engine;
    let model = examples().join("iris/model.onnx");
    let session = engine.load(&model, &SessionOptions::default()).expect("loads");
    let flowers = flowers();
    let answer = || session.run(&[Some(&flowers)], &[1]).expect("runs").remove(0);
    // An answer lies in memory of the engine, and must outlive that this is given back.
    let before = answer();
    session.settle(&[Some(&flowers)]);
    // Inputs that the model refuses leave it as it was.
    session.settle(&[None]);
    assert_eq!(answer(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_the_example() {
    if !has_library() {
        return;
    }
    let engine = EnginePreference::OnnxRuntime;
    let server = started(ServerOptions { engine, ..options(examples().join("iris")) }).await;
    let metadata = server.metadata("iris", &VersionChoice::Latest).expect("ready");
    assert_eq!(metadata.max_batch_size, 64, "{:?}", metadata.notes);
    let [label, probabilities] = metadata.signature.outputs.as_slice() else {
        panic!("two outputs")
    };
    assert_eq!(label.data_type, DataType::Bytes);
    assert_eq!(probabilities.labels, ["setosa", "versicolor", "virginica"]);
    let response = server
        .infer(InferRequest {
            model: "iris".to_owned(),
            inputs: vec![(metadata.signature.inputs[0].name.clone(), flowers())],
            ..InferRequest::default()
        })
        .await
        .expect("answers");
    let Data::Bytes(labels) = response.outputs[0].1.data() else { panic!("labels are strings") };
    assert_eq!(*labels, ["setosa", "virginica"]);
    let config = server.config("iris").expect("ready");
    assert_eq!(config["output"][0]["data_type"], "TYPE_STRING");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_a_repository() {
    if !has_library() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("shift/1/model.onnx"), 1.0, None);
    models::write(&folder.path().join("shift/2/model.onnx"), 2.0, None);
    write(
        &folder.path().join("shift/config.pbtxt"),
        r#"backend: "onnxruntime" max_batch_size: 8 version_policy { all { } }
           instance_group { count: 2 kind: KIND_CPU }
           parameters { key: "intra_op_thread_count" value { string_value: "1" } }
           model_warmup { name: "some" inputs {
             key: "x" value { data_type: TYPE_FP32 dims: 2 random_data: true } } }"#,
    );
    let engine = EnginePreference::OnnxRuntime;
    let server = started(ServerOptions { engine, ..options(folder.path().to_owned()) }).await;
    assert_eq!(latest(&server, "shift").await.expect("answers"), 3.0);
    let version = VersionChoice::Number(1);
    let old = server.infer(InferRequest { version, ..request("shift", 8) }).await;
    assert_eq!(number(&old.expect("answers"), "z"), 0.0);
    server.shutdown().await;
}
