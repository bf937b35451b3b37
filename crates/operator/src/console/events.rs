//! What happened to services and what they are made of.

use std::collections::BTreeMap;

use futures_util::stream::{Stream, StreamExt};
use k8s_openapi::api::events::v1::Event;
use kube_client::api::ListParams;
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Config, watcher};

use super::failure::ask;
use super::{Console, ConsoleError, Kind};

/// Something that happened, once or several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    pub namespace: String,
    /// The service that it belongs to.
    pub service: String,
    /// Such as `pod/iris-5c9f-abcde`.
    pub object: String,
    pub is_warning: bool,
    pub reason: String,
    pub message: String,
    /// Milliseconds since the Unix epoch.
    pub first_ms: i64,
    pub last_ms: i64,
    pub count: i64,
}

impl Console {
    /// What happened to a service, or to all of them, the newest last.
    pub async fn events(&self, service: Option<&str>) -> Result<Vec<Happened>, ConsoleError> {
        let api = self.api::<Event>();
        let list = ask("list the events", api.list(&ListParams::default())).await?;
        Ok(merge(list.items.iter().filter_map(|event| of(self.kind, event, service)).collect()))
    }

    /// What happens from now on.
    pub fn new_events(
        &self,
        service: Option<String>,
    ) -> impl Stream<Item = Result<Happened, ConsoleError>> + Send + use<> {
        let declared = self.kind;
        let events = watcher(self.api::<Event>(), Config::default()).default_backoff();
        events.filter_map(move |event| {
            let found = match event {
                Ok(watcher::Event::Apply(event)) => {
                    of(declared, &event, service.as_deref()).map(Ok)
                }
                Err(watcher::Error::InitialListFailed(error)) => {
                    Some(Err(ConsoleError::of("watch the events", error)))
                }
                // What was there before was told; a watch that ends is begun again.
                Ok(_) | Err(_) => None,
            };
            std::future::ready(found)
        })
    }
}

/// The same thing told several times becomes one that counts; the newest comes last.
pub fn merge(events: Vec<Happened>) -> Vec<Happened> {
    let mut merged: BTreeMap<[String; 4], Happened> = BTreeMap::new();
    for event in events {
        let key = [
            event.namespace.clone(),
            event.object.clone(),
            event.reason.clone(),
            event.message.clone(),
        ];
        match merged.get_mut(&key) {
            None => {
                merged.insert(key, event);
            }
            Some(known) => {
                known.count = known.count.saturating_add(event.count);
                known.first_ms = known.first_ms.min(event.first_ms);
                known.last_ms = known.last_ms.max(event.last_ms);
            }
        }
    }
    let mut events: Vec<Happened> = merged.into_values().collect();
    // Stable: equal times stay in the order of the keys.
    events.sort_by_key(|event| event.last_ms);
    events
}

fn of(declared: Kind, event: &Event, wanted: Option<&str>) -> Option<Happened> {
    let regarding = event.regarding.as_ref()?;
    let kind = regarding.kind.as_deref()?;
    let name = regarding.name.as_deref()?;
    let service = match wanted {
        Some(service) => belongs(declared, kind, name, service).then_some(service)?,
        None => owner_of(declared, kind, name)?,
    };
    let millis = |time: Option<k8s_openapi::jiff::Timestamp>| time.map(|it| it.as_millisecond());
    let series = event.series.as_ref();
    let created = millis(event.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let time = millis(event.event_time.as_ref().map(|time| time.0)).or(created).unwrap_or_default();
    let first = millis(event.deprecated_first_timestamp.as_ref().map(|time| time.0));
    let last = millis(series.map(|series| series.last_observed_time.0))
        .or(millis(event.deprecated_last_timestamp.as_ref().map(|time| time.0)));
    let count = series.map(|series| series.count).or(event.deprecated_count);
    Some(Happened {
        namespace: event.metadata.namespace.clone().unwrap_or_default(),
        service: service.to_owned(),
        object: format!("{}/{name}", kind.to_lowercase()),
        is_warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.clone().unwrap_or_default(),
        message: event.note.clone().unwrap_or_default().trim().to_owned(),
        first_ms: first.unwrap_or(time),
        last_ms: last.unwrap_or(time),
        count: count.map_or(1, i64::from).max(1),
    })
}

/// Kinds whose objects have the service's own name; a second track's end in [`CANDIDATE`].
const NAMED: [&str; 7] = [
    "ModelService",
    "Deployment",
    "Service",
    "ConfigMap",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "NetworkPolicy",
];
const CANDIDATE: &str = "-candidate";

/// Whether an object is of a service, by how Kubernetes names what it makes: `SERVICE-HASH` for a
/// ReplicaSet, `SERVICE-HASH-ID` for a pod. Pods that are gone have no labels to ask.
fn belongs(declared: Kind, kind: &str, name: &str, service: &str) -> bool {
    owner_of(declared, kind, name).is_some_and(|owner| owner == service)
}

/// The resource that an object of that name would be of; none if it cannot be of one.
fn owner_of<'a>(declared: Kind, kind: &str, name: &'a str) -> Option<&'a str> {
    match declared {
        Kind::ModelService => service_of(kind, name),
        Kind::TrainingJob => job_of(kind, name),
    }
}

