//! Services at zero, and replicas with as many requests as they may have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trainyard_gateway::Table;
use trainyard_gateway::table::{Limits, Service, Unavailable};

use crate::replica::{Act, Replica, ok};
use crate::support::{Client, INFER, eventually, get, iris, post, quick, service, start, table};

fn at_zero(limits: Limits) -> Table {
    table([("iris", Service { limits, scales_to_zero: true, ..service("iris", &[]) })])
}

#[tokio::test]
async fn requests_are_held_until_a_replica_is_there() {
    let running = start(quick(), &at_zero(Limits::default())).await;
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let address = running.address;
            tokio::spawn(async move { post(address, INFER, "", "body").await })
        })
        .collect();
    let wanted = running.gateway.wanted().await;
    assert_eq!(wanted.into_iter().collect::<Vec<_>>(), [Arc::from("iris")]);
    eventually("all held", || running.gateway.observe("iris").unwrap().held == 10).await;
    assert_eq!(running.gateway.observe("iris").unwrap().in_flight, 10);
    let replica = Replica::always(ok("x")).await;
    running.gateway.update(&iris(&[replica.address]));
    for client in clients {
        let answer = client.await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.header("x-trainyard-held-ms").unwrap().parse::<u64>().is_ok());
    }
    let load = running.gateway.observe("iris").unwrap();
    assert_eq!((load.held, load.in_flight, load.arrivals), (0, 0, 10));
    let warm = post(running.address, INFER, "", "x").await;
    assert_eq!(warm.header("x-trainyard-held-ms"), None);
}

#[tokio::test]
async fn a_hold_ends_in_time_and_the_queue_is_bounded() {
    let limits = Limits {
        max_held: Some(2),
        hold_timeout: Some(Duration::from_millis(300)),
        ..Limits::default()
    };
    let running = start(quick(), &at_zero(limits)).await;
    let address = running.address;
    let begun = Instant::now();
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(post_static(address))).collect();
    eventually("two held", || running.gateway.observe("iris").unwrap().held == 2).await;
    let refused = post(address, INFER, "", "x").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(begun.elapsed() < Duration::from_millis(300), "at once");
    for held in held {
        let answer = held.await.unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
        assert!(answer.json()["error"].as_str().unwrap().contains("ready"));
    }
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(running.gateway.observe("iris").unwrap().in_flight, 0);
}

async fn post_static(address: std::net::SocketAddr) -> crate::support::Answer {
    post(address, INFER, "", "x").await
}

#[tokio::test]
async fn no_replica_gets_more_than_it_may_have() {
    let replica = Replica::always(Act::Slow(Duration::from_millis(20))).await;
    let limits = Limits { concurrency_per_endpoint: Some(2), ..Limits::default() };
    let one = Service { limits, ..service("iris", &[replica.address]) };
    let running = start(quick(), &table([("iris", one)])).await;
    let address = running.address;
    let clients: Vec<_> = (0..20).map(|_| tokio::spawn(post_static(address))).collect();
    let mut most = 0;
    let gateway = running.gateway.clone();
    let done = async {
        let mut statuses = Vec::new();
        for client in clients {
            statuses.push(client.await.unwrap().status);
        }
        statuses
    };
    tokio::pin!(done);
    let statuses = loop {
        tokio::select! {
            statuses = &mut done => break statuses,
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                most = most.max(gateway.observe_revision("iris", "r1").unwrap().in_flight);
            }
        }
    };
    assert_eq!(statuses, [200; 20]);
    assert!((1..=2).contains(&most), "{most}");
    assert_eq!(replica.connections.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_client_that_gives_up_leaves_the_queue() {
    let running = start(quick(), &at_zero(Limits::default())).await;
    let mut client = Client::connect(running.address).await;
    client.write(format!("POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")).await;
    let held = || running.gateway.observe("iris").unwrap().held;
    eventually("held", || held() == 1).await;
    drop(client);
    eventually("gone", || held() == 0).await;
    assert_eq!(running.gateway.observe("iris").unwrap().in_flight, 0);
}

#[tokio::test]
async fn a_service_that_is_removed_lets_its_requests_go() {
    let running = start(quick(), &at_zero(Limits::default())).await;
    let client = tokio::spawn(post_static(running.address));
    eventually("held", || running.gateway.observe("iris").unwrap().held == 1).await;
    running.gateway.update(&Table::default());
    assert_eq!(client.await.unwrap().status, 404);
}

#[tokio::test]
async fn a_service_that_cannot_come_up_says_why() {
    let unavailable = |until| Service {
        unavailable: Some(Unavailable { reason: "its model cannot be fetched".to_owned(), until }),
        scales_to_zero: true,
        ..service("iris", &[])
    };
    let held = table([("iris", service("iris", &[]))]);
    let running = start(quick(), &held).await;
    let waiting = tokio::spawn(post_static(running.address));
    eventually("it is held", || running.gateway.observe("iris").unwrap().held == 1).await;
    let until = Some(Instant::now() + Duration::from_secs(90));
    running.gateway.update(&table([("iris", unavailable(until))]));
    let told = waiting.await.unwrap();
    for answer in [told, post(running.address, INFER, "", "x").await] {
        assert_eq!(answer.status, 503);
        let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((60..=90).contains(&after), "{after}");
        assert_eq!(answer.json()["error"], "its model cannot be fetched");
    }
    let ready = get(running.address, "/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["unready"]["iris"], "its model cannot be fetched");
    let unknown = post(running.address, "/v2/models/other/infer", "", "x").await;
    assert_eq!(unknown.status, 404);

    running.gateway.update(&table([("iris", unavailable(None))]));
    let later = post(running.address, INFER, "", "x").await;
    assert_eq!((later.status, later.header("retry-after")), (503, Some("5")));
    // With a replica the old reason means nothing.
    let replica = Replica::always(ok("x")).await;
    let back = Service {
        unavailable: unavailable(None).unavailable,
        ..service("iris", &[replica.address])
    };
    running.gateway.update(&table([("iris", back)]));
    assert_eq!(post(running.address, INFER, "", "x").await.status, 200);
    assert_eq!(get(running.address, "/readyz").await.status, 200);
}
