//! Clients that lie, stall, or send what two servers would read in two ways.

use std::time::Duration;

use trainyard_gateway::Settings;

use crate::replica::{Act, Replica, ok};
use crate::support::{Client, INFER, get, iris, quick, start};

#[tokio::test]
async fn what_could_be_smuggled_is_refused_and_closed() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    for (lines, body) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", "x"),
        ("Content-Length: 1, 1\r\n", "x"),
        ("Content-Length: +1\r\n", "x"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ("X-A: b\r\n folded\r\n", ""),
        ("Host: other\r\n", ""),
    ] {
        let mut client = Client::connect(running.address).await;
        client.write(format!("POST {INFER} HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}")).await;
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, 400, "{lines:?}");
        assert!(answer.json()["error"].is_string());
        assert!(client.is_closed().await, "{lines:?}");
    }
    for body in ["1\nx\n0\n\n", "1\r\nxy\r\n0\r\n\r\n", "-1\r\n", "fffffffffffffffff\r\n", "z\r\n"]
    {
        let mut client = Client::connect(running.address).await;
        let head = "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.write(format!("POST {INFER} {head}{body}")).await;
        assert_eq!(client.answer().await.unwrap().status, 400, "{body:?}");
        assert!(client.is_closed().await, "{body:?}");
    }
    assert_eq!(replica.count(), 0);
    assert_eq!(get(running.address, "/v2/models/iris").await.status, 200, "it still answers");
}

#[tokio::test]
async fn long_heads_are_refused() {
    let running = start(quick(), &iris(&[])).await;
    let mut client = Client::connect(running.address).await;
    client.write(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000))).await;
    assert_eq!(client.answer().await.unwrap().status, 431);
    let mut client = Client::connect(running.address).await;
    client.write(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(200))).await;
    assert_eq!(client.answer().await.unwrap().status, 431);
}

#[tokio::test]
async fn slow_heads_and_idle_connections_end() {
    let settings = Settings {
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(100),
        ..quick()
    };
    let running = start(settings, &iris(&[])).await;
    let mut slow = Client::connect(running.address).await;
    slow.write("GET / HTTP/1.1\r\nHo").await;
    assert_eq!(slow.answer().await.unwrap().status, 408);
    assert!(slow.is_closed().await);
    let mut idle = Client::connect(running.address).await;
    assert!(idle.is_closed().await);
    let mut preface = Client::connect(running.address).await;
    preface.write("PRI * HT").await;
    assert!(preface.is_closed().await);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let replica = Replica::always(ok("x")).await;
    let settings = Settings { stall_timeout: Duration::from_millis(100), ..quick() };
    let running = start(settings, &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    client
        .write(format!("POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 2147483648\r\n\r\nabc"))
        .await;
    assert_eq!(client.answer().await.unwrap().status, 408);
    assert_eq!(running.gateway.observe("iris").unwrap().in_flight, 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up_and_frees_the_replica() {
    let replica = Replica::always(ok(&"y".repeat(64 << 20))).await;
    let settings = Settings { stall_timeout: Duration::from_millis(200), ..quick() };
    let running = start(settings, &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    client.write("GET /v2/models/iris HTTP/1.1\r\nHost: a\r\n\r\n").await;
    crate::support::eventually("under way", || replica.count() == 1).await;
    let load = || running.gateway.observe("iris").unwrap();
    crate::support::eventually("given up", || load().arrivals == 1 && load().in_flight == 0).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let running = start(Settings { max_connections: 2, ..quick() }, &iris(&[])).await;
    let mut first = Client::connect(running.address).await;
    assert_eq!(first.get("/healthz").await.status, 200);
    let mut second = Client::connect(running.address).await;
    assert_eq!(second.get("/healthz").await.status, 200);
    let mut third = Client::connect(running.address).await;
    assert!(third.is_closed().await);
    drop(first);
    for _ in 0..200 {
        let mut next = Client::connect(running.address).await;
        let request = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = tokio::io::AsyncWriteExt::write_all(&mut next.stream, request.as_bytes()).await;
        if sent.is_ok() && next.answer().await.is_ok() {
            return;
        }
    }
    panic!("the place of a closed connection is not given to another");
}

#[tokio::test]
async fn names_that_leave_their_segment_reach_no_replica() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    for path in
        ["/v2/models/..%2f..%2fetc/infer", "/v2/models/iris%2f/infer", "/v2/models/%ff/infer"]
    {
        let answer = get(running.address, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(replica.count(), 0);
    assert_eq!(get(running.address, "/v2/models/%69ris/infer").await.status, 200);
}

#[tokio::test]
async fn an_oversized_head_of_a_replica_is_a_bad_gateway() {
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let replica = Replica::always(Act::RawThenClose(head.into_bytes())).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    assert_eq!(get(running.address, "/v2/models/iris").await.status, 502);
}
