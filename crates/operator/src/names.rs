//! Names that the operator leaves in a cluster.

/// The field manager of every object that is applied, and the reporting controller of events.
pub const FIELD_MANAGER: &str = "trainyard";

/// Owns a Deployment's `replicas` from the moment that the operator lets go of them until an
/// autoscaler takes them, so that the API server does not reset them in between.
pub(crate) const HANDOVER_MANAGER: &str = "trainyard-handover";

/// The field manager of a rollback.
pub(crate) const ROLLBACK_MANAGER: &str = "trainyard-rollback";

/// Digest of what was applied last. An object whose digest differs is applied again, so that
/// fields which are wanted no longer go.
pub(crate) const APPLIED_ANNOTATION: &str = "trainyard.dev/applied";

/// The revision that a person went back to: it takes over without steps and pauses.
pub(crate) const ROLLBACK_ANNOTATION: &str = "trainyard.dev/rolled-back-to";

/// Which tool made an object. What has another value here is none of ours.
pub(crate) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
pub(crate) const MANAGED_BY: &str = "trainyard";

/// The service that an object belongs to.
pub(crate) const SERVICE_LABEL: &str = "trainyard.dev/service";

/// Which of a service's Deployments a pod is of.
pub(crate) const TRACK_LABEL: &str = trainyard_plan::kubernetes::TRACK;
pub(crate) const CANDIDATE: &str = "candidate";

/// What the candidate's objects have behind the service's name.
pub(crate) const CANDIDATE_SUFFIX: &str = "-candidate";

/// The revision that a pod runs.
pub(crate) const REVISION_LABEL: &str = "trainyard.dev/revision";

/// Selects what the operator made.
pub(crate) fn managed_by_selector() -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY}")
}

/// The Lease that operators elect by.
pub(crate) const LEASE: &str = "trainyard-operator";

/// What the gateway of an installation is called: its Deployment, its Service, its account.
pub(crate) const GATEWAY: &str = "trainyard-gateway";

/// The Service at which the operator finds the gateways' reports, and its port's name.
pub(crate) const GATEWAY_REPORT: &str = "trainyard-gateway-report";
pub(crate) const REPORT_PORT_NAME: &str = "report";
