//! What is kept of a worker of a training job, and how it ended.

use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus,
};
use trainyard_control::job::{Failure, Worker};
use trainyard_plan::kubernetes::{AGENT_CONTAINER, DATA_CONTAINER, WORKER_CONTAINER};

use crate::names::{ATTEMPT_LABEL, JOB_LABEL, QUOTA_ANNOTATION};

/// What Kubernetes calls a pod's place in its Job, as a label and, before 1.28, as an annotation.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// What there is to say of a pod that its node will not start.
pub(super) const LOST: &str = "its node was restarted just before its program would have started, and does not start it any more";
/// What there is to say of a container that its node knows nothing of any more.
const WENT: &str = "its node was restarted, or is gone";
/// The exit code that container runtimes make up for one whose end they did not see: containerd's
/// `unknownExitCode`, and CRI-O's where there is no exit file.
const LOST_CODE: i32 = 255;
/// How an agent calls the end of a worker whose program failed.
const CRASHED: &str = "Crashed";
/// How an agent calls the end of a worker whose machine its cloud has said to take.
const MACHINE_LEAVES: &str = "MachineLeaves";
/// Longest text of a program that goes into a status, in bytes.
const LONGEST: usize = 600;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkerFacts {
    pub(crate) index: u32,
    pub(crate) attempt: u32,
    /// A node was found for it.
    pub(crate) is_placed: bool,
    /// When its container started, in seconds since the epoch; none if it does not run.
    pub(crate) running_since: Option<i64>,
    /// None while it has not ended.
    pub(crate) end: Option<End>,
    /// As what it counts if that stays so: it is still to start, and its node will not start it.
    pub(crate) lost: Option<End>,
    /// Somebody takes it away, or its node went down: no program does that to itself.
    pub(crate) is_taken: bool,
    /// What its job was given by its queue, as the pod says it.
    pub(crate) quota: Option<Box<str>>,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub(crate) outcome: Worker,
    /// Which worker, where, and what it said.
    pub(crate) message: String,
    /// In seconds since the epoch; 0 where nobody tells.
    pub(crate) at: i64,
    /// Its node, if its cloud had said that it takes that machine.
    pub(crate) leaving: Option<Box<str>>,
}

impl WorkerFacts {
    /// None of a pod that is of no job.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let labels = pod.metadata.labels.as_ref()?;
        labels.get(JOB_LABEL)?;
        let annotations = pod.metadata.annotations.as_ref();
        let annotation = |name: &str| annotations.and_then(|all| all.get(name));
        let index = labels.get(INDEX).or_else(|| annotation(INDEX));
        let index: u32 = index.and_then(|index| index.parse().ok()).unwrap_or(0);
        let attempt = labels.get(ATTEMPT_LABEL).and_then(|number| number.parse().ok()).unwrap_or(0);
        let status = pod.status.as_ref();
        let running = status.and_then(container).and_then(|it| it.running.as_ref());
        let started = running.and_then(|it| it.started_at.as_ref());
        let told = |(outcome, text, at): (Worker, String, i64)| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let node = on.map(|node| format!(" on `{node}`")).unwrap_or_default();
            let leaves = outcome == Worker::Interrupted && text.starts_with(MACHINE_LEAVES);
            let leaving = on.filter(|_| leaves).map(Into::into);
            let message = format!("worker {index} (pod `{name}`{node}): {}", shorten(&text));
            End { outcome, message, at, leaving }
        };
        let end = status.and_then(end).map(told);
        let lost = status
            .and_then(lost_since)
            .map(|since| told((Worker::Interrupted, LOST.to_owned(), since)));
        let running_since = started.map(|time| time.0.as_second());
        let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let quota = annotation(QUOTA_ANNOTATION).map(|text| text.as_str().into());
        let is_taken = status.is_some_and(is_taken)
            || end.as_ref().is_some_and(|end: &End| end.leaving.is_some());
        Some(Self { index, attempt, is_placed, running_since, end, lost, is_taken, quota })
    }
}

/// All its containers have ended, or one of those before them has failed, though the pod may not say so
/// yet: the kubelet writes that in two steps. Nothing starts them again.
pub(super) fn has_ended(status: &PodStatus) -> bool {
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let all_ended =
        !containers.is_empty() && containers.iter().all(|it| container_end(it).is_some());
    let before = status.init_container_statuses.iter().flatten();
    all_ended || before.filter_map(container_end).any(|end| end.exit_code != 0)
}

