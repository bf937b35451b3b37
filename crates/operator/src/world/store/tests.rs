use serde_json::json;

use trainyard_api::ModelService;

use super::*;
use crate::compare::digest;
use crate::kinds;
use crate::names::APPLIED_ANNOTATION;

fn key() -> ResourceKey {
    ResourceKey::service("default", "iris")
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
    Child::of(service_kind(), &key(), &object).expect("an object")
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
    let pod = |version: &str, ready: &str| -> PodFacts {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "default", "resourceVersion": version},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        }));
        PodFacts::of(&pod.expect("a pod"))
    };
    let world = World::default();
    assert!(world.put_pod(key(), pod("1", "False"), 1));
    assert!(!world.put_pod(key(), pod("2", "False"), 1));
    assert!(world.put_pod(key(), pod("3", "True"), 1));
    assert!(!world.put_pod(key(), pod("2", "False"), 1));
    assert!(world.entry(&key()).expect("known").pods().all(|pod| pod.ready));
}

#[test]
fn that_a_worker_was_taken_is_known_when_its_pod_is_gone() {
    let pod = |version: &str, attempt: &str, code: i32| -> PodFacts {
        let state = json!({"terminated": {"exitCode": code, "reason": "Unknown"}});
        let container = json!({"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "default", "resourceVersion": version, "labels": {
                "trainyard.dev/job": "iris", "trainyard.dev/attempt": attempt}},
            "status": {"phase": "Failed", "containerStatuses": [container]},
        }));
        PodFacts::of(&pod.expect("a pod"))
    };
    let world = World::default();
    let taken = || world.entry(&key()).and_then(|entry| entry.taken);
    world.put_child(key(), live(1, 0, 80), 1);
    world.put_pod(key(), pod("2", "3", 1), 1);
    assert_eq!(taken(), None);
    world.put_pod(key(), pod("3", "3", 255), 1);
    world.remove(&key(), Source::Pods, "p", 4);
    assert_eq!(taken(), Some(3));
    // The next job of that name has attempts of its own.
    world.remove(&key(), Source::Declared(key().kind), "iris", 5);
    assert_eq!(taken(), None);
}

#[test]
fn an_answer_does_not_bring_back_what_a_watch_has_seen_go() {
    let (world, ours, key) = (World::default(), wanted(80), key());
    let content = || (&ours.body, &ours.leaves, ours.digest);
    let is_known = || world.entry(&key).is_some_and(|e| e.child(service_kind(), "iris").is_some());
    let source = Source::Children(service_kind());

    let visit = world.visit(&key);
    // Applied at version 5 and deleted at 6, of which the watch has told before the answer came.
    world.put_child(key.clone(), live(5, ours.digest, 80), 1);
    world.remove(&key, source, "iris", 6);
    world.settle(&key, live(5, ours.digest, 80), content());
    assert!(!is_known());
    // Applied again: the watch tells that too.
    world.put_child(key.clone(), live(8, ours.digest, 80), 1);
    world.settle(&key, live(8, ours.digest, 80), content());
    assert!(is_known());
    drop(visit);

    // A deletion that comes late is not of the object that is there.
    world.remove(&key, source, "iris", 7);
    assert!(is_known());
    world.remove(&key, source, "iris", 9);
    assert!(!is_known());

    // A new visit knows nothing of earlier deletions; a list tells of them too.
    let visit = world.visit(&key);
    world.settle(&key, live(10, ours.digest, 80), content());
    assert!(is_known());
    world.sweep(source, None, 2);
    world.settle(&key, live(10, ours.digest, 80), content());
    assert!(!is_known());
    drop(visit);
    assert!(world.lock().gone.is_empty());
}

