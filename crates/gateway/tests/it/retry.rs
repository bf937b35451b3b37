//! Requests that meet a failing replica.

use std::sync::atomic::Ordering;
use std::time::Duration;

use trainyard_gateway::Settings;

use crate::replica::{Act, Replica, ok};
use crate::support::{Client, INFER, eventually, get, iris, post, quick, start};

/// An address where nobody listens.
fn nobody() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_replica_that_is_not_there_is_passed_over() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[nobody(), replica.address])).await;
    for _ in 0..20 {
        assert_eq!(post(running.address, INFER, "", "body").await.status, 200);
    }
    assert_eq!(replica.count(), 20);
    assert_eq!(replica.last().body, b"body");
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_request_loses_nothing() {
    let dying = Replica::always(Act::Hang).await;
    let healthy = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[dying.address, healthy.address])).await;
    let clients: Vec<_> = (0..20).map(|_| tokio::spawn(post_static(running.address))).collect();
    eventually("some hang", || dying.count() > 0 && dying.count() + healthy.count() >= 20).await;
    dying.kill();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
}

async fn post_static(address: std::net::SocketAddr) -> u16 {
    post(address, INFER, "", "body").await.status
}

#[tokio::test]
async fn what_may_not_be_repeated_is_not() {
    let dying = Replica::always(Act::Reset).await;
    let other = Replica::always(Act::Reset).await;
    let running = start(quick(), &iris(&[dying.address, other.address])).await;
    let answer = post(running.address, "/v2/models/iris/generate", "", "x").await;
    assert_eq!(answer.status, 502);
    assert_eq!(dying.count() + other.count(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_nothing() {
    // Closes after each answer without saying so.
    let replica = Replica::always(Act::RawThenClose(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".to_vec(),
    ))
    .await;
    let settings = Settings { retry_ratio: 0.0, retry_min_per_second: 0.0, ..quick() };
    let running = start(settings, &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    for _ in 0..50 {
        assert_eq!(client.post(INFER, "", "x").await.status, 200);
    }
    let seen = running.gateway.observe_revision("iris", "r1").unwrap();
    assert_eq!((seen.requests, seen.failures), (50, 0));
}

#[tokio::test]
async fn a_busy_replica_is_passed_over() {
    let busy = Replica::always(Act::Raw(
        b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ))
    .await;
    let healthy = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[busy.address, healthy.address])).await;
    for _ in 0..20 {
        assert_eq!(post(running.address, INFER, "", "x").await.status, 200);
    }
    assert_eq!(healthy.count(), 20);
}

#[tokio::test]
async fn the_last_replica_s_503_is_passed_on() {
    let busy = Replica::always(Act::Raw(
        b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nfull".to_vec(),
    ))
    .await;
    let running = start(quick(), &iris(&[busy.address])).await;
    let answer = post(running.address, INFER, "", "x").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    assert_eq!((answer.text(), busy.count()), ("full".to_owned(), 1));
}

#[tokio::test]
async fn retries_stay_within_the_budget() {
    let failing = Replica::always(Act::Reset).await;
    let other = Replica::always(Act::Reset).await;
    let settings = Settings {
        retry_ratio: 0.1,
        retry_min_per_second: 0.0,
        ejection: trainyard_gateway::Ejection { max_share: 0.0, ..Default::default() },
        ..quick()
    };
    let running = start(settings, &iris(&[failing.address, other.address])).await;
    let mut client = Client::connect(running.address).await;
    for _ in 0..100 {
        assert_eq!(client.post(INFER, "", "x").await.status, 502);
    }
    let attempts = failing.count() + other.count();
    assert!((105..=111).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_repeated() {
    let failing = Replica::always(Act::Reset).await;
    let other = Replica::always(Act::Reset).await;
    let settings = Settings { replay_limit: 10, ..quick() };
    let running = start(settings, &iris(&[failing.address, other.address])).await;
    assert_eq!(post(running.address, INFER, "", "more than ten bytes").await.status, 502);
    assert_eq!(failing.count() + other.count(), 1);
    assert_eq!(post(running.address, INFER, "", "few").await.status, 502);
    assert_eq!(failing.count() + other.count(), 4, "three attempts");
}

#[tokio::test]
async fn long_bodies_are_repeated_while_there_is_room_for_them() {
    let body = "x".repeat(2 << 20);
    for (replay_total, expected) in [(4 << 20, 3), (1 << 20, 1)] {
        let failing = Replica::always(Act::Reset).await;
        let other = Replica::always(Act::Reset).await;
        let settings = Settings { replay_total, ..quick() };
        let running = start(settings, &iris(&[failing.address, other.address])).await;
        assert_eq!(post(running.address, INFER, "", &body).await.status, 502);
        assert_eq!(failing.count() + other.count(), expected, "attempts");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_repeated() {
    let breaking = Replica::always(Act::RawThenClose(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart".to_vec(),
    ))
    .await;
    let running = start(quick(), &iris(&[breaking.address])).await;
    let mut client = Client::connect(running.address).await;
    assert!(client.try_post(INFER, "", "x").await.is_err(), "the connection must end short");
    assert_eq!(breaking.count(), 1);
    let seen = || running.gateway.observe_revision("iris", "r1").unwrap();
    eventually("counted", || seen().failures == 1).await;
    let chunked = Replica::always(Act::RawThenClose(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n".to_vec(),
    ))
    .await;
    running.gateway.update(&iris(&[chunked.address]));
    let mut client = Client::connect(running.address).await;
    assert!(client.try_post(INFER, "", "x").await.is_err(), "no last chunk is made up");
}

#[tokio::test]
async fn nonsense_from_a_replica_is_a_bad_gateway() {
    for nonsense in [
        "no http at all\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    ] {
        let replica = Replica::always(Act::RawThenClose(nonsense.as_bytes().to_vec())).await;
        let running = start(quick(), &iris(&[replica.address])).await;
        let answer = get(running.address, "/v2/models/iris").await;
        assert_eq!(answer.status, 502, "{nonsense:?}");
        assert!(answer.json()["error"].is_string());
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let replica = Replica::always(Act::Raw(
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
            .to_vec(),
    ))
    .await;
    let running = start(quick(), &iris(&[replica.address])).await;
    assert_eq!(get(running.address, "/v2/models/iris").await.status, 200);
}

#[tokio::test]
async fn a_replica_that_keeps_failing_is_ejected_and_comes_back() {
    let failing =
        Replica::start(
            |number, _| if number < 3 { Act::Answer(500, String::new()) } else { ok("back") },
        )
        .await;
    let healthy = Replica::always(ok("x")).await;
    let settings = Settings {
        ejection: trainyard_gateway::Ejection {
            consecutive_failures: 3,
            base: Duration::from_millis(200),
            ..Default::default()
        },
        ..quick()
    };
    let running = start(settings, &iris(&[failing.address, healthy.address])).await;
    let mut client = Client::connect(running.address).await;
    while failing.count() < 3 {
        client.post(INFER, "", "x").await;
    }
    let before = failing.count();
    for _ in 0..20 {
        assert_eq!(client.post(INFER, "", "x").await.status, 200);
    }
    assert_eq!(failing.count(), before, "out for a while");
    tokio::time::sleep(Duration::from_millis(250)).await;
    for _ in 0..40 {
        assert_eq!(client.post(INFER, "", "x").await.status, 200);
    }
    assert!(failing.count() > before + 5, "back after one probe: {}", failing.count());
    assert!(failing.connections.load(Ordering::SeqCst) > 0);
}
