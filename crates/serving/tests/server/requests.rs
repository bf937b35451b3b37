use trainyard_serving::error::ErrorKind;
use trainyard_serving::{DataType, InferRequest, Server, Tensor};

use crate::models;
use crate::support::{floats, number, options, request, started, write};

/// A server of `m`, at most 8 rows a request, and of `free`, which sets no limit.
async fn server(folder: &tempfile::TempDir) -> Server {
    models::write(&folder.path().join("m/1/model.onnx"), 10.0, None);
    write(&folder.path().join("m/config.pbtxt"), "max_batch_size: 8");
    models::write(&folder.path().join("free/1/model.onnx"), 10.0, None);
    started(options(folder.path().to_owned())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_come_as_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(&folder).await;
    let all = server.infer(request("m", 2)).await.expect("answers");
    assert_eq!(all.outputs.len(), 2);
    assert_eq!((number(&all, "y"), number(&all, "z")), (11.0, -9.0));
    assert_eq!((&*all.model, all.version), ("m", 1));
    assert_eq!(all.outputs[0].1.shape(), [2, 2]);
    let outputs = vec!["z".to_owned(), "y".to_owned()];
    let some = server.infer(InferRequest { outputs, ..request("m", 1) }).await.expect("answers");
    let names: Vec<&str> = some.outputs.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["z", "y"]);
    assert_eq!(number(&some, "z"), -9.0);

    // The largest batch limits what is put together, not what clients may send, unless it is
    // configured.
    let large = server.infer(request("free", 200)).await.expect("answers");
    assert_eq!(large.outputs[0].1.shape(), [200, 2]);
    assert!(server.infer(request("m", 9)).await.is_err());
    let statistics = server.statistics(Some("m"), Some(1)).expect("known");
    assert_eq!(statistics[0].inference_count, 3);
    assert_eq!(server.statistics(None, None).expect("all").len(), 2);
    assert!(server.statistics(Some("nosuch"), None).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_share_batches() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(&folder).await;
    let requests = (0..64).map(|turn| {
        let input = floats(&[1, 2], turn as f32);
        let inputs = vec![("x".to_owned(), input)];
        let server = server.clone();
        async move {
            let request = InferRequest { inputs, ..request("m", 1) };
            let response = server.infer(request).await.expect("answers");
            assert_eq!(number(&response, "y"), turn as f32 + 10.0);
        }
    });
    futures_util::future::join_all(requests).await;
    let statistics = server.statistics(Some("m"), None).expect("known");
    assert_eq!(statistics[0].success.count, 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(&folder).await;
    let check = async |inputs: Vec<(&str, Tensor)>, outputs: &[&str], parts: &[&str]| {
        let request = InferRequest {
            model: "m".to_owned(),
            inputs: inputs.into_iter().map(|(name, it)| (name.to_owned(), it)).collect(),
            outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
            ..InferRequest::default()
        };
        let error = server.infer(request).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
    };
    let good = || floats(&[1, 2], 1.0);
    check(vec![], &[], &["missing required input(s) ['x']", "got 0 inputs"]).await;
    check(vec![("w", good())], &[], &["unexpected inference input 'w'", "['x']"]).await;
    check(vec![("x", good()), ("x", good())], &[], &["'x' already exists in request"]).await;
    check(vec![("x", floats(&[1, 3], 1.0))], &[], &["Expected [-1,2], got [1,3]"]).await;
    check(vec![("x", floats(&[2], 1.0))], &[], &["'x'", "first dimension is the batch"]).await;
    check(vec![("x", floats(&[], 1.0))], &[], &["Expected [-1,2], got []"]).await;
    check(vec![("x", floats(&[9, 2], 1.0))], &[], &["batch-size must be <= 8 for 'm', got 9"])
        .await;
    check(vec![("x", good())], &["nosuch"], &["inference output 'nosuch'", "['y','z']"]).await;
    check(vec![("x", good())], &["y", "y"], &["'y' is requested twice"]).await;
    let whole = Tensor::from_vec(DataType::Int64, [1, 2].into_iter().collect(), vec![1i64, 2]);
    let whole = whole.expect("fits");
    check(vec![("x", whole)], &[], &["'x' data-type is 'INT64'", "expects 'FP32'"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reshaped_inputs_and_outputs() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("m/1/model.onnx"), 10.0, None);
    write(
        &folder.path().join("m/config.pbtxt"),
        r#"max_batch_size: 4
           input { name: "x" data_type: TYPE_FP32 dims: [ 2, 1 ] reshape { shape: 2 } }
           output { name: "y" data_type: TYPE_FP32 dims: [ 1, 2 ] reshape { shape: 2 } }"#,
    );
    let server = started(options(folder.path().join("m"))).await;
    let inputs = vec![("x".to_owned(), floats(&[3, 2, 1], 1.0))];
    let response = server.infer(InferRequest { inputs, ..request("m", 1) }).await;
    let response = response.expect("answers");
    assert_eq!(response.outputs[0].1.shape(), [3, 1, 2]);
    assert_eq!(response.outputs[1].1.shape(), [3, 2]);
    assert!(server.infer(request("m", 1)).await.is_err());
    let config = server.config("m").expect("ready");
    assert_eq!(config["input"][0]["dims"], serde_json::json!([2, 1]));
    assert_eq!(config["input"][0]["reshape"]["shape"], serde_json::json!([2]));
}
