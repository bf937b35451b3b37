//! Who gets the next request.

use std::collections::BTreeSet;
use std::time::Duration;

use trainyard_gateway::table::Service;

use crate::replica::{Act, Replica, ok};
use crate::support::{Client, INFER, iris, post, quick, revision, service, start, table};

#[tokio::test]
async fn the_less_busy_replica_is_preferred() {
    let slow = Replica::always(Act::Slow(Duration::from_millis(200))).await;
    let fast = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[slow.address, fast.address])).await;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let address = running.address;
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for _ in 0..50 {
                    assert_eq!(client.post(INFER, "", "x").await.status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert!(slow.count() * 4 < fast.count(), "{} {}", slow.count(), fast.count());
}

#[tokio::test]
async fn revisions_get_their_share() {
    let (old, new) = (Replica::always(ok("old")).await, Replica::always(ok("new")).await);
    let watched = Replica::always(ok("none")).await;
    let split = Service {
        revisions: vec![
            revision("r1", 80, &[old.address]),
            revision("r2", 20, &[new.address]),
            revision("r3", 0, &[watched.address]),
        ],
        ..service("iris", &[])
    };
    let running = start(quick(), &table([("iris", split)])).await;
    let mut client = Client::connect(running.address).await;
    for _ in 0..200 {
        client.post(INFER, "", "x").await;
    }
    assert!(new.count().abs_diff(40) <= 2, "{}", new.count());
    assert_eq!(old.count() + new.count(), 200);
    assert_eq!(watched.count(), 0);
    let seen = |name: &str| running.gateway.observe_revision("iris", name).unwrap().requests;
    assert_eq!(seen("r1") + seen("r2"), 200);
    assert!(running.gateway.observe_revision("iris", "r4").is_none());
}

#[tokio::test]
async fn a_weight_without_replicas_goes_to_the_others() {
    let old = Replica::always(ok("old")).await;
    let split = Service {
        revisions: vec![revision("r1", 1, &[old.address]), revision("r2", 99, &[])],
        ..service("iris", &[])
    };
    let running = start(quick(), &table([("iris", split)])).await;
    for _ in 0..20 {
        assert_eq!(post(running.address, INFER, "", "x").await.text(), "old");
    }
}

#[tokio::test]
async fn equal_values_of_the_sticky_header_stay_together() {
    let (a, b) = (Replica::always(ok("a")).await, Replica::always(ok("b")).await);
    let split = Service {
        revisions: vec![revision("r1", 50, &[a.address]), revision("r2", 50, &[b.address])],
        sticky_header: Some("X-User".to_owned()),
        ..service("iris", &[])
    };
    let running = start(quick(), &table([("iris", split)])).await;
    let mut all = BTreeSet::new();
    for user in 0..20 {
        let mut seen = BTreeSet::new();
        for _ in 0..5 {
            let header = format!("X-User: {user}\r\n");
            seen.insert(post(running.address, INFER, &header, "x").await.text());
        }
        assert_eq!(seen.len(), 1, "user {user}");
        all.extend(seen);
    }
    assert_eq!(all.len(), 2);
}
