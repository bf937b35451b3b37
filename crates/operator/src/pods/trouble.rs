//! What keeps a pod from serving, told from its status.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::Reason;
use crate::key::Declared;

/// The init container that fetches the model.
const FETCH_CONTAINER: &str = "fetch-model";

/// Longest text of a foreign party that goes into a status, in bytes.
const LONGEST_DETAIL: usize = 400;

/// One thing that is wrong with one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: Reason,
    /// The pod; empty if none could be created.
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) image: String,
    pub(crate) exit_code: Option<i32>,
    /// What the kubelet, the scheduler or the program says.
    pub(crate) detail: String,
    /// What the doctor calls it, such as `D24`, if the pod alone tells it.
    pub(crate) diagnosis: Option<&'static str>,
}

impl Trouble {
    fn new(reason: Reason, pod: &str, detail: &str) -> Self {
        Self {
            reason,
            pod: pod.to_owned(),
            container: String::new(),
            image: String::new(),
            exit_code: None,
            detail: shorten(detail),
            diagnosis: None,
        }
    }

    fn in_container(mut self, status: &ContainerStatus) -> Self {
        self.container.clone_from(&status.name);
        self.image.clone_from(&status.image);
        self
    }

    /// The nodes that it may use are full; it fits one of them when others have ended.
    pub(crate) fn is_for_want_of_room(&self) -> bool {
        let said = ["Insufficient ", "Too many pods"];
        self.reason == Reason::Unschedulable && said.iter().any(|it| self.detail.contains(it))
    }

    /// What happened, where, and how to mend it, to who declared a resource of that kind.
    pub(crate) fn message(&self, of: Declared) -> String {
        let Self { pod, container, image, .. } = self;
        let what = match self.reason {
            Reason::QuotaExceeded | Reason::PodForbidden | Reason::PodCreateFailed => {
                "a pod cannot be created".to_owned()
            }
            Reason::ModelForbidden
            | Reason::ModelNotFound
            | Reason::ModelMismatch
            | Reason::ModelUnavailable
            | Reason::ModelFetchFailed => format!("pod `{pod}` cannot fetch the model"),
            Reason::ImagePullFailed => format!("pod `{pod}` cannot pull the image `{image}`"),
            Reason::ContainerConfigError => {
                format!("container `{container}` of pod `{pod}` cannot be set up")
            }
            Reason::ContainerStartFailed => {
                format!("container `{container}` of pod `{pod}` cannot be started")
            }
            Reason::GpuUnhealthy => {
                format!("a GPU of container `{container}` of pod `{pod}` is unhealthy")
            }
            Reason::OutOfMemory => {
                format!("container `{container}` of pod `{pod}` was killed at its memory limit")
            }
            Reason::StartupProbeFailed => format!(
                "container `{container}` of pod `{pod}` was ended before its startup probe passed"
            ),
            Reason::CrashLoop => match self.exit_code {
                Some(code) => {
                    format!("container `{container}` of pod `{pod}` ended with exit code {code}")
                }
                None => format!("container `{container}` of pod `{pod}` ends again and again"),
            },
            Reason::Unschedulable => format!("pod `{pod}` cannot be scheduled"),
            Reason::VolumeMountFailed => format!("a volume of pod `{pod}` cannot be mounted"),
            Reason::SandboxFailed => format!("the sandbox of pod `{pod}` cannot be made"),
            Reason::PodFailed => format!("pod `{pod}` failed"),
            Reason::ProbeFailing => format!("pod `{pod}` is not ready"),
            Reason::InvalidSpec
            | Reason::NotSupported
            | Reason::RevisionMissing
            | Reason::NameConflict
            | Reason::ApplyRejected
            | Reason::ProgressDeadlineExceeded => format!("pod `{pod}`"),
        };
        let detail =
            if self.detail.is_empty() { String::new() } else { format!(": {}", self.detail) };
        let diagnosis = self.diagnosis.map_or_else(String::new, |id| format!(" [{id}]"));
        format!("{what}{detail}; {}{diagnosis}", self.mend(of))
    }

