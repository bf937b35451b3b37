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

/// What a worker's pod was given by its job's queue, in JSON.
pub(crate) const QUOTA_ANNOTATION: &str = "trainyard.dev/quota";

/// Which tool made an object. What has another value here is none of ours.
pub(crate) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
pub(crate) const MANAGED_BY: &str = "trainyard";

/// The service that an object belongs to.
pub(crate) use trainyard_plan::kubernetes::SERVICE as SERVICE_LABEL;

/// The training job that an object belongs to, and which start of its workers.
pub(crate) use trainyard_plan::kubernetes::{ATTEMPT as ATTEMPT_LABEL, JOB as JOB_LABEL};

/// The pod that looks before a training job's workers are made.
pub(crate) use trainyard_plan::kubernetes::PREFLIGHT as PREFLIGHT_LABEL;

/// Which of a service's Deployments a pod is of.
pub(crate) const TRACK_LABEL: &str = trainyard_plan::kubernetes::TRACK;
pub(crate) const CANDIDATE: &str = "candidate";

/// What the candidate's objects have behind the service's name.
pub(crate) const CANDIDATE_SUFFIX: &str = "-candidate";

/// The revision that a pod runs.
pub(crate) use trainyard_plan::kubernetes::REVISION as REVISION_LABEL;

/// Selects what the operator made.
pub(crate) fn managed_by_selector() -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY}")
}

/// What the operator of an installation is called: its Deployment, its account, its Role, its Lease.
pub const OPERATOR: &str = "trainyard-operator";

/// The operator's Role and binding for its Lease.
pub(crate) const ELECTION: &str = "trainyard-operator-election";

/// What the gateway of an installation is called: its Deployment, its Service, its account.
pub const GATEWAY: &str = "trainyard-gateway";

/// The Service at which the operator finds the gateways' reports, and its port's name.
pub(crate) const GATEWAY_REPORT: &str = "trainyard-gateway-report";
pub(crate) const REPORT_PORT_NAME: &str = "report";

/// The operator's Role and binding for the gateways' namespace.
pub(crate) const FIGURES: &str = "trainyard-operator-figures";

/// What belongs to the lint webhook is called: its Service, its Secret, its Roles.
pub(crate) const LINT: &str = "trainyard-lint";

/// What an object is called by the recommended labels: the value that [`OPERATOR`] and [`GATEWAY`]
/// are selected by.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