/// `JOB-ATTEMPT` for a Job, `JOB-ATTEMPT-INDEX-ID` for a pod, `JOB-workers` for what workers share.
fn job_of<'a>(kind: &str, name: &'a str) -> Option<&'a str> {
    let without_number = |name: &'a str| {
        let (rest, number) = name.rsplit_once('-')?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then_some(rest)
    };
    match kind {
        "TrainingJob" => Some(name),
        "Job" => without_number(name),
        "Pod" => without_number(without_number(without_hash(name)?)?),
        "Service" | "NetworkPolicy" | "ServiceAccount" => name.strip_suffix("-workers"),
        _ => None,
    }
}

/// The service that an object of that name would be of; none if it cannot be of one.
fn service_of<'a>(kind: &str, name: &'a str) -> Option<&'a str> {
    let deployment = match kind {
        "ModelService" => return Some(name),
        "Pod" => without_hash(without_hash(name)?)?,
        "ReplicaSet" => without_hash(name)?,
        _ if NAMED.contains(&kind) => name,
        _ => return None,
    };
    Some(deployment.strip_suffix(CANDIDATE).unwrap_or(deployment))
}

fn without_hash(name: &str) -> Option<&str> {
    // The alphabet of Kubernetes' generated names, which has no vowels.
    let is_hash = |part: &str| {
        (1..=10).contains(&part.len())
            && part.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte))
    };
    name.rsplit_once('-').filter(|(_, hash)| is_hash(hash)).map(|(rest, _)| rest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn objects_of_a_service_by_their_names() {
        let belongs = |kind: &str, name: &str, service: &str| {
            belongs(Kind::ModelService, kind, name, service)
        };
        let check = |kind, name, service| assert!(belongs(kind, name, service), "{kind} {name}");
        check("ModelService", "iris", "iris");
        check("ModelService", "iris-candidate", "iris-candidate");
        check("Deployment", "iris", "iris");
        check("Deployment", "iris-candidate", "iris");
        check("ReplicaSet", "iris-5c9f7b", "iris");
        check("Pod", "iris-5c9f7b-xk2lp", "iris");
        check("Pod", "iris-candidate-5c9f7b-xk2lp", "iris");
        for (kind, name) in [
            ("Pod", "iris-b-5c9f7b-xk2lp"),
            ("ReplicaSet", "iris-b-5c9f7b"),
            ("Pod", "iris-5c9f7b"),
            ("Pod", "iris"),
            ("Deployment", "iris-b"),
            ("Node", "iris"),
        ] {
            assert!(!belongs(kind, name, "iris"), "{kind} {name}");
        }
    }

    #[test]
    fn objects_of_a_job_by_their_names() {
        let check = |kind, name, job| {
            assert_eq!(owner_of(Kind::TrainingJob, kind, name), job, "{kind} {name}")
        };
        check("TrainingJob", "line", Some("line"));
        check("Job", "line-2", Some("line"));
        check("Job", "line", None);
        check("Pod", "line-2-0-xk2lp", Some("line"));
        check("Pod", "line-2-b-2-0-xk2lp", Some("line-2-b"));
        check("Pod", "iris-5c9f7b-xk2lp", None);
        check("Service", "line-workers", Some("line"));
        check("Deployment", "line", None);
    }

    fn event(reason: &str, more: Value) -> Event {
        let mut event = json!({
            "metadata": {"namespace": "a", "name": "e"}, "reason": reason, "note": "text ",
            "regarding": {"kind": "Pod", "name": "iris-5c9f7b-xk2lp"}, "eventTime": "1970-01-01T00:00:05.000000Z",
        });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn repetitions_are_counted_and_the_newest_comes_last() {
        let events = [
            event(
                "B",
                json!({"series": {"count": 3, "lastObservedTime": "1970-01-01T00:00:09.000000Z"}}),
            ),
            event("A", json!({})),
            event("B", json!({"eventTime": "1970-01-01T00:00:02.000000Z", "type": "Warning"})),
            // As the kubelet still writes them.
            event(
                "C",
                json!({
                    "eventTime": null, "deprecatedCount": 4, "deprecatedFirstTimestamp": "1970-01-01T00:00:01Z",
                    "deprecatedLastTimestamp": "1970-01-01T00:00:07Z",
                }),
            ),
        ];
        let told = merge(
            events.iter().filter_map(|event| of(Kind::ModelService, event, Some("iris"))).collect(),
        );
        let told: Vec<_> =
            told.iter().map(|it| (it.reason.as_str(), it.count, it.first_ms, it.last_ms)).collect();
        assert_eq!(told, [("A", 1, 5000, 5000), ("C", 4, 1000, 7000), ("B", 4, 2000, 9000)]);
        assert_eq!(of(Kind::ModelService, &events[0], Some("other")), None);
    }
}
