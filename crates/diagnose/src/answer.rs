//! What the doctor says.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;
use trainyard_rules::Level;

use crate::patch::Patch;

/// All that is wrong, and what nobody could look at.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Answer {
    /// The worst first; within a level in the order of the decision tree.
    pub findings: Vec<Finding>,
    pub unknown: Vec<Unknown>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `D03`.
    pub diagnosis: &'static str,
    pub title: &'static str,
    pub level: Level,
    pub confidence: Confidence,
    pub object: ObjectRef,
    /// Others that suffer from the same, such as the object's replicas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<ObjectRef>,
    /// What is wrong and why; lower case, no full stop, names and values in backquotes.
    pub message: String,
    /// From what is seen first to its cause.
    pub evidence: Vec<Evidence>,
    pub fix: Vec<Fix>,
    /// Lint rules that find the mistake before it reaches a cluster.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub rules: &'static [&'static str],
}

/// A check that could not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unknown {
    pub diagnosis: &'static str,
    pub title: &'static str,
    pub reason: String,
    /// Nobody tried to read what it needs, as opposed to a read that failed.
    pub not_asked: bool,
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// One of several causes.
    Possible,
    /// The signature has hardly another cause.
    Likely,
    /// It follows from what was read.
    Certain,
}

impl Confidence {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// An object by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    pub kind: String,
    /// Empty for what is in no namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
}

impl ObjectRef {
    pub(crate) fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// `Pod/models/iris-0`, as the linter writes objects.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        if namespace.is_empty() {
            write!(f, "{kind}/{name}")
        } else {
            write!(f, "{kind}/{namespace}/{name}")
        }
    }
}

/// One link of the chain of evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Evidence {
    Field {
        object: ObjectRef,
        path: String,
        value: Value,
    },
    Event {
        object: ObjectRef,
        reason: String,
        message: String,
        count: i64,
    },
    Log {
        namespace: String,
        pod: String,
        container: String,
        previous: bool,
        line: String,
    },
    Metric {
        name: String,
        labels: BTreeMap<String, String>,
        value: f64,
    },
    Probe {
        node: String,
        path: String,
        value: Value,
    },
    /// What follows from the above.
    Reasoning {
        text: String,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { object, path, value } => write!(f, "{object} {path} = {}", plain(value)),
            Self::Event { object, reason, message, count } => {
                let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
                write!(f, "{object} event {reason}{times}: {message}")
            }
            Self::Log { namespace, pod, container, previous, line } => {
                let which = if *previous { " before its restart" } else { "" };
                write!(f, "Pod/{namespace}/{pod} log of `{container}`{which}: {line}")
            }
            Self::Metric { name, labels, value } => {
                let labels: Vec<String> =
                    labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
                write!(f, "metric {name}{{{}}} = {value}", labels.join(","))
            }
            Self::Probe { node, path, value } => {
                write!(f, "probe of Node/{node} {path} = {}", plain(value))
            }
            Self::Reasoning { text } => write!(f, "{text}"),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// How to mend it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "how", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Fix {
    /// To be run as it stands.
    Command { command: String },
    /// A change of an object, and the command that makes it.
    Patch {
        object: ObjectRef,
        #[serde(flatten)]
        patch: Patch,
        command: String,
    },
    /// What no command can do.
    Advice { text: String },
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { command } | Self::Patch { command, .. } => f.write_str(command),
            Self::Advice { text } => f.write_str(text),
        }
    }
}
