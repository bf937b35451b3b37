//! What passes through unchanged, what is changed on the way, and that nothing waits for its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::replica::{Act, Replica, ok};
use crate::support::{Client, INFER, eventually, get, iris, post, quick, start};

#[tokio::test]
async fn requests_and_answers_pass() {
    let replica = Replica::always(Act::Raw(
        b"HTTP/1.1 201 Made\r\nContent-Length: 5\r\nX-Own: 1\r\nKeep-Alive: x\r\n\r\nhello"
            .to_vec(),
    ))
    .await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    let headers = "X-A: 1\r\nX-Hop: 2\r\nConnection: X-Hop\r\nUpgrade: h2c\r\nTraceparent: t\r\n";
    let answer = client.post("/v2/models/iris/infer?x=%20", headers, "body").await;
    assert_eq!((answer.status, answer.text()), (201, "hello".to_owned()));
    assert_eq!(answer.header("x-own"), Some("1"));
    assert_eq!((answer.header("keep-alive"), answer.header("connection")), (None, None));
    let seen = replica.last();
    assert_eq!(seen.line, "POST /v2/models/iris/infer?x=%20 HTTP/1.1");
    assert_eq!(seen.body, b"body");
    assert_eq!((seen.header("x-a"), seen.header("host")), (Some("1"), Some("gateway")));
    for gone in ["x-hop", "upgrade", "connection"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("traceparent"), Some("t"));
    assert_eq!(seen.header("x-request-id").map(str::len), Some(32));
}

#[tokio::test]
async fn connections_on_both_sides_are_kept() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    for _ in 0..20 {
        assert_eq!(client.post(INFER, "", "body").await.status, 200);
    }
    assert_eq!(replica.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_given_request_id_stays_and_forged_addresses_do_not() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let headers = "X-Request-Id: mine\r\nX-Forwarded-For: 6.6.6.6\r\n";
    post(running.address, INFER, headers, "").await;
    assert_eq!(replica.last().header("x-request-id"), Some("mine"));
    assert_eq!(replica.last().header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(replica.last().header("content-length"), Some("0"));
}

#[tokio::test]
async fn answers_stream_chunk_by_chunk() {
    let go = Arc::new(Semaphore::new(1));
    let parts = [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "6\r\ndata:1\r\n",
        "6\r\ndata:2\r\n0\r\n\r\n",
    ];
    let parts = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
    let replica = Replica::always(Act::Steps(parts, go.clone())).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    client
        .write(
            "POST /v2/models/iris/generate_stream HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
    assert_eq!(client.head().await.unwrap().status, 200);
    go.add_permits(1);
    assert_eq!(client.chunk().await.unwrap(), Some(b"data:1".to_vec()));
    go.add_permits(1);
    assert_eq!(client.chunk().await.unwrap(), Some(b"data:2".to_vec()));
    assert_eq!(client.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn requests_stream_too() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    client
        .write(format!("POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"))
        .await;
    client.write("3\r\nabc\r\n").await;
    // The replica has its connection before the body is whole.
    eventually("a connection", || {
        replica.connections.load(std::sync::atomic::Ordering::SeqCst) == 1
    })
    .await;
    client.write("2;ext=1\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert_eq!(replica.last().body, b"abcde");
}

#[tokio::test]
async fn long_bodies_pass_whole() {
    let long = "y".repeat(5 << 20);
    let replica = Replica::always(ok(&long)).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    for _ in 0..2 {
        let answer = client.post(INFER, "", "z".repeat(7 << 20)).await;
        assert_eq!(answer.body.len(), 5 << 20);
        assert_eq!(replica.last().body.len(), 7 << 20);
    }
}

#[tokio::test]
async fn an_answer_without_length_ends_with_its_connection() {
    let replica =
        Replica::always(Act::RawThenClose(b"HTTP/1.1 200 OK\r\n\r\nuntil close".to_vec())).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    for _ in 0..2 {
        let answer = client.get("/v2/models/iris").await;
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.text(), "until close");
    }
}

#[tokio::test]
async fn head_and_bodiless_answers() {
    let replica = Replica::start(|_, seen| match &seen.line {
        line if line.starts_with("HEAD") => {
            Act::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".to_vec())
        }
        _ => Act::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
    })
    .await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    client.write("HEAD /v2/models/iris HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("99")));
    let none = client.get("/v2/models/iris").await;
    assert_eq!((none.status, none.header("content-length")), (204, None));
}

#[tokio::test]
async fn http_10_gets_no_chunks() {
    let replica = Replica::always(Act::Raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n".to_vec(),
    ))
    .await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    client.write("GET /v2/models/iris HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!((answer.header("connection"), answer.text()), (Some("close"), "ab".to_owned()));
}

#[tokio::test]
async fn expect_is_answered_by_the_gateway() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    let head = "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    client.write(format!("POST {INFER} {head}")).await;
    assert_eq!(client.answer().await.unwrap().status, 100);
    client.write("abc").await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert_eq!((replica.last().header("expect"), replica.last().body), (None, b"abc".to_vec()));
    // A refusal comes instead of the invitation, and ends the connection.
    client.write(format!("POST /v2/models/other/infer {head}")).await;
    let refused = client.answer().await.unwrap();
    assert_eq!((refused.status, refused.header("connection")), (404, Some("close")));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let replica = Replica::start(|number, _| ok(&number.to_string())).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    let one = "GET /v2/models/iris HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write(one.repeat(5)).await;
    for number in 0..5 {
        assert_eq!(client.answer().await.unwrap().text(), number.to_string());
    }
}

#[tokio::test]
async fn a_prefix_is_taken_off() {
    let replica = Replica::always(ok("x")).await;
    let settings = trainyard_gateway::Settings { path_prefix: Some("/team".to_owned()), ..quick() };
    let running = start(settings, &iris(&[replica.address])).await;
    assert_eq!(get(running.address, "/team/v2/models/iris").await.status, 200);
    assert_eq!(replica.last().line, "GET /v2/models/iris HTTP/1.1");
    assert_eq!(get(running.address, "/v2/models/iris").await.status, 404);
    assert_eq!(get(running.address, "/team/v2/health/live").await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_replica() {
    let replica = Replica::always(Act::Hang).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    client.write(format!("POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")).await;
    let load = || running.gateway.observe("iris").unwrap().in_flight;
    eventually("in flight", || load() == 1 && replica.count() == 1).await;
    drop(client);
    eventually("gone", || load() == 0).await;
    let gone = &replica.abandoned;
    eventually("told", || gone.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    let seen = running.gateway.observe_revision("iris", "r1").unwrap();
    assert_eq!((seen.requests, seen.in_flight), (0, 0), "it says nothing about the revision");
}

#[tokio::test]
async fn an_early_answer_is_passed_on() {
    let replica = Replica::always(Act::Early(413)).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    client
        .write(format!("POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\nabc"))
        .await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.text()), (413, "early".to_owned()));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn no_answer_in_time() {
    let replica = Replica::always(Act::Hang).await;
    let settings =
        trainyard_gateway::Settings { response_timeout: Duration::from_millis(100), ..quick() };
    let running = start(settings, &iris(&[replica.address])).await;
    let answer = post(running.address, INFER, "", "x").await;
    assert_eq!(answer.status, 504);
    assert!(answer.json()["error"].as_str().unwrap().contains("deadline"));
    let seen = running.gateway.observe_revision("iris", "r1").unwrap();
    assert_eq!((seen.requests, seen.failures), (1, 1));
}
