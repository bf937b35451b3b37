//! What is kept of a Deployment beside its content.

use serde_json::Value;

use crate::names::{FIELD_MANAGER, REVISION_LABEL};

/// How far a Deployment is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DeploymentFacts {
    /// The revision of its template.
    pub(crate) revision: Box<str>,
    /// Its status tells about its newest spec.
    pub(crate) is_observed: bool,
    /// Replicas that it should have.
    pub(crate) wanted: u32,
    pub(crate) replicas: u32,
    pub(crate) updated: u32,
    pub(crate) ready: u32,
    /// The reason of its condition `Progressing`.
    pub(crate) progress: Progress,
    /// Why pods cannot be created.
    pub(crate) create_failure: Option<Box<str>>,
    /// We are the one who says how many replicas there are.
    pub(crate) replicas_are_ours: bool,
}

/// What a Deployment says of its rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Progress {
    #[default]
    UnderWay,
    Complete,
    DeadlineExceeded,
}

impl DeploymentFacts {
    /// Reads a Deployment; what is missing counts as zero.
    pub(crate) fn of(object: &Value) -> Self {
        let number = |pointer: &str| {
            object.pointer(pointer).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok())
        };
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
        let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64);
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let condition = |name: &str| {
            conditions.into_iter().flatten().find(|condition| condition["type"] == name)
        };
        let progress = match condition("Progressing").and_then(|c| c["reason"].as_str()) {
            Some("NewReplicaSetAvailable") => Progress::Complete,
            Some("ProgressDeadlineExceeded") => Progress::DeadlineExceeded,
            _ => Progress::UnderWay,
        };
        let create_failure = condition("ReplicaFailure")
            .filter(|condition| condition["status"] == "True")
            .and_then(|condition| condition["message"].as_str())
            .map(Into::into);
        let labels = object.pointer("/spec/template/metadata/labels");
        let revision = labels.and_then(|labels| labels[REVISION_LABEL].as_str());
        Self {
            revision: revision.unwrap_or_default().into(),
            is_observed: observed >= generation,
            wanted: number("/spec/replicas").unwrap_or(1),
            replicas: number("/status/replicas").unwrap_or(0),
            updated: number("/status/updatedReplicas").unwrap_or(0),
            ready: number("/status/readyReplicas").unwrap_or(0),
            progress,
            create_failure,
            replicas_are_ours: replicas_are_ours(object),
        }
    }
}

impl DeploymentFacts {
    /// Every replica of the newest template was ready at once.
    pub(crate) fn is_complete(&self) -> bool {
        self.progress == Progress::Complete
    }

    /// No replica became ready for as long as `progressDeadlineSeconds`.
    pub(crate) fn is_late(&self) -> bool {
        self.progress == Progress::DeadlineExceeded
    }
}

fn replicas_are_ours(object: &Value) -> bool {
    let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    managers.into_iter().flatten().any(|entry| {
        entry["manager"] == FIELD_MANAGER
            && entry["operation"] == "Apply"
            && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_on_its_way() {
        let facts = DeploymentFacts::of(&json!({
            "metadata": {"generation": 3, "managedFields": [
                {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "trainyard", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}},
            ]},
            "spec": {"replicas": 4, "template": {"metadata": {"labels": {REVISION_LABEL: "iris-1"}}}},
            "status": {
                "observedGeneration": 3, "replicas": 5, "updatedReplicas": 2, "readyReplicas": 4,
                "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
                    {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"},
                ],
            },
        }));
        let expected = DeploymentFacts {
            revision: "iris-1".into(),
            is_observed: true,
            wanted: 4,
            replicas: 5,
            updated: 2,
            ready: 4,
            progress: Progress::DeadlineExceeded,
            create_failure: Some("exceeded quota".into()),
            replicas_are_ours: false,
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_new_deployment() {
        let facts = DeploymentFacts::of(&json!({
            "metadata": {"generation": 1, "managedFields": [
                {"manager": "trainyard", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            ]},
        }));
        let expected =
            DeploymentFacts { wanted: 1, replicas_are_ours: true, ..DeploymentFacts::default() };
        assert_eq!(facts, expected);
    }
}
