//! What was read of a cluster at one time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The first field of a snapshot's file: what it is, and the version of its format.
pub const FORMAT: &str = "trainyard-snapshot/1";

/// The first field of a node's probe.
pub const PROBE_FORMAT: &str = "trainyard-probe/1";

/// Everything that diagnoses look at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Snapshot {
    pub format: String,
    /// RFC 3339. What "for 20 minutes" means is told from it.
    pub taken_at: String,
    /// As the API server says it, such as `v1.34.1`.
    pub kubernetes_version: String,
    /// Objects of any kind, each with `apiVersion` and `kind`; events are among them. A `Secret` has
    /// its keys, never its values.
    pub objects: Vec<Value>,
    pub logs: Vec<LogTail>,
    pub probes: Vec<NodeProbe>,
    pub metrics: Vec<Sample>,
    /// What could not be read; a check that needs it answers that it is unknown.
    pub unread: Vec<Unread>,
}

/// The last lines of one container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogTail {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// Of the container before the last restart.
    pub previous: bool,
    pub lines: Vec<String>,
}

/// What `trainyard agent --probe` says of a node: see `docs/doctor.md` for its fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeProbe {
    pub node: String,
    pub result: Value,
}

/// One sample of a metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Something that is not in the snapshot though it may be in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Unread {
    /// A resource (`pods`, `workloads.kueue.x-k8s.io`), or `logs`, `metrics`, `probes`,
    /// `pods of other namespaces`.
    pub what: String,
    pub reason: String,
    /// Nobody tried to read it, as opposed to a read that failed.
    pub not_asked: bool,
}

/// Why a text is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot's format is `{found}`; this version reads `{FORMAT}`")]
    OtherFormat { found: String },
    #[error("the snapshot cannot be read")]
    Malformed { source: serde_json::Error },
    #[error(
        "document {index} is neither a snapshot (`format: {FORMAT}`) nor a Kubernetes object with `kind`"
    )]
    NoObject { index: usize },
    #[error("there is no object")]
    Empty,
}

impl Snapshot {
    /// Reads documents: one snapshot, or any Kubernetes objects and lists of them, such as
    /// `kubectl get pods,nodes,events -A -o yaml` prints. The latter have no logs, probes or metrics,
    /// and the newest time in them is taken for now.
    ///
    /// # Errors
    ///
    /// Documents that are neither.
    pub fn read(documents: Vec<Value>) -> Result<Self, SnapshotError> {
        if let [only] = documents.as_slice()
            && let Some(format) = only.get("format").and_then(Value::as_str)
        {
            if format != FORMAT {
                return Err(SnapshotError::OtherFormat { found: format.to_owned() });
            }
            return Self::deserialize(only).map_err(|source| SnapshotError::Malformed { source });
        }
        let mut objects = Vec::new();
        for (index, document) in documents.into_iter().enumerate() {
            flatten(document, index.saturating_add(1), &mut objects)?;
        }
        if objects.is_empty() {
            return Err(SnapshotError::Empty);
        }
        let not_asked = |what: &str| Unread {
            what: what.to_owned(),
            reason: format!("a dump of objects has no {what}; `trainyard doctor --collect` has"),
            not_asked: true,
        };
        let mut unread = vec![not_asked("logs"), not_asked("metrics"), not_asked("probes")];
        for (kind, resource) in [("Pod", "pods"), ("Node", "nodes"), ("Event", "events")] {
            if !objects.iter().any(|object| object.get("kind") == Some(&json!(kind))) {
                unread.push(Unread {
                    what: resource.to_owned(),
                    reason: "the dump has none".to_owned(),
                    not_asked: true,
                });
            }
        }
        let taken_at = objects.iter().filter_map(newest).max().unwrap_or_default();
        Ok(Self { format: FORMAT.to_owned(), taken_at, objects, unread, ..Self::default() })
    }

