//! Why a person did not get what was asked for, and what to do about it.

use std::time::Duration;

use kube_client::Error;
use kube_client::core::Status;

use crate::history::RollbackError;

/// Why a cluster did not do what a person asked.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// In the words of Kubernetes, which people know and scripts look for.
    #[error("NotFound: {resource} \"{name}\" not found in the namespace `{namespace}`")]
    NotFound { resource: &'static str, name: String, namespace: String, hint: Option<String> },
    #[error("Forbidden: {message}")]
    Forbidden { message: String, right: Option<Right> },
    #[error("the cluster does not know Trainyard's resources")]
    NotInstalled,
    #[error("cannot {what}: {reason}: {message}")]
    Refused { what: String, reason: String, message: String },
    #[error("cannot {what}: the API server does not answer")]
    Unreachable { what: String, source: Box<Error> },
    #[error("cannot {what}: no answer within {} s", waited.as_secs())]
    Silent { what: String, waited: Duration },
    #[error("the pod `{pod}`, which was to look at the volume, did not run: {reason}")]
    PodFailed { pod: String, reason: String },
    #[error(transparent)]
    Rollback(#[from] RollbackError),
}

/// A right that somebody lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    pub verb: String,
    /// Plural, with its subresource if it is one.
    pub resource: String,
    pub group: String,
    /// None: in the whole cluster.
    pub namespace: Option<String>,
}

/// For one request.
const DEADLINE: Duration = Duration::from_secs(30);

impl ConsoleError {
    pub(super) fn of(what: impl Into<String>, error: Error) -> Self {
        match error {
            Error::Api(status) => Self::of_status(what.into(), &status),
            other => Self::Unreachable { what: what.into(), source: Box::new(other) },
        }
    }

    pub(super) fn of_status(what: String, status: &Status) -> Self {
        let message = status.message.clone();
        match status.code {
            403 if status.reason != "AlreadyExists" => {
                Self::Forbidden { right: Right::of(&message), message }
            }
            // An object that is not there has a name; this is the whole resource.
            404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
                Self::NotInstalled
            }
            _ => Self::Refused { what, reason: status.reason.clone(), message },
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotFound { hint, .. } => hint.clone(),
            Self::Forbidden { right, .. } => right.as_ref().map(Right::help),
            Self::NotInstalled => Some(
                "`trainyard install` puts Trainyard into the cluster; `--context NAME` chooses \
                 another one"
                    .to_owned(),
            ),
            Self::Unreachable { .. } | Self::Silent { .. } => Some(
                "`kubectl cluster-info` tells whether the cluster is there; `--context NAME` \
                 chooses another one"
                    .to_owned(),
            ),
            Self::Refused { .. } | Self::PodFailed { .. } | Self::Rollback(_) => None,
        }
    }
}

impl Right {
    /// Reads what the API server says: `… cannot list resource "pods" in API group "" in the
    /// namespace "x"`, or `… at the cluster scope`.
    fn of(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once(" cannot ")?;
        let (verb, rest) = rest.split_once(" resource ")?;
        let (resource, rest) = quoted(rest)?;
        let (_, rest) = rest.split_once("in API group ")?;
        let (group, rest) = quoted(rest)?;
        let namespace = rest.split_once("in the namespace ").and_then(|(_, rest)| quoted(rest));
        Some(Self {
            verb: verb.trim().to_owned(),
            resource: resource.to_owned(),
            group: group.to_owned(),
            namespace: namespace.map(|(namespace, _)| namespace.to_owned()),
        })
    }

    /// The right in one line, such as `list pods`.
    pub fn words(&self) -> String {
        let Self { verb, resource, group, .. } = self;
        if group.is_empty() {
            format!("{verb} {resource}")
        } else {
            format!("{verb} {resource}.{group}")
        }
    }

    fn help(&self) -> String {
        let Self { verb, resource, group, namespace } = self;
        let rule = format!(
            "{{apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [\"{verb}\"]}}"
        );
        match namespace {
            Some(namespace) => {
                format!("ask for a Role in the namespace `{namespace}` with the rule {rule}")
            }
            None => {
                format!("name a namespace with `-n`, or ask for a ClusterRole with the rule {rule}")
            }
        }
    }
}

/// What stands in the quotes that a text begins with, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.trim_start().strip_prefix('"')?.split_once('"')
}

/// Runs one request.
pub(super) async fn ask<T>(
    what: &str,
    request: impl Future<Output = kube_client::Result<T>>,
) -> Result<T, ConsoleError> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(answer) => answer.map_err(|error| ConsoleError::of(what, error)),
        Err(_) => Err(ConsoleError::Silent { what: what.to_owned(), waited: DEADLINE }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: serde_json::Value) -> ConsoleError {
        let status: Status = serde_json::from_value(status).expect("a status");
        ConsoleError::of("list pods", Error::Api(Box::new(status)))
    }

    #[test]
    fn the_missing_right_is_named() {
        let said = "pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"models\"";
        let error = of(json!({"code": 403, "reason": "Forbidden", "message": said}));
        assert_eq!(error.to_string(), format!("Forbidden: {said}"));
        let help = error.help().unwrap();
        assert!(help.contains("`models`") && help.contains("verbs: [\"list\"]"), "{help}");

        let said = "modelservices.trainyard.dev is forbidden: User \"ann\" cannot patch resource \"modelservices/scale\" in API group \"trainyard.dev\" at the cluster scope";
        let error = of(json!({"code": 403, "message": said}));
        let ConsoleError::Forbidden { right: Some(right), .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(right.words(), "patch modelservices/scale.trainyard.dev");
        assert_eq!(right.namespace, None);
        assert!(error.help().unwrap().contains("`-n`"));
        // Webhooks and quotas say no in their own words.
        let error = of(json!({"code": 403, "message": "exceeded quota"}));
        assert_eq!(error.help(), None);
    }

    #[test]
    fn a_cluster_without_trainyard_is_not_a_missing_service() {
        let gone = json!({"code": 404, "reason": "NotFound", "message": "the server could not find the requested resource"});
        assert!(matches!(of(gone), ConsoleError::NotInstalled));
        let gone = json!({"code": 404, "reason": "NotFound", "message": "no", "details": {"name": "iris"}});
        assert!(matches!(of(gone), ConsoleError::Refused { .. }));
    }
}
