//! What is kept of a pod: a hundred bytes while all is well.

use k8s_openapi::api::core::v1::Pod;

use super::look::LookFacts;
use super::trouble::{self, Trouble};
use super::worker::{self, WorkerFacts};
use crate::names::{CANDIDATE, REVISION_LABEL, TRACK_LABEL};

/// One pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodFacts {
    pub(crate) name: Box<str>,
    pub(crate) resource_version: u64,
    /// The revision that it runs; none if its label is gone.
    pub(crate) revision: Option<Box<str>>,
    /// It is of the Deployment beside the service's own.
    pub(crate) is_candidate: bool,
    /// It passes its readiness probe and gets requests.
    pub(crate) ready: bool,
    /// It was told to end.
    pub(crate) ending: bool,
    /// It has ended and will not start again.
    pub(crate) ended: bool,
    /// Creation, in seconds since the epoch.
    pub(crate) created: i64,
    pub(crate) trouble: Option<Box<Trouble>>,
    /// Of a job's worker.
    pub(crate) worker: Option<Box<WorkerFacts>>,
    /// Of the pod that looks before a job's workers are made.
    pub(crate) look: Option<Box<LookFacts>>,
}

impl PodFacts {
    pub(crate) fn of(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        let status = pod.status.as_ref();
        let ready = status
            .and_then(|status| status.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let ending = metadata.deletion_timestamp.is_some();
        let labels = metadata.labels.as_ref();
        let label = labels.and_then(|labels| labels.get(REVISION_LABEL));
        let track = labels.and_then(|labels| labels.get(TRACK_LABEL));
        let ended = matches!(phase, "Succeeded" | "Failed");
        let look = LookFacts::of(pod).map(Box::new);
        let worker = WorkerFacts::of(pod).filter(|_| look.is_none()).map(Box::new);
        // How they ended is their job's affair.
        let is_of_a_job = worker.is_some() || look.is_some();
        let is_quiet = ending || is_of_a_job && (ended || status.is_some_and(worker::has_ended));
        Self {
            name: metadata.name.as_deref().unwrap_or_default().into(),
            resource_version: crate::world::resource_version(metadata),
            revision: label.map(|revision| revision.as_str().into()),
            is_candidate: track.is_some_and(|track| track == CANDIDATE),
            ready: ready && !ending,
            ending,
            ended,
            created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            trouble: if is_quiet { None } else { trouble::of_pod(pod).map(Box::new) },
            worker,
            look,
        }
    }

    /// Keeps what was known of the same trouble: a container that waits for its next start says
    /// less than the one that has just failed, and a text that changes is a write each time.
    pub(crate) fn after(mut self, before: &Self) -> Self {
        if let (Some(now), Some(then)) = (&mut self.trouble, &before.trouble)
            && now.reason == then.reason
            && now.container == then.container
            && now.exit_code == then.exit_code
            && !then.detail.is_empty()
        {
            now.detail.clone_from(&then.detail);
            now.diagnosis = now.diagnosis.or(then.diagnosis);
        }
        self
    }

    /// It counts as a replica.
    pub(crate) fn is_replica(&self) -> bool {
        !self.ending && !self.ended
    }
}