    fn mend(&self, of: Declared) -> String {
        let Self { pod, container, detail, .. } = self;
        let (image, command, maker) = match of {
            Declared::ModelService => ("spec.runtime.image", "spec.runtime.command", "ReplicaSet"),
            Declared::TrainingJob => ("spec.image", "spec.command", "Job"),
        };
        match self.reason {
            Reason::QuotaExceeded => {
                let number = match of {
                    Declared::ModelService => "spec.scaling",
                    Declared::TrainingJob => "spec.workers.count",
                };
                format!(
                    "raise the namespace's ResourceQuota, or lower `spec.resources` or `{number}`"
                )
            }
            Reason::PodForbidden => {
                "change what admission objects to, or the namespace's policy".into()
            }
            Reason::PodCreateFailed => format!("see the events of its {maker}"),
            Reason::ModelForbidden => {
                "give `spec.model.credentialsSecret` a Secret that may read the model".into()
            }
            Reason::ModelNotFound => "correct `spec.model.uri`, or put the model there".into(),
            Reason::ModelMismatch => {
                "correct `spec.model.sha256`, or find out who changed the model".into()
            }
            Reason::ModelUnavailable => "it is tried again; let the nodes reach the store".into(),
            Reason::ModelFetchFailed => format!("see `kubectl logs {pod} -c {container}`"),
            Reason::ImagePullFailed if is_ours(container) => {
                "it is Trainyard's own: let the nodes reach the registry, or give the operator another `--image`"
                    .into()
            }
            Reason::ImagePullFailed => {
                format!("correct `{image}`, or let the nodes reach the registry and log in to it")
            }
            Reason::ContainerConfigError => "create what the message names".into(),
            Reason::ContainerStartFailed => {
                format!("correct `{command}` or `{image}`")
            }
            Reason::GpuUnhealthy => format!(
                "delete the pod, which gets another GPU; `trainyard doctor pod/{pod}` says what its node has"
            ),
            Reason::OutOfMemory => "raise `spec.resources.memory`".into(),
            Reason::StartupProbeFailed | Reason::CrashLoop => {
                format!("see `kubectl logs {pod} -c {container} --previous`")
            }
            Reason::Unschedulable => format!(
                "{}; `trainyard doctor pod/{pod}` says what would let it in",
                mend_placement(detail)
            ),
            Reason::VolumeMountFailed => "create or mend the volume that the message names".into(),
            Reason::SandboxFailed => {
                "look at the node's container runtime and network plugin".into()
            }
            Reason::PodFailed => {
                format!("its {maker} makes another one; look at the node if it goes on")
            }
            Reason::ProbeFailing => {
                format!("if it goes on, see `kubectl logs {pod}`")
            }
            Reason::InvalidSpec
            | Reason::NotSupported
            | Reason::RevisionMissing
            | Reason::NameConflict
            | Reason::ApplyRejected
            | Reason::ProgressDeadlineExceeded => "see its events".into(),
        }
    }
}

/// Whether a container runs Trainyard's image, whatever the manifest says.
fn is_ours(container: &str) -> bool {
    [FETCH_CONTAINER, trainyard_plan::kubernetes::AGENT_CONTAINER].contains(&container)
        || container.starts_with(trainyard_plan::kubernetes::DATA_CONTAINER)
}

/// What would let the scheduler find a node, by the words of its own message.
fn mend_placement(detail: &str) -> &'static str {
    if detail.contains("persistentvolumeclaim") {
        "create the claim, or correct `spec.model.uri`"
    } else if detail.contains("nvidia.com/") || detail.contains("amd.com/gpu") {
        "add GPU nodes, free a GPU, or ask for less in `spec.resources.gpu`"
    } else if detail.contains("Insufficient") || detail.contains("Too many pods") {
        "add nodes, or ask for less in `spec.resources`"
    } else if detail.contains("untolerated taint") {
        "add `spec.placement.tolerations`, or nodes without the taint"
    } else if detail.contains("node affinity") || detail.contains("node selector") {
        "correct `spec.placement.nodeSelector`, or label a node"
    } else if detail.contains("topology spread") || detail.contains("anti-affinity") {
        "add nodes, or set `spec.placement.spread: none`"
    } else {
        "see `kubectl describe pod`"
    }
}