/// The very order of things in which a changed spec was once not looked at before something else
/// happened.
#[test]
fn a_spec_that_an_answer_brought_is_news_when_the_watch_tells_of_it() {
    let service = |version: u32, generation: u32, observed: Option<u32>| -> ModelService {
        let metadata = json!({"name": "iris", "namespace": "default", "uid": "u",
            "resourceVersion": version.to_string(), "generation": generation});
        let status = observed.map(|generation| json!({"observedGeneration": generation}));
        serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService", "metadata": metadata,
            "spec": {"model": {"uri": format!("s3://m/{generation}")}}, "status": status,
        }))
        .expect("a service")
    };
    let (world, key) = (World::default(), key());
    let told = |it: ModelService| world.put_resource(key.clone(), DeserializeGuard(Ok(it)), 1);
    assert!(told(service(1, 1, None)));
    // Nothing but the status: the watch tells nothing new.
    world.settle_resource(&key, service(2, 1, Some(1)));
    assert!(!told(service(2, 1, Some(1))));
    // A person changes the spec (3), and the answer to the next status (4) and to one after it (5)
    // have that already.
    world.settle_resource(&key, service(4, 2, Some(1)));
    world.settle_resource(&key, service(5, 2, Some(1)));
    assert!(told(service(3, 2, Some(1))), "nobody has looked at it");
    assert!(!told(service(4, 2, Some(1))) && !told(service(5, 2, Some(1))));
    // Where the watch is faster, it is news once.
    assert!(told(service(6, 3, Some(1))));
    world.settle_resource(&key, service(7, 3, Some(2)));
    assert!(!told(service(7, 3, Some(2))));
    // A list in place of the watch tells it too.
    world.settle_resource(&key, service(9, 4, Some(3)));
    assert!(told(service(9, 4, Some(3))));
}

#[test]
fn an_end_that_an_answer_brought_is_news_when_the_watch_tells_of_it() {
    let (world, key) =
        (World::default(), ResourceKey::new(Declared::TrainingJob, "default", "iris"));
    let kind = kinds::index_of("batch/v1", "Job").expect("in the table");
    let ours = wanted(80);
    let job = |version: u32, is_complete: bool| {
        let status = if is_complete { "True" } else { "False" };
        let object = json!({
            "metadata": {"name": "iris", "namespace": "default", "uid": "u1",
                "resourceVersion": version.to_string()},
            "spec": {"parallelism": 1, "template": {}},
            "status": {"conditions": [{"type": "Complete", "status": status}]},
        });
        Child::of(kind, &key, &object).expect("an object")
    };
    let settle = |child| world.settle(&key, child, (&ours.body, &ours.leaves, ours.digest));
    let told = |child| world.put_child(key.clone(), child, 1);
    settle(job(1, false));
    assert!(!told(job(1, false)), "we made it");
    settle(job(2, false));
    assert!(!told(job(2, false)));
    // It ends (3), and the answer to an apply (4) has that already.
    settle(job(4, true));
    settle(job(5, true));
    assert!(told(job(3, true)));
    assert!(!told(job(4, true)) && !told(job(5, true)));
}

#[test]
fn an_answer_does_not_bring_back_a_service_or_a_revision() {
    let (world, key) = (World::default(), key());
    let metadata =
        json!({"name": "iris", "namespace": "default", "uid": "u", "resourceVersion": "5"});
    let service: ModelService = serde_json::from_value(json!({
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService", "metadata": metadata,
        "spec": {"model": {"uri": "s3://m/iris"}},
    }))
    .expect("a service");
    let release: ControllerRevision =
        serde_json::from_value(json!({"metadata": metadata, "revision": 1})).expect("a revision");
    {
        let _visit = world.visit(&key);
        world.remove(&key, Source::Declared(Declared::ModelService), "iris", 6);
        world.remove(&key, Source::Releases, "iris", 6);
        world.settle_resource(&key, service.clone());
        world.settle_release(&key, &release);
        assert!(world.entry(&key).is_none());
    }
    let _visit = world.visit(&key);
    world.settle_resource(&key, service);
    world.settle_release(&key, &release);
    let entry = world.entry(&key).expect("known");
    assert!(entry.resource.is_some() && entry.releases.len() == 1);
}
