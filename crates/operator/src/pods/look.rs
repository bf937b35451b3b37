//! What is kept of the pod that looks before a job's workers are made, and what it found.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod, PodStatus};
use trainyard_control::preflight::Seen;
use trainyard_plan::kubernetes::{IMAGE_CONTAINER, LOOK_CONTAINER};

use super::worker::{
    FetchEnd, LOST, container_end, disruption, lost_since, said, shorten, went_with_its_node,
};
use crate::names::PREFLIGHT_LABEL;

/// The uid of the Job that a pod is of.
const JOB_UID: &str = "batch.kubernetes.io/controller-uid";

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LookFacts {
    /// The uid of its Job.
    pub(crate) job: Box<str>,
    /// None while it has not ended.
    pub(crate) end: Option<LookEnd>,
}

/// What it found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LookEnd {
    pub(crate) seen: Seen,
    /// Why, for people; empty where all was there.
    pub(crate) message: String,
}

impl LookFacts {
    /// None of any other pod.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let labels = pod.metadata.labels.as_ref()?;
        labels.get(PREFLIGHT_LABEL)?;
        let status = pod.status.as_ref();
        let end = match status.and_then(|status| status.phase.as_deref()) {
            Some("Succeeded") => Some((Seen::Passed, String::new())),
            Some("Failed") => status.map(failed),
            _ => status.and_then(lost_since).map(|_| (Seen::Lost, LOST.to_owned())),
        };
        Some(Self {
            job: labels.get(JOB_UID).map(String::as_str).unwrap_or_default().into(),
            end: end.map(|(seen, message)| LookEnd { seen, message: shorten(&message) }),
        })
    }
}

fn failed(status: &PodStatus) -> (Seen, String) {
    if let Some(why) = disruption(status) {
        return (Seen::Lost, why);
    }
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    let mut ended = all.filter_map(|it| Some((it.name.as_str(), container_end(it)?)));
    let Some((name, end)) = ended.find(|(_, end)| end.exit_code != 0) else {
        // Its node refused or evicted it, or is gone.
        let why = [status.reason.as_deref(), status.message.as_deref()];
        return (Seen::Lost, why.into_iter().flatten().collect::<Vec<_>>().join(": "));
    };
    let said = said(end);
    let of_fetch = |what: String| (of_fetch(end), format!("{what}: {said}"));
    match (name, name.strip_prefix(LOOK_CONTAINER)) {
        (_, Some(data)) => of_fetch(format!("the data `{data}` cannot be had")),
        (IMAGE_CONTAINER, _) if is_not_started(end) => {
            (Seen::Wrong, format!("no program can be started in the image: {said}"))
        }
        // It asks for nothing else.
        (IMAGE_CONTAINER, _) if !matches!(FetchEnd::of(end.exit_code), FetchEnd::Unknown) => {
            of_fetch("the store of `spec.checkpoint.uri` cannot be used from the image".to_owned())
        }
        _ => {
            (by_itself(end), format!("container `{name}` left with code {}: {said}", end.exit_code))
        }
    }
}

fn of_fetch(end: &ContainerStateTerminated) -> Seen {
    match FetchEnd::of(end.exit_code) {
        FetchEnd::Unavailable => Seen::Unavailable,
        FetchEnd::Wrong => Seen::Wrong,
        FetchEnd::Unknown => by_itself(end),
    }
}

/// Whether somebody ended it, or it failed. `trainyard fetch` leaves with 1 when it is told to end.
fn by_itself(end: &ContainerStateTerminated) -> Seen {
    match (end.reason.as_deref().unwrap_or_default(), end.exit_code) {
        ("OOMKilled", _) => Seen::Broken,
        (_, 1 | 137 | 143) => Seen::Lost,
        _ if went_with_its_node(end) => Seen::Lost,
        _ => Seen::Broken,
    }
}

