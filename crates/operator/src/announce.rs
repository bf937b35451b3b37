//! Events about services, jobs and pools, published beside the reconciles that have them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube_client::Resource;
use tokio::sync::mpsc;
use tokio::time::Instant;
use trainyard_api::GpuPool;

use crate::cluster::{Calls, Chain};
use crate::key::ResourceKey;
use crate::metrics::Metrics;
use crate::names::FIELD_MANAGER;
use crate::status::News;

/// Events that may wait. An event is a courtesy: when too many wait, new ones are dropped.
const WAITING: usize = 1024;
/// How long an equal event counts one up; Kubernetes' own recorder has six minutes.
const SERIES: Duration = Duration::from_secs(360);
/// Events that are remembered for that; more are published one by one.
const REMEMBERED: usize = 4096;
/// Longest note, in bytes: the API server takes 1024.
const LONGEST_NOTE: usize = 1000;

/// Where Kubernetes keeps events about what is in no namespace.
const ELSEWHERE: &str = "default";

/// Takes events; cheap to clone.
#[derive(Clone)]
pub(crate) struct Announcer {
    tx: mpsc::Sender<Announcement>,
    metrics: Arc<Metrics>,
}

struct Announcement {
    about: ObjectReference,
    news: News,
}

impl Announcer {
    /// An announcer, and the task that publishes what it takes. The task ends once every announcer
    /// is dropped.
    pub(crate) fn new(
        calls: Calls,
        instance: String,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        // Full: the event is dropped and counted.
        let (tx, rx) = mpsc::channel(WAITING);
        (Self { tx, metrics }, publish(calls, instance, rx))
    }

    pub(crate) fn announce(&self, key: &ResourceKey, uid: &str, news: News) {
        self.send(Announcement { about: resource(key, uid), news });
    }

    pub(crate) fn announce_pool(&self, name: &str, uid: &str, news: News) {
        let about = ObjectReference {
            api_version: Some(GpuPool::api_version(&()).into_owned()),
            kind: Some(GpuPool::kind(&()).into_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        self.send(Announcement { about, news });
    }

    fn send(&self, announcement: Announcement) {
        if self.tx.try_send(announcement).is_err() {
            self.metrics.dropped_event();
        }
    }
}

async fn publish(calls: Calls, instance: String, mut rx: mpsc::Receiver<Announcement>) {
    let mut told: HashMap<(String, String), (Instant, Event)> = HashMap::new();
    while let Some(Announcement { about, news }) = rx.recv().await {
        let now = Instant::now();
        if told.len() >= REMEMBERED {
            told.retain(|_, (at, _)| now.duration_since(*at) < SERIES);
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        let name = (about.uid.clone().unwrap_or_default(), news.reason.clone());
        let before = told.remove(&name).filter(|(at, _)| now.duration_since(*at) < SERIES);
        let event = match before {
            Some((_, event)) => again(event),
            None => first(about, news, &instance),
        };
        if let Err(error) = calls.publish(&event).await {
            tracing::debug!(error = %Chain(&error), "an event was not published");
        }
        told.insert(name, (now, event));
    }
}

fn resource(key: &ResourceKey, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(key.kind.api_version()),
        kind: Some(key.kind.kind().to_owned()),
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn first(about: ObjectReference, news: News, instance: &str) -> Event {
    let now = Timestamp::now();
    let mut note = news.note;
    if note.len() > LONGEST_NOTE {
        let end = (0..=LONGEST_NOTE).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(end);
    }
    Event {
        action: Some("Reconcile".into()),
        event_time: Some(MicroTime(now)),
        metadata: ObjectMeta {
            name: Some(format!(
                "{}.{:x}",
                about.name.as_deref().unwrap_or_default(),
                now.as_nanosecond()
            )),
            namespace: Some(about.namespace.clone().unwrap_or_else(|| ELSEWHERE.to_owned())),
            ..ObjectMeta::default()
        },
        note: Some(note),
        reason: Some(news.reason),
        regarding: Some(about),
        reporting_controller: Some(format!("trainyard.dev/{FIELD_MANAGER}")),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(if news.is_warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

fn again(mut event: Event) -> Event {
    let count = event.series.as_ref().map_or(1, |series| series.count);
    let last_observed_time = MicroTime(Timestamp::now());
    event.series = Some(EventSeries { count: count.saturating_add(1), last_observed_time });
    event
}

#[test]
fn the_same_news_counts_one_up() {
    let news = News { is_warning: true, reason: "CrashLoop".into(), note: "ä".repeat(1000) };
    let event = first(resource(&ResourceKey::service("default", "iris"), "u"), news, "pod");
    assert!(event.note.as_ref().is_some_and(|note| note.len() <= LONGEST_NOTE));
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let third = again(again(event));
    assert_eq!(third.series.map(|series| series.count), Some(3));
}
