//! Copies of requests that nobody waits for.

use std::time::{Duration, Instant};

use trainyard_gateway::Settings;
use trainyard_gateway::table::{Mirror, Service};

use crate::replica::{Act, Replica, ok};
use crate::support::{Client, INFER, eventually, quick, revision, service, start, table};

fn mirrored(primary: &Replica, mirror: &Replica) -> trainyard_gateway::Table {
    let one = Service {
        revisions: vec![
            revision("r1", 1, &[primary.address]),
            revision("r2", 0, &[mirror.address]),
        ],
        mirror: Some(Mirror { revision: "r2".to_owned(), share: 1.0 }),
        ..service("iris", &[])
    };
    table([("iris", one)])
}

#[tokio::test]
async fn the_mirror_sees_the_same_request_and_is_measured() {
    let primary = Replica::always(ok("x")).await;
    let mirror = Replica::always(Act::Answer(500, "worse".to_owned())).await;
    let running = start(quick(), &mirrored(&primary, &mirror)).await;
    let mut client = Client::connect(running.address).await;
    for _ in 0..10 {
        assert_eq!(client.post(INFER, "X-A: 1\r\n", "body").await.text(), "x");
    }
    let seen = || running.gateway.observe_revision("iris", "r2").unwrap();
    eventually("mirrored", || seen().requests == 10).await;
    assert_eq!(seen().error_rate(), Some(1.0));
    assert_eq!(
        (mirror.last().body, mirror.last().header("x-trainyard-mirror")),
        (b"body".to_vec(), Some("1"))
    );
    assert_eq!(
        (mirror.last().header("x-a"), primary.last().header("x-trainyard-mirror")),
        (Some("1"), None)
    );
    assert_eq!(running.gateway.observe("iris").unwrap().arrivals, 10, "copies are no requests");
    // What may not be done twice is not.
    client.post("/v2/models/iris/generate", "", "x").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(mirror.count(), 10);
}

#[tokio::test]
async fn a_slow_mirror_delays_nothing_and_is_bounded() {
    let primary = Replica::always(ok("x")).await;
    let mirror = Replica::always(Act::Slow(Duration::from_secs(2))).await;
    let settings = Settings { max_mirrored: 3, ..quick() };
    let running = start(settings, &mirrored(&primary, &mirror)).await;
    let begun = Instant::now();
    let mut client = Client::connect(running.address).await;
    for _ in 0..30 {
        assert_eq!(client.post(INFER, "", "x").await.status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
    eventually("three copies", || mirror.count() == 3).await;
    let in_flight = running.gateway.observe_revision("iris", "r2").unwrap().in_flight;
    assert_eq!(in_flight, 3);
}