/// What is wrong with a pod; none if it is well, or on its way.
pub(crate) fn of_pod(pod: &Pod) -> Option<Trouble> {
    let trouble = by_status(pod)?;
    Some(Trouble { diagnosis: diagnosis(pod), ..trouble })
}

/// What the doctor finds where it sees the pod and nothing else: this operator may not read nodes,
/// logs or what other namespaces have.
fn diagnosis(pod: &Pod) -> Option<&'static str> {
    let objects = vec![serde_json::to_value(pod).ok()?];
    let snapshot = trainyard_diagnose::Snapshot { objects, ..Default::default() };
    let answer = trainyard_diagnose::diagnose(&snapshot, &trainyard_diagnose::Focus::default());
    answer.findings.first().map(|finding| finding.diagnosis)
}

fn by_status(pod: &Pod) -> Option<Trouble> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        let said = [status.reason.as_deref(), status.message.as_deref()];
        let detail: Vec<&str> = said.into_iter().flatten().collect();
        return Some(Trouble::new(Reason::PodFailed, name, &detail.join(": ")));
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let detail = condition.message.as_deref().unwrap_or_default();
        return Some(Trouble::new(Reason::Unschedulable, name, first_sentence(detail)));
    }
    let init = status.init_container_statuses.iter().flatten();
    let main = status.container_statuses.iter().flatten();
    let found = init
        .filter_map(|container| of_container(name, container, true))
        .chain(main.filter_map(|container| of_container(name, container, false)));
    let sick = status.container_statuses.iter().flatten().filter_map(|it| of_devices(name, it));
    found.chain(sick).min_by_key(|trouble| trouble.reason)
}

/// A device of a container that the kubelet calls unhealthy, which says so where the feature
/// `ResourceHealthStatus` is on. The container may not know it yet: it runs until it uses the GPU.
fn of_devices(pod: &str, status: &ContainerStatus) -> Option<Trouble> {
    let resources = status.allocated_resources_status.iter().flatten();
    let broken = resources.flat_map(|resource| {
        let devices = resource.resources.iter().flatten();
        let broken = devices.filter(|device| device.health.as_deref() == Some("Unhealthy"));
        broken.map(|device| format!("`{}` of `{}`", device.resource_id, resource.name))
    });
    let broken: Vec<String> = broken.collect();
    let trouble = || Trouble::new(Reason::GpuUnhealthy, pod, &broken.join(", "));
    (!broken.is_empty()).then(|| trouble().in_container(status))
}

/// The scheduler appends what claims and preemption could not do, which is noise to who reads the
/// cause: `0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: …`.
fn first_sentence(message: &str) -> &str {
    message.split(". ").next().unwrap_or(message).trim_end_matches(['.', ' '])
}

fn of_container(pod: &str, status: &ContainerStatus, is_init: bool) -> Option<Trouble> {
    if status.ready {
        return None;
    }
    let state = status.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let detail = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    let make = |reason, detail: &str| Some(Trouble::new(reason, pod, detail).in_container(status));
    match waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => {
            return make(Reason::ImagePullFailed, without_back_off(detail));
        }
        "CreateContainerConfigError" => return make(Reason::ContainerConfigError, detail),
        "CreateContainerError" | "RunContainerError" | "PostStartHookError" => {
            return make(Reason::ContainerStartFailed, detail);
        }
        _ => {}
    }
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = state.and_then(|state| state.terminated.as_ref()).or(last)?;
    let mut trouble = of_end(pod, status, ended, is_init)?;
    trouble.exit_code = Some(ended.exit_code);
    Some(trouble.in_container(status))
}

