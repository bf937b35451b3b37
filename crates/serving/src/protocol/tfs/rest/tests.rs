//! Requests through the table of routes, on a server with the built-in engine.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::Server;
use crate::http::{App, HttpOptions};
use crate::onnx::fixtures;
use crate::server::ModelControl;
use crate::shared_memory::SharedMemory;

struct Running {
    app: Arc<App>,
    _models: tempfile::TempDir,
}

async fn start() -> Running {
    let models = tempfile::tempdir().expect("a folder");
    let mut targets = Vec::new();
    for (name, model) in [
        ("identity", fixtures::identity(fixtures::FLOAT)),
        ("whole", fixtures::identity(fixtures::INT32)),
        ("simple", fixtures::sum_and_difference()),
    ] {
        let path = models.path().join(name).with_extension("onnx");
        std::fs::write(&path, model).expect("can be written");
        targets.push(path);
    }
    let server = Server::on_tract(targets, ModelControl::None).await;
    let app = App {
        server,
        options: Arc::new(HttpOptions::default()),
        shared_memory: SharedMemory::default(),
        stop: CancellationToken::new(),
    };
    Running { app: Arc::new(app), _models: models }
}

impl Running {
    async fn send(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let (head, ()) =
            Request::builder().method(method).uri(path).body(()).expect("a request").into_parts();
        let answer = match PROTOCOL.find(&head.method, head.uri.path()) {
            Ok(found) => {
                let body = Bytes::from(body.to_owned());
                let (app, parameters) = (self.app.clone(), found.parameters);
                let call = Call { app, head, body, parameters, deadline: None };
                (found.route.handler)(call).await
            }
            Err(unmatched) => (PROTOCOL.unmatched)(&head, unmatched),
        };
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let status = answer.status().as_u16();
        let body = answer.into_body().pieces().collect::<Vec<_>>().concat();
        (status, String::from_utf8(body).expect("is text"))
    }

    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.send(Method::POST, path, body).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.send(Method::GET, path, "").await;
        (status, serde_json::from_str(&body).expect("is JSON"))
    }
}

fn ok(body: &str) -> (u16, String) {
    (200, body.to_owned())
}

