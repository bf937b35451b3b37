//! The name of what people declare in a cluster.

use std::fmt;
use std::sync::Arc;

use kube_client::Resource;
use kube_client::core::ApiResource;
use trainyard_api::{ModelService, TrainingJob};

use crate::names::{JOB_LABEL, SERVICE_LABEL};

/// The kinds of resources that are looked after one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Declared {
    ModelService,
    TrainingJob,
}

impl Declared {
    pub const ALL: [Self; 2] = [Self::ModelService, Self::TrainingJob];

    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::ModelService => ApiResource::erase::<ModelService>(&()),
            Self::TrainingJob => ApiResource::erase::<TrainingJob>(&()),
        }
    }

    /// As a manifest has it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ModelService => "ModelService",
            Self::TrainingJob => "TrainingJob",
        }
    }

    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::ModelService => "modelservices",
            Self::TrainingJob => "trainingjobs",
        }
    }

    pub(crate) fn api_version(self) -> String {
        ModelService::api_version(&()).into_owned()
    }

    /// The resource's full name, as Kubernetes prints it.
    pub fn full_name(self) -> &'static str {
        match self {
            Self::ModelService => "modelservices.trainyard.dev",
            Self::TrainingJob => "trainingjobs.trainyard.dev",
        }
    }

    /// The label by which an object says which resource of this kind it belongs to.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::ModelService => SERVICE_LABEL,
            Self::TrainingJob => JOB_LABEL,
        }
    }
}

/// Kind, namespace and name of a resource. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ResourceKey {
    pub(crate) kind: Declared,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl ResourceKey {
    pub(crate) fn new(kind: Declared, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    #[cfg(test)]
    pub(crate) fn service(namespace: &str, name: &str) -> Self {
        Self::new(Declared::ModelService, namespace, name)
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[test]
fn kinds_are_what_the_api_calls_them() {
    for kind in Declared::ALL {
        let resource = kind.resource();
        assert_eq!(
            (resource.kind.as_str(), resource.plural.as_str()),
            (kind.kind(), kind.plural())
        );
        assert_eq!(resource.api_version, kind.api_version());
    }
}
