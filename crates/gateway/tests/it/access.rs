//! API keys and rates.

use sha2::{Digest, Sha256};
use trainyard_gateway::Table;
use trainyard_gateway::table::{Access, ApiKey, Limits, Rate, Service};

use crate::replica::{Replica, ok};
use crate::support::{INFER, get, post, quick, service, start, table};

fn guarded(address: std::net::SocketAddr, rate: Option<Rate>) -> Table {
    let key = |name: &str| ApiKey { name: name.to_owned(), sha256: Sha256::digest(name).into() };
    let one = Service {
        access: Access { api_keys: vec![key("ann"), key("bob")] },
        limits: Limits { rate, ..Limits::default() },
        ..service("iris", &[address])
    };
    table([("iris", one)])
}

#[tokio::test]
async fn only_keys_of_the_service_let_in_and_no_replica_sees_them() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &guarded(replica.address, None)).await;
    for headers in ["", "Authorization: Bearer eve\r\n", "X-Api-Key: \r\n"] {
        let refused = post(running.address, INFER, headers, "x").await;
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("bearer")));
        assert!(refused.json()["error"].is_string());
    }
    assert_eq!(replica.count(), 0);
    for headers in ["Authorization: Bearer ann\r\n", "X-Api-Key: bob\r\n"] {
        assert_eq!(post(running.address, INFER, headers, "x").await.status, 200);
        let seen = replica.last();
        assert_eq!((seen.header("authorization"), seen.header("x-api-key")), (None, None));
    }
    assert_eq!(get(running.address, "/healthz").await.status, 200, "probes need no key");
}

#[tokio::test]
async fn a_service_without_keys_passes_authorization_on() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &crate::support::iris(&[replica.address])).await;
    post(running.address, INFER, "Authorization: Bearer theirs\r\n", "x").await;
    assert_eq!(replica.last().header("authorization"), Some("bearer theirs"));
}

#[tokio::test]
async fn each_caller_has_its_own_rate() {
    let replica = Replica::always(ok("x")).await;
    let rate = Rate { per_second: 0.01, burst: 2 };
    let running = start(quick(), &guarded(replica.address, Some(rate))).await;
    let ask =
        async |key: &str| post(running.address, INFER, &format!("X-Api-Key: {key}\r\n"), "x").await;
    assert_eq!(ask("ann").await.status, 200);
    assert_eq!(ask("ann").await.status, 200);
    let refused = ask("ann").await;
    assert_eq!(refused.status, 429);
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((90..=100).contains(&after), "{after}");
    assert_eq!(ask("bob").await.status, 200);
    assert_eq!(replica.count(), 3);
}

#[tokio::test]
async fn openai_paths_get_openai_errors() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &guarded(replica.address, None)).await;
    let chat = "/v1/chat/completions";
    let refused = post(running.address, chat, "", r#"{"model":"iris"}"#).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["error"]["type"], "authentication_error");
    let key = "Authorization: Bearer ann\r\n";
    let unknown = post(running.address, chat, key, r#"{"model":"nosuch"}"#).await;
    assert_eq!(
        (unknown.status, &unknown.json()["error"]["code"]),
        (404, &"model_not_found".into())
    );
    let known = r#"{"messages":[{"content":"model"}],"model":"iris"}"#;
    assert_eq!(post(running.address, chat, key, known).await.status, 200);
    assert_eq!(replica.last().body, known.as_bytes());
}
