//! What is kept of a Kubernetes Job beside its content.

use serde_json::Value;

use crate::names::QUOTA_ANNOTATION;

/// How far a Job is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct JobFacts {
    /// Its pods are to be gone, and no new ones made.
    pub(crate) asked_to_suspend: bool,
    /// Its controller makes no pods. It says so for a moment after it is not asked to any more.
    pub(crate) is_suspended: bool,
    pub(crate) is_complete: bool,
    /// Why it failed, if it did: reason and message of its condition.
    pub(crate) failed: Option<(Box<str>, Box<str>)>,
    /// Pods that have not ended.
    pub(crate) active: u32,
    /// Pods that there are to be: Kueue may have lowered it.
    pub(crate) parallelism: u32,
    /// What its queue gave the training job, as its pods say it.
    pub(crate) quota: Option<Box<str>>,
}

impl JobFacts {
    /// Reads a Job; what is missing counts as zero.
    pub(crate) fn of(object: &Value) -> Self {
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let holds = |name: &str| {
            let mut all = conditions.into_iter().flatten();
            all.find(|it| it["type"] == name && it["status"] == "True")
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().into();
        let number = |at: &str| {
            let found = object.pointer(at).and_then(Value::as_u64);
            found.and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
        };
        Self {
            asked_to_suspend: object.pointer("/spec/suspend") == Some(&Value::Bool(true)),
            is_suspended: holds("Suspended").is_some(),
            is_complete: holds("Complete").is_some(),
            failed: holds("Failed").map(|it| (text(&it["reason"]), text(&it["message"]))),
            active: number("/status/active"),
            parallelism: number("/spec/parallelism"),
            quota: object
                .pointer("/spec/template/metadata/annotations")
                .and_then(|annotations| annotations[QUOTA_ANNOTATION].as_str())
                .map(Into::into),
        }
    }

    /// It makes no pods, and will not until somebody wants it to.
    pub(crate) fn rests(&self) -> bool {
        self.asked_to_suspend && self.is_suspended
    }

    /// Its controller does nothing more about it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_complete || self.failed.is_some()
    }
}

#[test]
fn conditions_of_a_job() {
    let of = |status: Value| JobFacts::of(&serde_json::json!({"spec": {}, "status": status}));
    assert_eq!(of(Value::Null), JobFacts::default());
    let condition = |kind: &str| serde_json::json!({"type": kind, "status": "True", "reason": "R", "message": "m"});
    assert!(of(serde_json::json!({"conditions": [condition("Complete")]})).is_over());
    let failed = of(serde_json::json!({"conditions": [condition("Failed")], "active": 2}));
    assert_eq!((failed.failed, failed.active), (Some(("R".into(), "m".into())), 2));
}
