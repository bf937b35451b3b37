//! Labels and metadata that all objects have.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::Context;
use super::settings::Track;

/// Label of every object: the `ModelService` that it is of.
pub const SERVICE: &str = "trainyard.dev/service";
/// Label of every object of a job, and of its pods: the `TrainingJob` that it is of.
pub const JOB: &str = "trainyard.dev/job";
/// Label of a job's pods and of their Job: which start of all workers they are of, counted from 1.
pub const ATTEMPT: &str = "trainyard.dev/attempt";
/// Label of the pod that looks whether what a job's workers need is there, before they are made.
pub const PREFLIGHT: &str = "trainyard.dev/preflight";
/// Label of pods, and of what selects them: `stable` or `candidate`.
pub const TRACK: &str = "trainyard.dev/track";
/// Label of pods and Deployments: the revision's name.
pub const REVISION: &str = "trainyard.dev/revision";
/// Label of namespaces: the `Workspace` that they belong to.
pub const WORKSPACE: &str = "trainyard.dev/workspace";
/// Annotation of pods: a change of it starts new ones.
pub(super) const CONFIG_HASH: &str = "trainyard.dev/config-hash";

pub(super) type Texts = BTreeMap<String, String>;

pub(super) fn texts<const N: usize>(pairs: [(&str, &str); N]) -> Texts {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

impl Context<'_> {
    fn track_name(&self) -> &'static str {
        match self.track {
            Track::Stable { .. } => "stable",
            Track::Candidate { .. } => "candidate",
        }
    }

    pub(super) fn namespace(&self) -> Option<String> {
        self.plan.namespace.clone().or_else(|| self.settings.namespace.clone())
    }

    /// Labels of every object of the service.
    pub(super) fn labels(&self) -> Texts {
        texts([
            ("app.kubernetes.io/name", self.plan.runtime.as_str()),
            ("app.kubernetes.io/instance", &self.plan.name),
            ("app.kubernetes.io/component", "model-server"),
            ("app.kubernetes.io/part-of", "trainyard"),
            ("app.kubernetes.io/managed-by", "trainyard"),
            (SERVICE, &self.plan.name),
        ])
    }

    /// Labels of the track's own pods and Deployment.
    pub(super) fn track_labels(&self) -> Texts {
        let mut labels = self.labels();
        labels.extend(self.track_selector());
        labels.insert(REVISION.to_owned(), self.plan.revision.to_string());
        labels
    }

    /// What selects the track's pods. It must never change: a Deployment's selector cannot.
    pub(super) fn track_selector(&self) -> Texts {
        texts([(SERVICE, &self.plan.name), (TRACK, self.track_name())])
    }

    /// Selects the pods of all tracks.
    pub(super) fn service_selector(&self) -> LabelSelector {
        selector(texts([(SERVICE, &self.plan.name)]))
    }

    pub(super) fn metadata(&self, name: String, labels: Texts) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: self.namespace(),
            labels: Some(labels),
            owner_references: self.settings.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }
}

pub(super) fn selector(labels: Texts) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}
