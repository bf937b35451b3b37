//! Nothing is lost while replicas come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::replica::{Act, Replica, ok};
use crate::support::{Client, INFER, eventually, iris, post, quick, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_clients_lose_nothing() {
    let mut replicas = vec![Replica::always(ok("x")).await, Replica::always(ok("x")).await];
    let addresses =
        |replicas: &[Replica]| -> Vec<_> { replicas.iter().map(|r| r.address).collect() };
    let running = start(quick(), &iris(&addresses(&replicas))).await;
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let (done, answered, address) = (done.clone(), answered.clone(), running.address);
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(client.post(INFER, "", "some body").await.status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // Each replica is replaced in turn: the new one in, the old one out, drained, then killed.
    for _ in 0..10 {
        let new = Replica::always(ok("x")).await;
        replicas.push(new);
        running.gateway.update(&iris(&addresses(&replicas)));
        let old = replicas.remove(0);
        running.gateway.update(&iris(&addresses(&replicas)));
        let id = old.address.to_string();
        assert!(running.gateway.drained(&id, Duration::from_secs(5)).await);
        old.kill();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // And one is killed without a word.
    replicas[0].kill();
    tokio::time::sleep(Duration::from_millis(200)).await;
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(answered.load(Ordering::Relaxed) > 500);
    // A client has its answer a moment before the gateway is done with it.
    let in_flight = || running.gateway.observe("iris").unwrap().in_flight;
    eventually("idle", || in_flight() == 0).await;
}

#[tokio::test]
async fn drained_waits_for_the_last_byte() {
    let old = Replica::always(Act::Slow(Duration::from_millis(300))).await;
    let new = Replica::always(ok("new")).await;
    let running = start(quick(), &iris(&[old.address])).await;
    let (address, id) = (running.address, old.address.to_string());
    let busy = tokio::spawn(async move { post(address, INFER, "", "x").await.status });
    eventually("under way", || old.count() == 1).await;
    let gateway = &running.gateway;
    assert!(!gateway.drained(&id, Duration::from_secs(1)).await, "still in the table");
    gateway.update(&iris(&[new.address]));
    assert!(!gateway.drained(&id, Duration::from_millis(20)).await);
    assert_eq!(post(address, INFER, "", "x").await.text(), "new");
    assert!(gateway.drained(&id, Duration::from_secs(5)).await);
    assert_eq!(busy.await.unwrap(), 200);
    assert!(gateway.drained("never known", Duration::ZERO).await);
}
