use serde_json::json;

use super::*;
use crate::compare::digest;
use crate::kinds;
use crate::names::APPLIED_ANNOTATION;

fn key() -> ServiceKey {
    ServiceKey::new("default", "iris")
}

fn service_kind() -> KindIndex {
    kinds::index_of("v1", "Service").expect("in the table")
}

/// A Service as a cluster has it, after what was applied with this digest.
fn live(version: u32, applied: u64, port: u32) -> Child {
    let object = json!({
        "metadata": {
            "name": "iris", "namespace": "default", "uid": "u1",
            "resourceVersion": version.to_string(),
            "annotations": {APPLIED_ANNOTATION: format!("{applied:016x}")},
        },
        "spec": {"ports": [{"port": port, "protocol": "TCP"}], "clusterIP": "10.0.0.1"},
    });
    Child::of(service_kind(), "iris", &object).expect("an object")
}

struct Wanted {
    body: Value,
    leaves: Leaves,
    digest: u64,
}

fn wanted(port: u32) -> Wanted {
    let mut body = json!({"metadata": {"name": "iris"}, "spec": {"ports": [{"port": port}]}});
    let digest = digest(&body);
    body["metadata"]["annotations"] = json!({APPLIED_ANNOTATION: format!("{digest:016x}")});
    Wanted { leaves: Leaves::of(&body), body, digest }
}

#[track_caller]
fn check(world: &World, wanted: &Wanted, expected: Standing) {
    let wanted = (&wanted.body, &wanted.leaves, wanted.digest);
    let standing = world.compare(&key(), (service_kind(), "iris"), wanted);
    assert_eq!(standing.map(|(standing, _)| standing), Some(expected));
}

#[test]
fn an_object_is_compared_once_and_again_after_it_changed() {
    let (world, ours) = (World::default(), wanted(80));
    assert!(
        world.compare(&key(), (service_kind(), "iris"), (&ours.body, &ours.leaves, 0)).is_none()
    );
    assert!(world.put_child(key(), live(1, ours.digest, 80), 1));
    check(&world, &ours, Standing::AsWanted);
    check(&world, &ours, Standing::AsWanted);
    check(&world, &wanted(81), Standing::Outdated);
    assert!(world.put_child(key(), live(2, ours.digest, 8080), 1));
    let drift = Standing::Drifted(vec![
        "spec.ports[port=80,protocol=TCP,]".into(),
        "spec.ports[port=80,protocol=TCP,].port".into(),
    ]);
    check(&world, &ours, drift);
}

#[test]
fn what_is_older_than_what_is_known_changes_nothing() {
    let (world, ours) = (World::default(), wanted(80));
    assert!(world.put_child(key(), live(5, ours.digest, 80), 1));
    assert!(!world.put_child(key(), live(4, ours.digest, 81), 1));
    check(&world, &ours, Standing::AsWanted);
}

#[test]
fn what_the_api_server_writes_differently_is_not_applied_for_ever() {
    let (world, ours) = (World::default(), wanted(80));
    let mut odd = wanted(80);
    odd.body["spec"]["odd"] = json!("As We Write It");
    odd.leaves = Leaves::of(&odd.body);
    let as_wanted = (&odd.body, &odd.leaves, odd.digest);
    let paths = world.settle(&key(), live(5, odd.digest, 80), as_wanted);
    assert_eq!(paths, ["spec.odd"]);
    check(&world, &odd, Standing::AsWanted);
    // Neither after a restart of the watch, nor after a change of the object's status.
    assert!(world.put_child(key(), live(6, odd.digest, 80), 2));
    check(&world, &odd, Standing::AsWanted);
    // But what else changes is still seen.
    assert!(world.put_child(key(), live(7, odd.digest, 81), 2));
    let drifted = world.compare(&key(), (service_kind(), "iris"), as_wanted).expect("known").0;
    assert!(matches!(drifted, Standing::Drifted(_)), "{drifted:?}");
    let _ = ours;
}

#[test]
fn a_complete_list_says_what_is_gone() {
    let world = World::default();
    world.put_child(key(), live(1, 0, 80), 1);
    assert_eq!(world.sweep(Source::Children(service_kind()), None, 1), []);
    assert_eq!(world.sweep(Source::Children(service_kind()), Some("other"), 2), []);
    assert_eq!(world.sweep(Source::Pods, None, 2), []);
    assert_eq!(world.sweep(Source::Children(service_kind()), Some("default"), 2), [key()]);
    assert!(world.entry(&key()).is_none());
}

#[test]
fn a_pod_whose_status_only_repeats_itself_is_no_news() {
    let pod = |version: &str, ready: &str| -> v1::Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "default", "resourceVersion": version},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .expect("a pod")
    };
    let world = World::default();
    assert!(world.put_pod(key(), &pod("1", "False"), 1));
    assert!(!world.put_pod(key(), &pod("2", "False"), 1));
    assert!(world.put_pod(key(), &pod("3", "True"), 1));
    assert!(!world.put_pod(key(), &pod("2", "False"), 1));
    assert!(world.entry(&key()).expect("known").pods().all(|pod| pod.ready));
}