fn of_end(
    pod: &str,
    status: &ContainerStatus,
    ended: &ContainerStateTerminated,
    is_init: bool,
) -> Option<Trouble> {
    let said = ended.message.as_deref().map(last_lines).unwrap_or_default();
    if is_init && ended.exit_code == 0 {
        return None;
    }
    if is_init && status.name == FETCH_CONTAINER {
        let (reason, text) = of_fetch(ended.exit_code, &said);
        return Some(Trouble::new(reason, pod, text));
    }
    let reason = ended.reason.as_deref().unwrap_or_default();
    if reason == "OOMKilled" {
        return Some(Trouble::new(Reason::OutOfMemory, pod, ""));
    }
    if reason == "ContainerCannotRun" || reason == "StartError" {
        return Some(Trouble::new(Reason::ContainerStartFailed, pod, &said));
    }
    // Ended by SIGKILL or SIGTERM, or obediently, and never started up: the kubelet did it, since
    // a program that ends by itself without an error has no reason to.
    let was_told = matches!(ended.exit_code, 0 | 137 | 143);
    if status.restart_count > 0 && status.started == Some(false) && was_told {
        return Some(Trouble::new(Reason::StartupProbeFailed, pod, &said));
    }
    Some(Trouble::new(Reason::CrashLoop, pod, &said))
}

/// Which way `trainyard fetch` failed: its exit code says it, and its termination message is
/// `REASON: TEXT`.
fn of_fetch(exit_code: i32, said: &str) -> (Reason, &str) {
    let reason = match exit_code {
        3 => Reason::ModelNotFound,
        4 => Reason::ModelForbidden,
        5 => Reason::ModelMismatch,
        7 => Reason::ModelUnavailable,
        _ => Reason::ModelFetchFailed,
    };
    let text = said.split_once(": ").filter(|(word, _)| word.chars().all(char::is_alphabetic));
    (reason, text.map_or(said, |(_, text)| text))
}

/// The cause behind `Back-off pulling image "x": ErrImagePull: …`.
fn without_back_off(detail: &str) -> &str {
    let Some(rest) = detail.strip_prefix("Back-off pulling image ") else {
        return detail;
    };
    rest.split_once(": ")
        .map_or("", |(_, cause)| cause.strip_prefix("ErrImagePull: ").unwrap_or(cause))
}

/// What kept the Deployment from creating pods: the message of its `ReplicaFailure` condition.
pub(crate) fn of_create_failure(message: &str) -> Trouble {
    let reason = if message.contains("exceeded quota") || message.contains("failed quota") {
        Reason::QuotaExceeded
    } else if message.contains("forbidden") || message.contains("admission webhook") {
        Reason::PodForbidden
    } else {
        Reason::PodCreateFailed
    };
    let diagnosis = match reason {
        Reason::QuotaExceeded => Some("D10"),
        Reason::PodForbidden => Some("D11"),
        _ => None,
    };
    Trouble { diagnosis, ..Trouble::new(reason, "", &without_pod_name(message)) }
}

/// `pods "iris-6d4cf56db6-xzk9p" is forbidden: …` names a pod that never was, a new one each time.
fn without_pod_name(message: &str) -> String {
    let Some((start, rest)) = message.split_once("pods \"") else {
        return message.to_owned();
    };
    match rest.split_once("\" ") {
        Some((_, rest)) => format!("{start}{rest}"),
        None => message.to_owned(),
    }
}

/// What a warning of the kubelet says about a pod whose status says nothing.
pub(crate) fn of_event(pod: &str, reason: &str, note: &str) -> Option<Trouble> {
    let reason = match reason {
        "Unhealthy" => Reason::ProbeFailing,
        "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => Reason::VolumeMountFailed,
        "FailedCreatePodSandBox" | "FailedSync" => Reason::SandboxFailed,
        _ => return None,
    };
    Some(Trouble::new(reason, pod, note))
}

/// The end of what a container wrote, in one line.
fn last_lines(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut from = lines.len();
    let mut length = 0;
    while from > 0 && length + lines[from - 1].len() <= LONGEST_DETAIL {
        length += lines[from - 1].len() + 3;
        from -= 1;
    }
    // At least the last line, whose end `shorten` cuts.
    lines.get(from.min(lines.len().saturating_sub(1))..).unwrap_or_default().join(" | ")
}

/// One line of bounded length, cut between characters.
fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= LONGEST_DETAIL {
        return line;
    }
    let end = (0..=LONGEST_DETAIL).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", line.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests;
