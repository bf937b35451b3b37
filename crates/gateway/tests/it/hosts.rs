//! Services of several teams behind one gateway, told apart by host.

use serde_json::json;
use trainyard_gateway::table::Service;

use crate::replica::{Act, Replica, Seen, ok};
use crate::support::{Answer, Client, Running, quick, service, start, table};

fn named(name: &'static str) -> impl Fn(usize, &Seen) -> Act + Send + Sync {
    move |_, _| ok(&json!({ "served_by": name }).to_string())
}

async fn ask(running: &Running, host: &str, method: &str, path: &str) -> Answer {
    let mut client = Client::connect(running.address).await;
    let end = if method == "POST" { "Content-Length: 0\r\n\r\n" } else { "\r\n" };
    client.write(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{end}")).await;
    client.answer().await.unwrap()
}

#[tokio::test]
async fn a_host_tells_services_with_the_same_model_apart() {
    let (a, b) = (Replica::start(named("a")).await, Replica::start(named("b")).await);
    let hosted = |host: &str, service: Service| Service { hosts: vec![host.to_owned()], ..service };
    let all = table([
        ("team-a/iris", hosted("iris.team-a", service("iris", &[a.address]))),
        ("team-b/iris", hosted("iris.team-b", service("iris", &[b.address]))),
    ]);
    let running = start(quick(), &all).await;
    let infer = "/v2/models/iris/infer";
    for (host, expected) in
        [("iris.team-a", "a"), ("IRIS.team-b:8080", "b"), ("iris.team-b.svc.cluster.local", "b")]
    {
        let answer = ask(&running, host, "POST", infer).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({ "served_by": expected })),
            "{host}"
        );
        // Whatever names no model goes to the host's service too.
        let answer = ask(&running, host, "GET", "/openapi.json").await;
        assert_eq!(answer.json(), json!({ "served_by": expected }), "{host}");
    }

    let answer = ask(&running, "gateway", "POST", infer).await;
    assert_eq!(answer.status, 404);
    let text = answer.text();
    for part in ["team-a/iris, team-b/iris", "iris.team-a, iris.team-b"] {
        assert!(text.contains(part), "{text}");
    }

    let answer = ask(&running, "iris.team-a", "POST", "/v2/models/other/infer").await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    // What all services answer together is the one service's own answer.
    let models = ask(&running, "iris.team-a", "GET", "/v2/models").await.json();
    assert_eq!(models, json!({ "served_by": "a" }));
}

#[tokio::test]
async fn a_model_of_one_service_needs_no_host() {
    let a = Replica::start(named("a")).await;
    let hosted = Service { hosts: vec!["iris.team-a".to_owned()], ..service("iris", &[a.address]) };
    let running = start(quick(), &table([("team-a/iris", hosted), ("b", service("b", &[]))])).await;
    let answer = ask(&running, "gateway.example.com", "POST", "/v2/models/iris/infer").await;
    assert_eq!(answer.json(), json!({ "served_by": "a" }));
}
