//! Events of both APIs, `v1` and `events.k8s.io/v1`.

use serde_json::Value;

use super::{Object, number, seconds, text};
use crate::answer::ObjectRef;

#[derive(Clone)]
pub(crate) struct Event<'a> {
    object: Object<'a>,
    pub(crate) about: ObjectRef,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
    /// How often it happened.
    pub(crate) count: i64,
    /// In seconds since the epoch; 0 if it does not say.
    pub(crate) last_seen: i64,
}

impl<'a> Event<'a> {
    pub(super) fn new(object: Object<'a>) -> Self {
        let first = |pointers: &[&str]| {
            pointers.iter().map(|at| object.text(at)).find(|it| !it.is_empty()).unwrap_or_default()
        };
        let counts = ["/series/count", "/count", "/deprecatedCount"];
        let times = [
            "/series/lastObservedTime",
            "/lastTimestamp",
            "/deprecatedLastTimestamp",
            "/eventTime",
        ];
        let mut event = Self {
            object,
            about: ObjectRef::default(),
            reason: object.text("/reason"),
            message: first(&["/message", "/note"]),
            count: counts.iter().filter_map(|at| number(object.0, at)).max().unwrap_or(1),
            last_seen: seconds(first(&times)).unwrap_or(0),
        };
        if let Some(about) = event.regarding() {
            event.about = ObjectRef::new(
                text(about, "/kind"),
                text(about, "/namespace"),
                text(about, "/name"),
            );
        }
        event
    }

    pub(super) fn regarding(&self) -> Option<&'a Value> {
        self.object.at("/involvedObject").or_else(|| self.object.at("/regarding"))
    }

    /// The field of the object that it is about, such as `spec.containers{main}`.
    pub(crate) fn container(&self) -> &'a str {
        let path = self.regarding().map_or("", |it| text(it, "/fieldPath"));
        path.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}')).unwrap_or_default()
    }
}
