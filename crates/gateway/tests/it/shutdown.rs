//! How a gateway ends.

use std::time::{Duration, Instant};

use trainyard_gateway::Settings;

use crate::replica::{Act, Replica, ok};
use crate::support::{Client, INFER, eventually, iris, post, quick, start};

#[tokio::test]
async fn requests_under_way_end_and_idle_connections_close() {
    let replica = Replica::always(Act::Slow(Duration::from_millis(300))).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut idle = Client::connect(running.address).await;
    assert_eq!(idle.get("/healthz").await.status, 200);
    let address = running.address;
    let busy = tokio::spawn(async move { post(address, INFER, "", "x").await });
    eventually("under way", || replica.count() == 1).await;
    running.stop.cancel();
    // Until the grace is over, a kept connection is served, and told that it was the last time.
    let last = idle.get("/healthz").await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(idle.is_closed().await);
    let answer = busy.await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    running.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_cut() {
    let replica = Replica::always(Act::Hang).await;
    let settings = Settings { drain_timeout: Duration::from_millis(300), ..quick() };
    let running = start(settings, &iris(&[replica.address])).await;
    let mut client = Client::connect(running.address).await;
    client.write(format!("POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")).await;
    eventually("under way", || replica.count() == 1).await;
    let begun = Instant::now();
    running.stop.cancel();
    running.served.await.unwrap().unwrap();
    assert!((300..2_000).contains(&begun.elapsed().as_millis()));
    assert!(client.is_closed().await);
    assert_eq!(running.gateway.observe("iris").unwrap().in_flight, 0);
}

#[tokio::test]
async fn a_listener_handed_over_refuses_nobody() {
    let replica = Replica::always(ok("x")).await;
    let first = start(quick(), &iris(&[replica.address])).await;
    drop(first);
    // Two gateways on one socket, as when a new process takes over.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut gateways = Vec::new();
    for listener in [listener.try_clone().unwrap(), listener] {
        let gateway = trainyard_gateway::Gateway::new(quick());
        gateway.update(&iris(&[replica.address]));
        let stop = tokio_util::sync::CancellationToken::new();
        let serving = stop.clone();
        let task = tokio::spawn(async move { gateway.serve(listener, serving).await });
        gateways.push((stop, task));
    }
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                for _ in 0..100 {
                    assert_eq!(post(address, INFER, "", "x").await.status, 200);
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (stop, task) = gateways.remove(0);
    stop.cancel();
    task.await.unwrap().unwrap();
    for client in clients {
        client.await.unwrap();
    }
}
