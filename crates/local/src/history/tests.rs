use std::path::PathBuf;

use trainyard_api::{ModelService, ModelServiceSpec};

use super::*;
use crate::replica::{Identity, Run};
use crate::target::Origin;
use trainyard_control::rollout;
use trainyard_plan::RevisionName;

fn manifest() -> ModelService {
    let spec: ModelServiceSpec =
        serde_json::from_value(serde_json::json!({"model": {"uri": "file:///models/iris"}}))
            .unwrap();
    ModelService::new("iris", spec)
}

fn service() -> ServiceRecord {
    ServiceRecord {
        name: "iris".to_owned(),
        active: true,
        origin: Origin::Model { path: PathBuf::from("/models/iris") },
        target: RevisionName::stored("iris-1"),
        wanted: 2,
        scale: Some(Override { min: 2, max: 2 }),
        rollout: rollout::State::default(),
        last_error: None,
        manifest: Some(manifest()),
        stamp: Some("stat:1".to_owned()),
        straight: true,
    }
}

fn revision(number: i64) -> RevisionRecord {
    RevisionRecord {
        service: "iris".to_owned(),
        name: RevisionName::stored(format!("iris-{number}")),
        number,
        manifest: manifest(),
        model: Model { path: "/models/iris".into(), fingerprint: format!("stat:{number}") },
        folder: "/models".into(),
        since_ms: number,
    }
}

fn replica(number: u64) -> ReplicaRecord {
    ReplicaRecord {
        id: "iris-1-0".to_owned(),
        service: "iris".to_owned(),
        revision: RevisionName::stored("iris-1"),
        run: Run {
            number,
            identity: Identity { pid: 7, started: 9, boot: "boot".to_owned() },
            address: Some("127.0.0.1:4000".parse().unwrap()),
            log_start: 3,
            cgroup: None,
        },
    }
}

fn event(message: &str, at: i64) -> Event {
    Event {
        id: 0,
        first_ms: at,
        last_ms: at,
        count: 1,
        severity: Severity::Warning,
        service: Some("iris".to_owned()),
        object: "iris-1-0".to_owned(),
        reason: "Exited".to_owned(),
        message: message.to_owned(),
    }
}

#[tokio::test]
async fn what_was_saved_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    assert!(History::open(&path).unwrap().is_none());
    let marker = {
        let (writer, saved) = Writer::open(&path).unwrap();
        assert_eq!((saved.runs, saved.services.len()), (0, 0));
        writer.service(service()).await;
        writer.service(ServiceRecord { name: "old".to_owned(), active: false, ..service() }).await;
        for number in 1..=12 {
            writer.revision(revision(number)).await;
        }
        // An old revision that becomes the target again is the newest.
        writer.revision(revision(5)).await;
        writer.replica(replica(41)).await;
        writer.replica(ReplicaRecord { id: "gone".to_owned(), ..replica(40) }).await;
        writer.forget_replica("gone").await;
        saved.marker
    };
    assert_eq!(marker.len(), 16);
    let (writer, saved) = Writer::open(&path).unwrap();
    assert_eq!((saved.marker, saved.runs), (marker, 41));
    assert_eq!(saved.services, [service()]);
    assert_eq!(saved.replicas, [replica(41)]);
    let numbers: Vec<(i64, i64)> =
        saved.revisions.iter().map(|revision| (revision.number, revision.since_ms)).collect();
    let expected = [13, 12, 11, 10, 9, 8, 7, 6, 4, 3].map(|number| (number, number));
    assert_eq!(numbers.split_first(), Some((&(13, 5), &expected[1..])));
    assert_eq!(writer.revisions("iris").await, saved.revisions);

    let history = History::open(&path).unwrap().unwrap();
    let names: Vec<String> = history.services().unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["iris", "old"]);
}

#[tokio::test]
async fn the_same_event_again_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let (writer, _) = Writer::open(&path).unwrap();
    for (message, at) in [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("a", 10_000_000)] {
        writer.event(event(message, at)).await;
    }
    writer.flush().await;
    let history = History::open(&path).unwrap().unwrap();
    let read = |query: &EventQuery| -> Vec<(String, i64, i64)> {
        let events = history.events(query).unwrap();
        events.into_iter().map(|event| (event.message, event.count, event.last_ms)).collect()
    };
    let all = read(&EventQuery::default());
    let (a, b) = ("a".to_owned(), "b".to_owned());
    assert_eq!(all, [(b, 1, 2), (a.clone(), 3, 4), (a.clone(), 1, 10_000_000)]);
    let newest = EventQuery { limit: Some(1), ..EventQuery::default() };
    assert_eq!(read(&newest), [(a.clone(), 1, 10_000_000)]);
    let later = EventQuery { after_ms: Some(4), ..EventQuery::default() };
    assert_eq!(read(&later), [(a, 1, 10_000_000)]);
    let other = EventQuery { service: Some("other".to_owned()), ..EventQuery::default() };
    assert!(read(&other).is_empty());
}

#[test]
fn services_of_older_programs_are_read() {
    let mut record = serde_json::to_value(service()).unwrap();
    for field in ["manifest", "stamp", "straight"] {
        record.as_object_mut().unwrap().remove(field).unwrap();
    }
    let read: ServiceRecord = serde_json::from_value(record).unwrap();
    assert_eq!(read, ServiceRecord { manifest: None, stamp: None, straight: false, ..service() });
}

#[test]
fn an_old_revision_comes_back_under_the_policies_of_today() {
    let with = |spec: serde_json::Value| {
        ModelService::new("iris", serde_json::from_value::<ModelServiceSpec>(spec).unwrap())
    };
    let old = RevisionRecord {
        manifest: with(serde_json::json!({
            "model": {"uri": "file:///models/old"},
            "scaling": {"min": 5, "max": 5},
            "batching": {"maxSize": 4},
        })),
        ..revision(1)
    };
    let now = with(serde_json::json!({
        "model": {"uri": "file:///models/new"},
        "scaling": {"min": 2, "max": 3},
        "access": {"apiKeysSecret": "keys"},
        "rollout": {"strategy": "canary"},
    }));
    let expected = with(serde_json::json!({
        "model": {"uri": "file:///models/old"},
        "batching": {"maxSize": 4},
        "scaling": {"min": 2, "max": 3},
        "access": {"apiKeysSecret": "keys"},
        "rollout": {"strategy": "canary"},
    }));
    assert_eq!(old.under(&now), expected);
}

#[test]
fn a_newer_layout_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert!(matches!(History::open(&path), Err(HistoryError::Newer { found: 99, .. })));
    assert!(matches!(Writer::open(&path), Err(HistoryError::Newer { found: 99, .. })));
}