    /// Puts everything into one order, so that equal clusters give equal bytes.
    pub fn sort(&mut self) {
        let key = |object: &Value| {
            let text = |pointer: &str| {
                object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            [
                text("/apiVersion"),
                text("/kind"),
                text("/metadata/namespace"),
                text("/metadata/name"),
            ]
        };
        self.objects.sort_by_cached_key(|object| (key(object), object.to_string()));
        self.logs.sort_by(|a, b| {
            let key = |log: &LogTail| {
                (log.namespace.clone(), log.pod.clone(), log.container.clone(), !log.previous)
            };
            key(a).cmp(&key(b))
        });
        self.probes.sort_by(|a, b| a.node.cmp(&b.node));
        self.metrics.sort_by(|a, b| {
            (&a.name, &a.labels).cmp(&(&b.name, &b.labels)).then(a.value.total_cmp(&b.value))
        });
        self.unread.sort_by(|a, b| (&a.what, &a.reason).cmp(&(&b.what, &b.reason)));
    }
}

/// Puts an object, or what a list holds, into `objects`.
fn flatten(document: Value, index: usize, objects: &mut Vec<Value>) -> Result<(), SnapshotError> {
    let Some(kind) = document.get("kind").and_then(Value::as_str) else {
        return if document.is_null() { Ok(()) } else { Err(SnapshotError::NoObject { index }) };
    };
    let Some(items) = document.get("items").and_then(Value::as_array) else {
        objects.push(document);
        return Ok(());
    };
    // `PodList` and the like: the items do not say what they are.
    let of_items = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
    for item in items {
        let mut item = item.clone();
        if let (Some(kind), Some(fields)) = (of_items, item.as_object_mut()) {
            let version = document.get("apiVersion").cloned().unwrap_or_else(|| json!("v1"));
            fields.entry("kind").or_insert_with(|| json!(kind));
            fields.entry("apiVersion").or_insert(version);
        }
        if !item.get("kind").is_some_and(Value::is_string) {
            return Err(SnapshotError::NoObject { index });
        }
        objects.push(item);
    }
    Ok(())
}

/// The newest time that an object tells.
fn newest(object: &Value) -> Option<String> {
    let times =
        ["/metadata/creationTimestamp", "/lastTimestamp", "/eventTime", "/series/lastObservedTime"];
    let own = times.iter().filter_map(|at| object.pointer(at)?.as_str());
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let heartbeats = conditions.into_iter().flatten().flat_map(|condition| {
        ["lastHeartbeatTime", "lastTransitionTime"]
            .into_iter()
            .filter_map(|key| condition.get(key)?.as_str())
    });
    own.chain(heartbeats).max().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_documents_are_read() {
        let list =
            json!({"kind": "PodList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}}]});
        let node = json!({"kind": "Node", "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let snapshot = Snapshot::read(vec![list, Value::Null, node]).unwrap();
        assert_eq!(snapshot.objects.len(), 2);
        assert_eq!(snapshot.objects[0]["kind"], "Pod");
        assert_eq!(snapshot.taken_at, "2026-01-01T00:00:00Z");
        let unread: Vec<&str> = snapshot.unread.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(unread, ["logs", "metrics", "probes", "events"]);
    }

    #[test]
    fn equal_clusters_give_equal_bytes() {
        let object = |kind: &str, name: &str| json!({"kind": kind, "metadata": {"name": name}});
        let log = |pod: &str, previous| LogTail { pod: pod.into(), previous, ..LogTail::default() };
        let sample = |name: &str| Sample { name: name.into(), ..Sample::default() };
        let one = Snapshot {
            objects: vec![object("Pod", "b"), object("Node", "c"), object("Pod", "a")],
            logs: vec![log("b", false), log("b", true), log("a", false)],
            metrics: vec![sample("y"), sample("x")],
            ..Snapshot::default()
        };
        let mut other = one.clone();
        other.objects.reverse();
        other.logs.reverse();
        other.metrics.reverse();
        let text = |mut snapshot: Snapshot| {
            snapshot.sort();
            serde_json::to_string(&snapshot).unwrap()
        };
        assert_eq!(text(one), text(other));
    }

    #[test]
    fn what_is_no_snapshot_is_told() {
        let error = |value| Snapshot::read(vec![value]).unwrap_err().to_string();
        assert!(error(json!({"format": "x"})).contains("`x`"));
        assert!(error(json!({"a": 1})).contains("document 1"));
        assert!(error(json!({"format": FORMAT, "logs": 1})).contains("cannot be read"));
        assert!(Snapshot::read(vec![]).is_err());
    }
}