fn is_not_started(end: &ContainerStateTerminated) -> bool {
    let reason = end.reason.as_deref().unwrap_or_default();
    matches!(reason, "StartError" | "ContainerCannotRun") || matches!(end.exit_code, 126 | 127)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::PodFacts;

    fn facts(status: Value) -> PodFacts {
        let pod = json!({
            "metadata": {"name": "line-preflight-x", "labels": {
                "trainyard.dev/job": "line", PREFLIGHT_LABEL: "true", JOB_UID: "u",
            }},
            "spec": {"containers": []}, "status": status,
        });
        PodFacts::of(&serde_json::from_value(pod).expect("a pod"))
    }

    fn end(status: Value) -> LookEnd {
        facts(status).look.and_then(|look| look.end).expect("it has ended")
    }

    fn ended(list: &str, name: &str, code: i32, reason: &str, message: &str) -> Value {
        json!({"phase": "Failed", list: [{
            "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "reason": reason, "message": message}},
        }]})
    }

    #[test]
    fn what_it_found() {
        #[track_caller]
        fn check(status: Value, seen: Seen, text: &str) {
            let found = end(status);
            assert_eq!(found.seen, seen, "{}", found.message);
            assert!(found.message.contains(text), "{}", found.message);
        }
        let init = |name: &str, code, reason: &str, message: &str| {
            ended("initContainerStatuses", name, code, reason, message)
        };
        let image = |code, reason: &str| ended("containerStatuses", "image", code, reason, "");
        let store =
            |code, message: &str| ended("containerStatuses", "image", code, "Error", message);
        check(json!({"phase": "Succeeded"}), Seen::Passed, "");
        let nothing = "NotFound: there is nothing at `s3://b/a`";
        let told = format!("the data `words` cannot be had: {nothing}");
        check(init("check-data-words", 3, "Error", nothing), Seen::Wrong, &told);
        check(init("check-data-words", 7, "Error", "Unavailable: no"), Seen::Unavailable, "no");
        check(init("check-data-words", 137, "OOMKilled", ""), Seen::Broken, "OOMKilled");
        check(init("check-data-words", 1, "Error", ""), Seen::Lost, "");
        check(init("check-data-words", 255, "Unknown", ""), Seen::Lost, "");
        check(store(4, "AccessDenied: no"), Seen::Wrong, "`spec.checkpoint.uri`");
        check(store(7, "Unavailable: no"), Seen::Unavailable, "`spec.checkpoint.uri`");
        check(store(1, ""), Seen::Lost, "");
        check(
            init("agent", 2, "Error", "disk"),
            Seen::Broken,
            "container `agent` left with code 2",
        );
        check(image(128, "StartError"), Seen::Wrong, "no program can be started in the image");
        check(image(127, "Error"), Seen::Wrong, "Error");
        check(image(137, "ContainerStatusUnknown"), Seen::Lost, "");
        check(image(9, "Error"), Seen::Broken, "code 9");
        let mut drained = init("check-data-words", 3, "Error", nothing);
        drained["conditions"] = json!([{"type": "DisruptionTarget", "status": "True",
            "reason": "EvictionByEvictionAPI", "message": "drained"}]);
        check(drained, Seen::Lost, "EvictionByEvictionAPI: drained");
        let refused = json!({"phase": "Failed", "reason": "NodeAffinity", "message": "no"});
        check(refused, Seen::Lost, "NodeAffinity: no");
    }

    /// It is no worker, and what stops it is told as for one.
    #[test]
    fn what_stops_it() {
        let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
        let facts = facts(json!({"phase": "Pending", "containerStatuses": [{
            "name": "image", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": waiting,
        }]}));
        assert!(facts.worker.is_none());
        assert_eq!(facts.look, Some(Box::new(LookFacts { job: "u".into(), end: None })));
        assert!(facts.trouble.is_some_and(|it| it.reason == crate::pods::Reason::ImagePullFailed));
    }
}
