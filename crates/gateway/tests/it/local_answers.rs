//! What the gateway answers for all services.

use std::collections::BTreeSet;

use serde_json::json;
use trainyard_gateway::table::Service;
use trainyard_gateway::{Settings, Table};

use crate::replica::{Act, Replica, Seen, ok};
use crate::support::{get, iris, post, quick, service, start, table};

fn server(model: &'static str) -> impl Fn(usize, &Seen) -> Act + Send + Sync {
    move |_, seen| {
        let path = seen.line.split(' ').nth(1).unwrap_or_default();
        let body = match path {
            "/v2/repository/index" => json!([{ "name": model, "version": "1", "state": "READY" }]),
            "/v2/models/stats" => json!({ "model_stats": [{ "name": model }] }),
            "/v2" => json!({ "name": "t", "extensions": ["statistics", "system_shared_memory"] }),
            _ => json!({ "path": path }),
        };
        ok(&body.to_string())
    }
}

#[tokio::test]
async fn health_is_that_of_all_services() {
    let running = start(quick(), &table([("iris", service("iris", &[]))])).await;
    let ready = get(running.address, "/v2/health/ready").await;
    let unready = json!({ "iris": "no replica of the service answers" });
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json(), json!({ "ready": false, "unready": unready }));
    assert_eq!(get(running.address, "/v2/health/live").await.json(), json!({ "live": true }));
    assert_eq!(get(running.address, "/health").await.status, 200);
    assert_eq!(post(running.address, "/v2/health/live", "", "").await.status, 405);
    let sleeping = Service { scales_to_zero: true, ..service("iris", &[]) };
    running.gateway.update(&table([("iris", sleeping)]));
    assert_eq!(get(running.address, "/readyz").await.json(), json!({ "ready": true }));
    running.gateway.update(&Table::default());
    assert_eq!(get(running.address, "/v2/health/ready").await.status, 200);
}

#[tokio::test]
async fn a_shared_gateway_is_ready_by_its_table() {
    let settings = Settings { ready_by_table: true, ..quick() };
    let running = start(settings, &table([("iris", service("iris", &[]))])).await;
    assert_eq!(get(running.address, "/readyz").await.json(), json!({ "ready": true }));
}

#[tokio::test]
async fn lists_are_put_together() {
    let (a, b) = (Replica::start(server("a")).await, Replica::start(server("b")).await);
    let asleep = Service { scales_to_zero: true, ..service("c", &[]) };
    let all = table([
        ("a", service("a", &[a.address])),
        ("b", service("b", &[b.address])),
        ("c", asleep),
    ]);
    let running = start(quick(), &all).await;
    let index = post(running.address, "/v2/repository/index", "", "").await.json();
    let states: BTreeSet<(String, String)> = index
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (entry["name"].as_str().unwrap().into(), entry["state"].as_str().unwrap().into())
        })
        .collect();
    let expected = [("a", "READY"), ("b", "READY"), ("c", "UNAVAILABLE")];
    assert_eq!(states, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    let stats = get(running.address, "/v2/models/stats").await.json();
    assert_eq!(stats["model_stats"].as_array().unwrap().len(), 2);
    let metadata = get(running.address, "/v2").await.json();
    assert_eq!(metadata["extensions"], json!(["statistics"]));
    assert_eq!(metadata["name"], "trainyard");
    let models = get(running.address, "/v1/models").await.json();
    assert_eq!(models["models"], json!(["a", "b", "c"]));
    assert_eq!((&models["object"], &models["data"][2]["id"]), (&json!("list"), &json!("c")));
    assert_eq!(
        get(running.address, "/v2/models").await.json(),
        json!({ "models": ["a", "b", "c"] })
    );
    assert_eq!(running.gateway.observe("c").unwrap().arrivals, 0, "a list starts nothing");
    assert_eq!(get(running.address, "/anything").await.status, 404);
}

#[tokio::test]
async fn metadata_is_the_gateways_own_also_with_one_service() {
    let a = Replica::start(server("a")).await;
    let running = start(quick(), &table([("a", service("a", &[a.address]))])).await;
    let metadata = get(running.address, "/v2").await.json();
    assert_eq!(metadata["name"], "trainyard");
    assert_eq!(metadata["extensions"], json!(["statistics"]));
}

#[tokio::test]
async fn a_broken_service_hides_no_other() {
    let a = Replica::start(server("a")).await;
    let broken = Replica::always(Act::Answer(500, "oops".to_owned())).await;
    let both = [("a", service("a", &[a.address])), ("b", service("b", &[broken.address]))];
    let running = start(quick(), &table(both)).await;
    let index = post(running.address, "/v2/repository/index", "", "").await.json();
    assert_eq!(index[0]["state"], "READY");
    assert_eq!((&index[1]["name"], &index[1]["state"]), (&json!("b"), &json!("UNAVAILABLE")));
}

#[tokio::test]
async fn the_only_service_gets_what_names_no_model() {
    let replica = Replica::start(server("iris")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    for path in ["/openapi.json", "/v2/logging", "/v1/models"] {
        assert_eq!(get(running.address, path).await.json()["path"], path);
    }
}

#[tokio::test]
async fn unknown_models_and_model_control() {
    let replica = Replica::start(server("iris")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let error = async |path: &str| {
        let answer = post(running.address, path, "", "{}").await;
        (answer.status, answer.json()["error"].as_str().unwrap().to_owned())
    };
    let unknown = "Request for unknown model: 'half' is not found".to_owned();
    assert_eq!(error("/v2/models/half/infer").await, (404, unknown));
    let unknown = "Servable not found for request: Latest(half)".to_owned();
    assert_eq!(error("/V1/models/half:predict").await, (404, unknown));
    let (status, text) = error("/v2/repository/models/iris/load").await;
    assert!(status == 400 && text.contains("manifest"), "{text}");
    assert_eq!(replica.count(), 0);
}
