//! What workers were given by their queue, written on their pods.
//!
//! A job that is deleted has its quota until its pods have ended, and they may end when no operator is
//! there that knew the job. A finalizer would keep the job for as long, but also where no operator is
//! left to take it off: it, and its namespace, could not be deleted after an uninstallation, and its pods
//! would have to be ended by us, since the garbage collector waits for their owner's end.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::memory::Given;
use super::reconcile::is_idle;
use crate::names::QUOTA_ANNOTATION;
use crate::world::Entry;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    /// The uid of the TrainingJob.
    job: String,
    given: Given,
}

/// The Job of a start, whose pods tell what they were given.
pub(super) fn marked(mut object: Value, uid: &str, given: &Given) -> Value {
    let mark = Mark { job: uid.to_owned(), given: given.clone() };
    let text = serde_json::to_string(&mark).unwrap_or_default();
    // It is written by the same operator, with annotations.
    if let Some(annotations) = object.pointer_mut("/spec/template/metadata/annotations") {
        annotations[QUOTA_ANNOTATION] = json!(text);
    }
    object
}

/// What pods of deleted jobs have that were called as this one, one for each job; `uid` is that of the
/// job that is called so now.
pub(super) fn left_behind(entry: &Entry, uid: Option<&str>) -> Vec<Given> {
    let pods = entry.pods().filter(|pod| !pod.ended).filter_map(|pod| pod.worker.as_deref());
    let pods = pods.filter_map(|worker| worker.quota.as_deref());
    // One that is not gone may make pods.
    let jobs = entry.children.iter().filter_map(|child| child.job.as_deref());
    let jobs = jobs.filter(|job| !is_idle(job)).filter_map(|job| job.quota.as_deref());
    let mut left: BTreeMap<String, Given> = BTreeMap::new();
    let texts: BTreeSet<&str> = pods.chain(jobs).collect();
    for text in texts {
        // Somebody may have changed it; what cannot be read is nobody's.
        let Ok(mark) = serde_json::from_str::<Mark>(text) else { continue };
        if Some(mark.job.as_str()) == uid {
            continue;
        }
        let known = left.get(&mark.job).map_or(0, |given| given.assignment.count);
        if known < mark.given.assignment.count {
            left.insert(mark.job, mark.given);
        }
    }
    left.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::Pod;
    use trainyard_queue::{Amounts, Assignment};

    use super::*;
    use crate::key::{Declared, ResourceKey};
    use crate::kinds::index_of;
    use crate::pods::PodFacts;
    use crate::world::Child;

    fn given(count: u32) -> Given {
        Given {
            queue: "q".to_owned(),
            assignment: Assignment { flavour: "t4".to_owned(), count, borrows: false },
            per_worker: Amounts { gpu: 1, ..Amounts::default() },
            since: Duration::from_secs(7),
            resized: None,
        }
    }

    fn job(uid: &str, count: u32) -> Value {
        let object = json!({
            "metadata": {"name": "a-1", "uid": "j"},
            "spec": {"template": {"metadata": {
                "labels": {"trainyard.dev/job": "a", "trainyard.dev/attempt": "1"},
                "annotations": {"other": "x"},
            }, "spec": {"containers": []}}},
        });
        marked(object, uid, &given(count))
    }

    fn pod(uid: &str, count: u32, phase: &str) -> PodFacts {
        let mut pod = job(uid, count)["spec"]["template"].clone();
        pod["status"] = json!({"phase": phase});
        PodFacts::of(&serde_json::from_value::<Pod>(pod).expect("a pod"))
    }

    #[test]
    fn pods_tell_what_they_have() {
        let has = |entry: &Entry, uid| left_behind(entry, uid);
        let of_pod = |pod| Entry::default().with_pod(pod);
        let running = of_pod(pod("u1", 4, "Running"));
        assert_eq!(has(&running, None), [given(4)]);
        assert_eq!(has(&running, Some("u2")), [given(4)], "another job is called so now");
        assert_eq!(has(&running, Some("u1")), [], "its own job says what it has");
        assert_eq!(has(&of_pod(pod("u1", 4, "Failed")), None), []);
        let mut broken = pod("u1", 4, "Running");
        broken.worker.as_mut().expect("a worker").quota = Some("{".into());
        assert_eq!(has(&of_pod(broken), None), []);
    }

    #[test]
    fn a_job_that_may_make_pods_has_it_too() {
        let key = ResourceKey::new(Declared::TrainingJob, "ml", "a");
        let kind = index_of("batch/v1", "Job").expect("it is in the table");
        let entry = |status: Value| {
            let mut object = job("u1", 4);
            object["status"] = status;
            let child = Child::of(kind, &key, &object).expect("a Job");
            Entry { children: vec![child], ..Entry::default() }
        };
        assert_eq!(left_behind(&entry(Value::Null), None), [given(4)]);
        let over = json!({"conditions": [{"type": "Failed", "status": "True"}]});
        assert_eq!(left_behind(&entry(over.clone()), None), []);
        // The larger start of one job, and each job by itself.
        let both = entry(Value::Null).with_pod(pod("u1", 2, "Running"));
        assert_eq!(left_behind(&both, None), [given(4)]);
        let two = entry(Value::Null).with_pod(pod("u0", 2, "Running"));
        assert_eq!(left_behind(&two, None), [given(2), given(4)]);
    }
}
