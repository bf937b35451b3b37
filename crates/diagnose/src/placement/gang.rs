//! Pods that only work together.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::answer::ObjectRef;
use crate::view::{Pod, View};

/// Pods of one gang, by what holds them together.
pub(super) fn gangs<'a>(view: &View<'a>) -> BTreeMap<ObjectRef, Vec<Pod<'a>>> {
    let mut gangs: BTreeMap<ObjectRef, Vec<Pod<'a>>> = BTreeMap::new();
    for pod in view.pods().iter().filter(|pod| !pod.has_ended() && !pod.object.is_ending()) {
        if let Some(gang) = gang_of(view, pod) {
            gangs.entry(gang).or_default().push(pod.clone());
        }
    }
    gangs
}

/// Labels and annotations by which operators mark the pods of a group, and the kind they name.
const MARKS: [(&str, &str); 6] = [
    ("scheduling.x-k8s.io/pod-group", "PodGroup"),
    ("pod-group.scheduling.sigs.k8s.io", "PodGroup"),
    ("scheduling.k8s.io/group-name", "PodGroup"),
    ("volcano.sh/job-name", "Job"),
    ("jobset.sigs.k8s.io/jobset-name", "JobSet"),
    ("training.kubeflow.org/job-name", ""),
];

pub(crate) fn gang_of<'a>(view: &View<'a>, pod: &Pod<'a>) -> Option<ObjectRef> {
    let object = pod.object;
    for (mark, kind) in MARKS {
        if let Some(name) = object.label(mark).or_else(|| object.annotation(mark)) {
            let kind = if kind.is_empty() {
                object.controller().map_or_else(|| "Job".to_owned(), |owner| owner.kind)
            } else {
                kind.to_owned()
            };
            return Some(ObjectRef::new(&kind, object.namespace(), name));
        }
    }
    // A group of a LeaderWorkerSet is one replica of it.
    if let (Some(name), Some(group)) = (
        object.label("leaderworkerset.sigs.k8s.io/name"),
        object.label("leaderworkerset.sigs.k8s.io/group-index"),
    ) {
        return Some(ObjectRef::new(
            "LeaderWorkerSet",
            object.namespace(),
            &format!("{name} group {group}"),
        ));
    }
    // An indexed Job with several pods at once is a training job: each index talks to the others.
    let job = view.owner(object).filter(|owner| owner.kind() == "Job")?;
    let is_indexed = job.text("/spec/completionMode") == "Indexed";
    let at_once = job.at("/spec/parallelism").and_then(Value::as_i64).unwrap_or(1);
    (is_indexed && at_once > 1 && !pod.gpus().is_empty()).then(|| job.reference())
}