/// Since when the pod has no sandbox, though all that comes before its program is done. A kubelet makes no
/// second sandbox for a pod that is never to be restarted and of which a container was there (its
/// `computePodActions`), so it would wait for ever.
pub(super) fn lost_since(status: &PodStatus) -> Option<i64> {
    let before = status.init_container_statuses.as_deref().unwrap_or_default();
    let is_prepared = !before.is_empty()
        && before.iter().all(|it| container_end(it).is_some_and(|end| end.exit_code == 0));
    let mut states = status.container_statuses.iter().flatten().filter_map(|it| it.state.as_ref());
    let has_begun = states.any(|it| it.running.is_some() || it.terminated.is_some());
    let mut conditions = status.conditions.iter().flatten();
    let sandbox = conditions.find(|it| it.type_ == "PodReadyToStartContainers")?;
    let is_lost = status.phase.as_deref() == Some("Pending")
        && is_prepared
        && !has_begun
        && sandbox.status == "False";
    let since = sandbox.last_transition_time.as_ref().map_or(0, |time| time.0.as_second());
    is_lost.then_some(since)
}

fn container(status: &PodStatus) -> Option<&k8s_openapi::api::core::v1::ContainerState> {
    let all = status.container_statuses.iter().flatten();
    all.filter(|it| it.name == WORKER_CONTAINER).find_map(|it| it.state.as_ref())
}

/// How an init container failed, if one did: those that bring the agent and the data.
fn preparation(status: &PodStatus) -> Option<(Worker, String)> {
    let all = status.init_container_statuses.iter().flatten();
    let ended = |it| Some((it, container_end(it)?));
    let (container, ended) = all.filter_map(ended).find(|(_, end)| end.exit_code != 0)?;
    if went_with_its_node(ended) {
        return Some((Worker::Interrupted, WENT.to_owned()));
    }
    let code = ended.exit_code;
    let said = said(ended);
    if let Some(data) = container.name.strip_prefix(DATA_CONTAINER) {
        let outcome = match FetchEnd::of(code) {
            // It has asked for a minute; the next attempt goes on.
            FetchEnd::Unavailable => Worker::Interrupted,
            FetchEnd::Wrong => Worker::Failed(Failure::NotStarted),
            FetchEnd::Unknown => Worker::Failed(Failure::Crashed),
        };
        let text = format!("the data `{data}` cannot be had: {said}");
        return Some((outcome, text));
    }
    if container.name == AGENT_CONTAINER {
        let told = format!(
            "the agent could not be brought in, which is Trainyard's affair: code {code}: {said}"
        );
        return Some((Worker::Failed(Failure::Crashed), told));
    }
    None
}

pub(super) fn container_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

/// Whether a container was there no more when its node was asked for it. After a restart containerd says
/// `Unknown`, and CRI-O and Docker `Error`, of what ran before, each with a code of which our agents say
/// whose it is.
pub(super) fn went_with_its_node(ended: &ContainerStateTerminated) -> bool {
    // Else the kubelet takes the end of its log, since the agent has not said anything.
    let is_told = ended.message.as_deref().unwrap_or_default().starts_with(CRASHED);
    match ended.reason.as_deref().unwrap_or_default() {
        "ContainerStatusUnknown" => true,
        "Unknown" => ended.exit_code == LOST_CODE,
        "Error" => ended.exit_code == LOST_CODE && !is_told,
        _ => false,
    }
}

/// Whether who runs the cluster, or the end of its node, takes a pod away. A kubelet that evicts one may
/// do so for what the program takes.
fn is_taken(status: &PodStatus) -> bool {
    let shuts_down = status.reason.as_deref() == Some("Terminated");
    let by_kubelet = |it: &PodCondition| it.reason.as_deref() == Some("TerminationByKubelet");
    let is_disrupted = disruptions(status).any(|it| shuts_down || !by_kubelet(it));
    let before = status.init_container_statuses.iter().flatten();
    let mut all = before.chain(status.container_statuses.iter().flatten());
    is_disrupted || all.any(|it| container_end(it).is_some_and(went_with_its_node))
}

