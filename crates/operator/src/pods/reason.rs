//! Why a service is not as asked: one word for machines, and how to mend it for people.

/// The reason of a condition and of its event. `docs/operator.md` has a row for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reason {
    // In order of weight: of several, the first is told.
    /// The spec breaks a rule, or cannot be read.
    InvalidSpec,
    /// The spec cannot be turned into objects for this cluster.
    NotSupported,
    /// What says how an earlier revision is made is gone.
    RevisionMissing,
    /// An object of that name exists and is somebody else's.
    NameConflict,
    /// The API server, or an admission webhook, refuses an object.
    ApplyRejected,
    /// A ResourceQuota leaves no room for a pod.
    QuotaExceeded,
    /// Admission refuses the pods, such as by their namespace's Pod Security Standard.
    PodForbidden,
    /// Pods cannot be created for another reason.
    PodCreateFailed,
    /// The store refuses access to the model.
    ModelForbidden,
    ModelNotFound,
    /// The model is not what `sha256` says.
    ModelMismatch,
    ModelFetchFailed,
    ImagePullFailed,
    /// A Secret, ConfigMap or key that a container needs is not there.
    ContainerConfigError,
    /// The container's command cannot be started.
    ContainerStartFailed,
    /// A GPU that a container has is broken, as the kubelet says.
    GpuUnhealthy,
    OutOfMemory,
    /// The startup probe never passed before the container was killed.
    StartupProbeFailed,
    CrashLoop,
    Unschedulable,
    /// The store does not answer.
    ModelUnavailable,
    VolumeMountFailed,
    SandboxFailed,
    /// The node refused or evicted the pod, or is gone.
    PodFailed,
    ProbeFailing,
    /// No replica became ready for as long as the Deployment allows.
    ProgressDeadlineExceeded,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSpec => "InvalidSpec",
            Self::NotSupported => "NotSupported",
            Self::RevisionMissing => "RevisionMissing",
            Self::NameConflict => "NameConflict",
            Self::ApplyRejected => "ApplyRejected",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::PodForbidden => "PodForbidden",
            Self::PodCreateFailed => "PodCreateFailed",
            Self::ModelForbidden => "ModelForbidden",
            Self::ModelNotFound => "ModelNotFound",
            Self::ModelMismatch => "ModelMismatch",
            Self::ModelFetchFailed => "ModelFetchFailed",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::ContainerConfigError => "ContainerConfigError",
            Self::ContainerStartFailed => "ContainerStartFailed",
            Self::GpuUnhealthy => "GpuUnhealthy",
            Self::OutOfMemory => "OutOfMemory",
            Self::StartupProbeFailed => "StartupProbeFailed",
            Self::CrashLoop => "CrashLoop",
            Self::Unschedulable => "Unschedulable",
            Self::ModelUnavailable => "ModelUnavailable",
            Self::VolumeMountFailed => "VolumeMountFailed",
            Self::SandboxFailed => "SandboxFailed",
            Self::PodFailed => "PodFailed",
            Self::ProbeFailing => "ProbeFailing",
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
        }
    }

    /// Whether waiting does not help: a person has to act.
    ///
    /// The others may pass by themselves: nodes are added, volumes attached, models loaded.
    pub(crate) fn needs_a_person(self) -> bool {
        match self {
            Self::Unschedulable
            | Self::ModelUnavailable
            | Self::VolumeMountFailed
            | Self::SandboxFailed
            | Self::PodFailed
            | Self::ProbeFailing => false,
            Self::InvalidSpec
            | Self::NotSupported
            | Self::RevisionMissing
            | Self::NameConflict
            | Self::ApplyRejected
            | Self::QuotaExceeded
            | Self::PodForbidden
            | Self::PodCreateFailed
            | Self::ModelForbidden
            | Self::ModelNotFound
            | Self::ModelMismatch
            | Self::ModelFetchFailed
            | Self::ImagePullFailed
            | Self::ContainerConfigError
            | Self::ContainerStartFailed
            | Self::GpuUnhealthy
            | Self::OutOfMemory
            | Self::StartupProbeFailed
            | Self::CrashLoop
            | Self::ProgressDeadlineExceeded => true,
        }
    }

    /// Every reason, for the docs' test.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 26] = [
        Self::InvalidSpec,
        Self::NotSupported,
        Self::RevisionMissing,
        Self::NameConflict,
        Self::ApplyRejected,
        Self::QuotaExceeded,
        Self::PodForbidden,
        Self::PodCreateFailed,
        Self::ModelForbidden,
        Self::ModelNotFound,
        Self::ModelMismatch,
        Self::ModelFetchFailed,
        Self::ImagePullFailed,
        Self::ContainerConfigError,
        Self::ContainerStartFailed,
        Self::GpuUnhealthy,
        Self::OutOfMemory,
        Self::StartupProbeFailed,
        Self::CrashLoop,
        Self::Unschedulable,
        Self::ModelUnavailable,
        Self::VolumeMountFailed,
        Self::SandboxFailed,
        Self::PodFailed,
        Self::ProbeFailing,
        Self::ProgressDeadlineExceeded,
    ];
}

#[test]
fn the_docs_have_a_row_for_each() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operator.md");
    let docs = std::fs::read_to_string(path).expect("the page is there");
    for reason in Reason::ALL {
        let row = format!("| `{}` | ", reason.as_str());
        assert!(docs.contains(&row), "docs/operator.md has no row for {}", reason.as_str());
    }
}
