//! Where diagnoses put what they find.

use serde_json::Value;

use crate::answer::{Confidence, Evidence, Finding, Fix, ObjectRef};
use crate::diagnosis::Diagnosis;
use crate::view::{Event, Object, text};

/// Longest text of a foreign party in evidence, in bytes.
const LONGEST: usize = 600;

/// Collects what one diagnosis finds.
pub(crate) struct Report {
    diagnosis: &'static Diagnosis,
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(diagnosis: &'static Diagnosis) -> Self {
        Self { diagnosis, findings: Vec::new() }
    }

    /// Reports an object. It is `Certain` unless said otherwise.
    pub(crate) fn at(&mut self, object: ObjectRef, message: impl Into<String>) -> &mut Finding {
        self.findings.push(Finding {
            diagnosis: self.diagnosis.id,
            title: self.diagnosis.title(),
            level: self.diagnosis.level,
            confidence: Confidence::Certain,
            object,
            also: Vec::new(),
            message: message.into(),
            evidence: Vec::new(),
            fix: Vec::new(),
            rules: self.diagnosis.rules,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }
}

impl Finding {
    pub(crate) fn sure(&mut self, confidence: Confidence) -> &mut Self {
        self.confidence = confidence;
        self
    }

    pub(crate) fn also(&mut self, objects: impl IntoIterator<Item = ObjectRef>) -> &mut Self {
        self.also.extend(objects);
        self
    }

    /// A field of an object, if it is there.
    pub(crate) fn field(&mut self, object: Object<'_>, pointer: &str) -> &mut Self {
        if let Some(value) = object.at(pointer) {
            let path = pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/");
            self.value(object, &path, value.clone());
        }
        self
    }

    /// A value that stands somewhere in an object.
    pub(crate) fn value(
        &mut self,
        object: Object<'_>,
        path: &str,
        value: impl Into<Value>,
    ) -> &mut Self {
        let value = match value.into() {
            Value::String(text) => Value::String(shorten(&text)),
            other => other,
        };
        self.evidence.push(Evidence::Field {
            object: object.reference(),
            path: path.to_owned(),
            value,
        });
        self
    }

    /// What the scheduler says of a pod.
    pub(crate) fn unscheduled(&mut self, pod: Object<'_>) -> &mut Self {
        if let Some(condition) = pod.condition("PodScheduled") {
            let message = text(condition, "/message");
            self.value(pod, "status.conditions.PodScheduled.message", message);
        }
        self
    }

    pub(crate) fn event(&mut self, event: &Event<'_>) -> &mut Self {
        self.evidence.push(Evidence::Event {
            object: event.about.clone(),
            reason: event.reason.to_owned(),
            message: shorten(event.message),
            count: event.count,
        });
        self
    }

    pub(crate) fn evidence(&mut self, evidence: Evidence) -> &mut Self {
        self.evidence.push(evidence);
        self
    }

    pub(crate) fn because(&mut self, text: impl Into<String>) -> &mut Self {
        self.evidence.push(Evidence::Reasoning { text: text.into() });
        self
    }

    pub(crate) fn run(&mut self, command: impl Into<String>) -> &mut Self {
        self.fix.push(Fix::Command { command: command.into() });
        self
    }

    pub(crate) fn advise(&mut self, text: impl Into<String>) -> &mut Self {
        self.fix.push(Fix::Advice { text: text.into() });
        self
    }

    pub(crate) fn mend(&mut self, fix: Fix) -> &mut Self {
        self.fix.push(fix);
        self
    }
}

/// One line of bounded length, cut between characters.
pub(crate) fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= LONGEST {
        return line;
    }
    let end = (0..=LONGEST).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", line.get(..end).unwrap_or_default())
}