/// What a container that ended left behind, in one line; else the kubelet's word for its end.
pub(super) fn said(ended: &ContainerStateTerminated) -> String {
    let said = ended.message.as_deref().filter(|text| !text.is_empty());
    let said = said.or(ended.reason.as_deref()).unwrap_or_default();
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the exit code of `trainyard fetch` says.
pub(super) enum FetchEnd {
    /// The store fails, and trying again may help.
    Unavailable,
    /// A person has to mend it.
    Wrong,
    /// It was killed, such as for its memory.
    Unknown,
}

impl FetchEnd {
    pub(super) fn of(code: i32) -> Self {
        match code {
            7 => Self::Unavailable,
            2..=6 => Self::Wrong,
            _ => Self::Unknown,
        }
    }
}

/// The outcome, in words, and when.
fn end(status: &PodStatus) -> Option<(Worker, String, i64)> {
    let ended = container(status).and_then(|state| state.terminated.as_ref());
    let at = ended.and_then(|it| it.finished_at.as_ref()).map_or(0, |time| time.0.as_second());
    match status.phase.as_deref()? {
        "Succeeded" => Some((Worker::Finished, "it has finished".to_owned(), at)),
        "Failed" => {
            let (outcome, text) = failed(status, ended);
            Some((outcome, text, at))
        }
        _ => None,
    }
}

fn failed(status: &PodStatus, ended: Option<&ContainerStateTerminated>) -> (Worker, String) {
    let text_of = |text: &Option<String>| text.clone().unwrap_or_default();
    let reason = status.reason.as_deref().unwrap_or_default();
    // Disk that it took for itself; an eviction for another reason is the node's.
    if reason == "Evicted" && text_of(&status.message).contains("exceed") {
        return (
            Worker::Failed(Failure::Crashed),
            format!("Evicted: {}", text_of(&status.message)),
        );
    }
    if let Some(why) = disruption(status) {
        return (Worker::Interrupted, why);
    }
    let Some(ended) = ended else {
        if let Some(known) = preparation(status) {
            return known;
        }
        // Its node refused it, or is gone.
        let why = [reason.to_owned(), text_of(&status.message)];
        let why: Vec<String> = why.into_iter().filter(|text| !text.is_empty()).collect();
        let outcome = match reason {
            "" => Worker::Failed(Failure::Crashed),
            _ => Worker::Interrupted,
        };
        let told = why.join(": ");
        return (
            outcome,
            if told.is_empty() { "its container never started".to_owned() } else { told },
        );
    };
    let text = text_of(&ended.message).split_whitespace().collect::<Vec<_>>().join(" ");
    let code = ended.exit_code;
    let told = |what: &str| match text.is_empty() {
        true => what.to_owned(),
        false => text.clone(),
    };
    // The agent says it in a word; where it was killed, the code and the kubelet do.
    let word = text.split_once(": ").map(|(word, _)| word).unwrap_or_default();
    let by_kubelet = ended.reason.as_deref().unwrap_or_default();
    match (word, by_kubelet, code) {
        ("OutOfMemory", _, _) | (_, "OOMKilled", _) => (
            Worker::Failed(Failure::OutOfMemory),
            "it was killed at its memory limit; raise `spec.resources.memory`".to_owned(),
        ),
        ("Hung", _, _) => (Worker::Failed(Failure::Hung), text),
        ("NotStarted", _, _) => (Worker::Failed(Failure::NotStarted), text),
        ("Interrupted" | MACHINE_LEAVES, _, _) => (Worker::Interrupted, text),
        (CRASHED, _, _) => (Worker::Failed(Failure::Crashed), text),
        (_, "StartError" | "ContainerCannotRun", _) | (_, _, 126 | 127) => {
            (Worker::Failed(Failure::NotStarted), told("its container could not be started"))
        }
        (_, "ContainerStatusUnknown", _) => (Worker::Interrupted, told(WENT)),
        _ if went_with_its_node(ended) => (Worker::Interrupted, WENT.to_owned()),
        (_, _, 143) => (Worker::Interrupted, "it was told to end".to_owned()),
        (_, _, 98) => (Worker::Failed(Failure::Hung), told("it showed no progress")),
        (_, _, 137) => (Worker::Interrupted, "its agent was killed".to_owned()),
        _ => (
            Worker::Failed(Failure::Crashed),
            format!(
                "it left with code {code}{}",
                if text.is_empty() { String::new() } else { format!(": {text}") }
            ),
        ),
    }
}

/// Why somebody, or the cluster, ended a pod that could have gone on.
pub(super) fn disruption(status: &PodStatus) -> Option<String> {
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    disruptions(status).next().map(|it| format!("{}: {}", said(&it.reason), said(&it.message)))
}

fn disruptions(status: &PodStatus) -> impl Iterator<Item = &PodCondition> {
    let all = status.conditions.iter().flatten();
    all.filter(|it| it.type_ == "DisruptionTarget" && it.status == "True")
}

/// The end of a text that is too long: that of a traceback is the cause.
pub(super) fn shorten(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let from = text.len().saturating_sub(LONGEST);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    format!("…{}", text.get(from..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::PodFacts;

    fn worker(status: Value) -> WorkerFacts {
        let pod = json!({
            "metadata": {"name": "line-2-1-x", "labels": {
                JOB_LABEL: "line", ATTEMPT_LABEL: "2", INDEX: "1",
            }},
            "spec": {"nodeName": "n", "containers": []}, "status": status,
        });
        WorkerFacts::of(&serde_json::from_value(pod).expect("a pod")).expect("a worker")
    }

    fn ended(code: i32, reason: &str, message: &str) -> Value {
        json!({"phase": "Failed", "containerStatuses": [{
            "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "reason": reason, "message": message,
                "finishedAt": "1970-01-01T00:00:09Z"}},
        }]})
    }

    #[test]
    fn an_end_that_its_pod_does_not_tell_yet_is_no_trouble() {
        let facts = |status: Value| {
            let labels = json!({JOB_LABEL: "line", ATTEMPT_LABEL: "2", INDEX: "1"});
            let metadata = json!({"name": "line-2-1-x", "labels": labels});
            let pod = json!({"metadata": metadata, "spec": {"containers": []}, "status": status});
            PodFacts::of(&serde_json::from_value(pod).expect("a pod"))
        };
        let container = |state: Value| json!([{"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]);
        let of = |state: Value| {
            facts(json!({"phase": "Running", "containerStatuses": container(state)}))
        };
        for code in [0, 1] {
            let ended = of(json!({"terminated": {"exitCode": code, "reason": "Completed"}}));
            assert_eq!(ended.trouble, None, "code {code}");
            assert!(!ended.ended && ended.worker.is_some_and(|it| it.end.is_none()));
        }
        let failed = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        let before = json!({"phase": "Pending", "initContainerStatuses": container(failed)});
        assert_eq!(facts(before).trouble, None);
        assert!(of(json!({"waiting": {"reason": "ErrImagePull"}})).trouble.is_some());
    }

    #[test]
    fn one_that_its_node_has_forgotten_is_lost() {
        let status = |sandbox: &str, code: Option<i32>, state: Value| {
            let init = match code {
                Some(code) => json!({"terminated": {"exitCode": code}}),
                None => json!({"waiting": {"reason": "PodInitializing"}}),
            };
            let of = |name: &str, state: Value| json!([{"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]);
            json!({"phase": "Pending", "conditions": [
                    {"type": "Initialized", "status": "True"},
                    {"type": "PodReadyToStartContainers", "status": sandbox, "lastTransitionTime": "1970-01-01T00:01:00Z"}],
                "initContainerStatuses": of("agent", init), "containerStatuses": of("worker", state)})
        };
        let waits = || json!({"waiting": {"reason": "PodInitializing"}});
        let lost = worker(status("False", Some(0), waits())).lost.expect("it is lost");
        assert_eq!((lost.outcome, lost.at), (Worker::Interrupted, 60));
        assert!(lost.message.contains("its node was restarted"), "{}", lost.message);
        // An image is pulled; what comes before is made anew; or has failed; or the program runs.
        for other in [
            status("True", Some(0), waits()),
            status("False", None, waits()),
            status("False", Some(1), waits()),
            status("False", Some(0), json!({"running": {}})),
        ] {
            assert_eq!(worker(other).lost, None);
        }
    }

    fn disrupted(reason: &str) -> Value {
        let mut status = ended(1, "Error", "Crashed: a");
        status["conditions"] = json!([{"type": "DisruptionTarget", "status": "True",
            "reason": reason, "message": "drained"}]);
        status
    }

    #[test]
    fn what_no_program_does_to_itself() {
        let is_taken = |status: Value| worker(status).is_taken;
        for reason in ["EvictionByEvictionAPI", "DeletionByTaintManager", "PreemptionByScheduler"] {
            assert!(is_taken(disrupted(reason)));
            // It is known before it has ended.
            let mut running = disrupted(reason);
            running["phase"] = "Running".into();
            running["containerStatuses"][0]["state"] = json!({"running": {}});
            assert!(is_taken(running));
        }
        // For what it takes, or because the machine shuts down.
        let mut by_kubelet = disrupted("TerminationByKubelet");
        assert!(!is_taken(by_kubelet.clone()));
        by_kubelet["reason"] = "Terminated".into();
        assert!(is_taken(by_kubelet));
        assert!(is_taken(ended(143, "Error", "MachineLeaves: it left")));
        assert!(is_taken(ended(255, "Unknown", "step 7")));
        for (code, reason, message) in [
            (137, "Error", ""),
            (143, "Error", "Interrupted: it left"),
            (255, "Error", "Crashed: a"),
            (1, "Unknown", ""),
        ] {
            assert!(!is_taken(ended(code, reason, message)), "{code} {reason} {message}");
        }
    }

    #[test]
    fn how_workers_end() {
        let check = |status: Value, expected: Worker, text: &str| {
            let end = worker(status).end.expect("it has ended");
            assert_eq!(end.outcome, expected, "{}", end.message);
            assert!(end.message.contains(text), "{}", end.message);
        };
        let crashed = Worker::Failed(Failure::Crashed);
        check(
            json!({"phase": "Succeeded"}),
            Worker::Finished,
            "worker 1 (pod `line-2-1-x` on `n`)",
        );
        check(
            ended(1, "Error", "Crashed: rank 0 left with code 1; its last lines: boom"),
            crashed,
            "boom",
        );
        check(ended(3, "Error", ""), crashed, "left with code 3");
        check(
            ended(98, "Error", "Hung: no progress for 60 s"),
            Worker::Failed(Failure::Hung),
            "60 s",
        );
        check(
            ended(137, "OOMKilled", ""),
            Worker::Failed(Failure::OutOfMemory),
            "raise `spec.resources.memory`",
        );
        check(
            ended(127, "Error", "NotStarted: no such file"),
            Worker::Failed(Failure::NotStarted),
            "no such file",
        );
        check(
            ended(128, "StartError", "exec: no"),
            Worker::Failed(Failure::NotStarted),
            "exec: no",
        );
        check(ended(143, "Error", ""), Worker::Interrupted, "told to end");
        let leaves = "MachineLeaves: it was asked for a checkpoint, and left";
        check(ended(143, "Error", leaves), Worker::Interrupted, "and left");
        let of = |text| worker(ended(143, "Error", text)).end.expect("it ended").leaving;
        assert_eq!(
            (of(leaves).as_deref(), of("Interrupted: it was told to end")),
            (Some("n"), None)
        );
        check(ended(137, "Error", ""), Worker::Interrupted, "agent was killed");
        check(
            disrupted("EvictionByEvictionAPI"),
            Worker::Interrupted,
            "EvictionByEvictionAPI: drained",
        );
        // Its node was restarted while it ran: containerd, and CRI-O.
        for reason in ["Unknown", "Error"] {
            for message in ["", "trainyard: waits for the worker a-1-0.a-workers"] {
                let status = ended(255, reason, message);
                check(status, Worker::Interrupted, "its node was restarted");
            }
        }
        check(ended(255, "Error", "Crashed: rank 0 left with code 255"), crashed, "code 255");
        let gone = "The container could not be located when the pod was deleted";
        check(ended(137, "ContainerStatusUnknown", gone), Worker::Interrupted, gone);
        let evicted =
            |message: &str| json!({"phase": "Failed", "reason": "Evicted", "message": message});
        check(
            evicted("The node had condition: [DiskPressure]."),
            Worker::Interrupted,
            "DiskPressure",
        );
        check(
            evicted("Usage of EmptyDir volume \"scratch\" exceeds the limit \"10Gi\"."),
            crashed,
            "scratch",
        );
        let agent = json!({"phase": "Failed", "initContainerStatuses": [{
            "name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 2, "message": "cannot copy"}},
        }]});
        check(agent, crashed, "code 2: cannot copy");
        let data = |code: i32, message: &str| {
            json!({"phase": "Failed", "initContainerStatuses": [{
                "name": "fetch-data-mnist", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "reason": "Error", "message": message}},
            }]})
        };
        let wrong = Worker::Failed(Failure::NotStarted);
        check(
            data(3, "NotFound: nothing at s3://b/d"),
            wrong,
            "the data `mnist` cannot be had: NotFound",
        );
        check(data(7, "Unavailable: refused"), Worker::Interrupted, "Unavailable: refused");
        check(data(137, ""), crashed, "cannot be had: Error");
        check(data(255, ""), Worker::Interrupted, "its node was restarted");
        let running = worker(json!({"phase": "Running"}));
        assert_eq!((running.index, running.attempt, running.end), (1, 2, None));
    }
}