#[tokio::test]
async fn predict() {
    let running = start().await;
    let path = "/v1/models/identity:predict";
    let answer = running.post(path, r#"{"instances": [[1, 2.5, NaN, -Infinity]]}"#).await;
    assert_eq!(answer, ok(r#"{"predictions":[[1.0,2.5,NaN,-Infinity]]}"#));
    let answer = running.post(path, r#"{"inputs": [[1], [2]]}"#).await;
    assert_eq!(answer, ok(r#"{"outputs":[[1.0],[2.0]]}"#));
    let body = r#"{"instances": [{"INPUT0": [1, 2, 3, 4], "INPUT1": [1, 1, 1, 1]}]}"#;
    let answer = running.post("/V1/Models/simple/Versions/1:PREDICT", body).await;
    let expected = r#"{"predictions":[{"OUTPUT0":[2,3,4,5],"OUTPUT1":[0,1,2,3]}]}"#;
    assert_eq!(answer, ok(expected), "case does not matter in the fixed parts");
}

#[tokio::test]
async fn what_is_wrong() {
    let running = start().await;
    let good = r#"{"instances": [[1]]}"#;
    for (path, body, status, part) in [
        ("/v1/models/half:predict", good, 404, "Servable not found for request: Latest(half)"),
        (
            "/v1/models/identity/versions/9:predict",
            good,
            404,
            "Servable not found for request: Specific(identity, 9)",
        ),
        ("/v1/models/identity/labels/canary:predict", good, 404, "label: canary"),
        ("/v1/models/identity/versions/x:predict", good, 400, "Malformed request: POST /v1/models"),
        (
            "/v1/models/identity/versions/99999999999999999999:predict",
            good,
            400,
            "Failed to convert version",
        ),
        ("/v1/models/identity:explain", good, 400, "Malformed request: POST"),
        ("/v1/nothing", good, 400, "Malformed request: POST /v1/nothing"),
        ("/v1/models/identity:predict", "", 400, "The document is empty"),
        ("/v1/models/identity:predict", r#"{"instances": [1]}"#, 400, "identity"),
        ("/v1/models/whole:predict", r#"{"instances": [[1.5]]}"#, 400, "found 1.5"),
        ("/v1/models/simple:predict", r#"{"inputs": {"INPUT0": [[1,2,3,4]]}}"#, 400, "INPUT1"),
        ("/v1/models/simple:classify", r#"{"examples": [{"x": 1}]}"#, 400, "cannot classify"),
        ("/v1/models/half:classify", r#"{"examples": [{"x": 1}]}"#, 404, "Latest(half)"),
        ("/v1/models/identity:regress", r#"{"examples": []}"#, 400, "empty array"),
    ] {
        let (found, body) = running.post(path, body).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body.starts_with("{ \"error\": \"") && body.ends_with("\" }"), "{body}");
        assert!(body.contains(part), "{path}: {body}");
    }
    let (status, body) = running.get("/v1/models/identity:predict").await;
    assert_eq!(status, 400);
    assert_eq!(body["error"], "Malformed request: GET /v1/models/identity:predict");
}

#[tokio::test]
async fn classify_and_regress() {
    let running = start().await;
    let body = r#"{"examples": [{"x": [0.25, 0.75]}, {"x": [1, 0]}]}"#;
    let answer = running.post("/v1/models/identity:classify", body).await;
    let expected = r#"{"results":[[["0",0.25],["1",0.75]],[["0",1.0],["1",0.0]]]}"#;
    assert_eq!(answer, ok(expected));
    let body = r#"{"context": {"x": 7}, "examples": [{"x": 0.5}, {}]}"#;
    let answer = running.post("/v1/models/identity/versions/1:regress", body).await;
    assert_eq!(answer, ok(r#"{"results":[0.5,7.0]}"#));
}

#[tokio::test]
async fn status_and_metadata() {
    let running = start().await;
    let available = json!([{
        "version": "1",
        "state": "AVAILABLE",
        "status": { "error_code": "OK", "error_message": "" },
    }]);
    let (status, body) = running.get("/v1/models/simple").await;
    assert_eq!(status, 200);
    assert_eq!(body["model_version_status"], available);
    assert_eq!((&body["name"], &body["ready"]), (&json!("simple"), &json!(true)));
    let (_, body) = running.get("/v1/models/simple/versions/1").await;
    assert_eq!(body, json!({ "model_version_status": available }));
    let (status, body) = running.get("/v1/models/simple/versions/2").await;
    assert_eq!((status, &body["error"]), (404, &json!("Could not find version 2 of model simple")));
    let (_, body) = running.get("/v1/models").await;
    assert_eq!(body["models"], json!(["identity", "simple", "whole"]));

    let (status, body) = running.get("/v1/models/simple/metadata").await;
    assert_eq!(status, 200);
    let spec = json!({ "name": "simple", "signature_name": "", "version": "1" });
    assert_eq!(body["model_spec"], spec);
    let signature = &body["metadata"]["signature_def"]["signature_def"]["serving_default"];
    let dims = json!([{ "size": "-1", "name": "" }, { "size": "4", "name": "" }]);
    let expected = json!({
        "dtype": "DT_INT32",
        "tensor_shape": { "dim": dims, "unknown_rank": false },
        "name": "INPUT0",
    });
    assert_eq!(signature["inputs"]["INPUT0"], expected);
    assert_eq!(signature["method_name"], "tensorflow/serving/predict");
    assert_eq!(running.get("/v1/models/half/metadata").await.0, 404);
}

#[test]
fn pages_of_other_origins_may_ask() {
    let unmatched = |origin: &str| {
        let request = Request::options("/v1/models/m:predict").header(ORIGIN, origin);
        let (head, ()) = request.body(()).expect("a request").into_parts();
        (PROTOCOL.unmatched)(&head, crate::http::route::Unmatched::Method)
    };
    let answer = unmatched("https://example.com");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-methods"], "POST, GET");
    assert_eq!(answer.headers()["access-control-allow-headers"], "content-type");
    assert_eq!(unmatched("null").status(), 400);
}

#[test]
fn every_schema_is_there_once() {
    let schemas = (PROTOCOL.schemas)();
    let names: BTreeSet<&str> = schemas.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), schemas.len());
    for route in PROTOCOL.routes {
        for name in route.request.iter().chain(route.response.iter()) {
            assert!(names.contains(name), "{}: {name}", route.template);
        }
    }
}
