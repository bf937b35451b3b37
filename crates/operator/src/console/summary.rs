//! One service in a line, told from its resource alone.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::services::key;

/// What a list shows of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub namespace: String,
    pub name: String,
    /// `True`, `False`, or empty where nothing is known yet.
    pub ready: String,
    pub ready_replicas: u64,
    pub replicas: u64,
    /// `Stable`, `Progressing`, `Degraded`, `Stalled`, or `Unknown` before the operator has seen it.
    pub phase: &'static str,
    /// Why, in one word, and for people.
    pub reason: String,
    pub message: String,
    pub revision: String,
    pub url: String,
    pub model: String,
    /// Milliseconds since the Unix epoch; none if it is not known.
    pub created_ms: Option<i64>,
}

impl Summary {
    /// Reads a resource; what is missing is empty.
    pub fn of(service: &Value) -> Self {
        let (namespace, name) = key(service);
        let status = &service["status"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // What needs a person says more than what it led to.
        let held = ["Stalled", "Degraded", "Progressing"];
        let told = held.into_iter().find_map(|kind| {
            condition(service, kind).filter(|found| found["status"] == "True").map(|it| (kind, it))
        });
        let ready = condition(service, "Ready");
        let phase = match (&told, ready) {
            (Some((kind, _)), _) => *kind,
            (None, Some(_)) => "Stable",
            (None, None) => "Unknown",
        };
        let cause = told.map(|(_, condition)| condition).or(ready);
        let cause = |field: &str| cause.map(|cause| text(&cause[field])).unwrap_or_default();
        Self {
            namespace,
            name,
            ready: ready.map(|ready| text(&ready["status"])).unwrap_or_default(),
            ready_replicas: status["readyReplicas"].as_u64().unwrap_or(0),
            replicas: status["replicas"].as_u64().unwrap_or(0),
            phase,
            reason: cause("reason"),
            message: cause("message"),
            revision: text(&status["revision"]),
            url: text(&status["url"]),
            model: text(&service["spec"]["model"]["uri"]),
            created_ms: millis(&service["metadata"]["creationTimestamp"]),
        }
    }

    /// Whether all is as asked.
    pub fn is_well(&self) -> bool {
        self.phase == "Stable" && self.ready == "True"
    }
}

/// What a person may wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// The revision that the spec asks for answers all requests.
    Ready,
    /// It is gone.
    Deleted,
    /// A condition of this type has this status.
    Condition { kind: String, status: String },
}

impl Awaited {
    /// Whether it is so; `None` stands for a service that is not there.
    pub fn holds(&self, service: Option<&Value>) -> bool {
        let (kind, status) = match self {
            Self::Deleted => return service.is_none(),
            Self::Ready => ("Ready", "True"),
            Self::Condition { kind, status } => (kind.as_str(), status.as_str()),
        };
        let Some(service) = service else { return false };
        // What is told of an older spec says nothing of this one.
        let asked = service["metadata"]["generation"].as_i64();
        if asked.is_some() && service["status"]["observedGeneration"].as_i64() < asked {
            return false;
        }
        let conditions = service["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|condition| {
            let same = |field: &str, text: &str| {
                condition[field].as_str().is_some_and(|it| it.eq_ignore_ascii_case(text))
            };
            same("type", kind) && same("status", status)
        })
    }
}

fn condition<'a>(service: &'a Value, kind: &str) -> Option<&'a Value> {
    service["status"]["conditions"].as_array()?.iter().find(|it| it["type"] == kind)
}

/// A time as Kubernetes writes it, in milliseconds since the Unix epoch.
fn millis(time: &Value) -> Option<i64> {
    unix_ms(time.as_str()?)
}

/// A time in RFC 3339, in milliseconds since the Unix epoch.
pub fn unix_ms(time: &str) -> Option<i64> {
    Some(time.parse::<Timestamp>().ok()?.as_millisecond())
}

/// Milliseconds since the Unix epoch as Kubernetes writes a time: RFC 3339 in whole seconds.
pub fn time_text(unix_ms: i64) -> Option<String> {
    Some(Timestamp::from_second(unix_ms.div_euclid(1000)).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(conditions: Value) -> Value {
        json!({
            "metadata": {"name": "iris", "namespace": "a", "generation": 3, "creationTimestamp": "1970-01-01T00:00:02Z"},
            "spec": {"model": {"uri": "s3://models/iris"}},
            "status": {"observedGeneration": 3, "replicas": 2, "readyReplicas": 1, "conditions": conditions},
        })
    }

    fn is(kind: &str, status: &str) -> Value {
        json!({"type": kind, "status": status, "reason": format!("{kind}{status}"), "message": "m"})
    }

    #[test]
    fn the_worst_is_told() {
        let of = |conditions| {
            let summary = Summary::of(&service(conditions));
            (summary.phase, summary.reason, summary.ready)
        };
        let table = [
            (json!([]), ("Unknown", "", "")),
            (json!([is("Ready", "True"), is("Stalled", "False")]), ("Stable", "ReadyTrue", "True")),
            (
                json!([is("Ready", "False"), is("Progressing", "True")]),
                ("Progressing", "ProgressingTrue", "False"),
            ),
            (
                json!([
                    is("Ready", "False"),
                    is("Progressing", "True"),
                    is("Degraded", "True"),
                    is("Stalled", "True")
                ]),
                ("Stalled", "StalledTrue", "False"),
            ),
        ];
        for (conditions, (phase, reason, ready)) in table {
            assert_eq!(of(conditions), (phase, reason.to_owned(), ready.to_owned()));
        }
        let summary = Summary::of(&service(json!([])));
        assert_eq!((summary.created_ms, summary.ready_replicas), (Some(2000), 1));
        // Nothing of what a foreign server may send is an error.
        assert_eq!(Summary::of(&json!({"status": {"conditions": 7}})).name, "");
    }

    #[test]
    fn what_is_told_of_an_older_spec_does_not_count() {
        let mut now = service(json!([is("Ready", "True"), is("Stalled", "False")]));
        let stalled = Awaited::Condition { kind: "stalled".into(), status: "false".into() };
        assert!(Awaited::Ready.holds(Some(&now)) && stalled.holds(Some(&now)));
        assert!(!Awaited::Deleted.holds(Some(&now)) && Awaited::Deleted.holds(None));
        assert!(!Awaited::Ready.holds(None));
        now["metadata"]["generation"] = json!(4);
        assert!(!Awaited::Ready.holds(Some(&now)) && !stalled.holds(Some(&now)));
    }
}
