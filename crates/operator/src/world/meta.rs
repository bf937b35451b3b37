//! What an object's metadata says about the service that it belongs to.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::key::ServiceKey;
use crate::names::{MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL};

const KIND: &str = "ModelService";
const GROUP: &str = "trainyard.dev/";

/// The version of an object, as a number. They are compared only to ignore what is older than what
/// we know already; one that is no number counts as newest, so that nothing is missed.
pub(crate) fn resource_version(metadata: &ObjectMeta) -> u64 {
    metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(u64::MAX)
}

/// The service that an object belongs to, by its label.
pub(crate) fn service_of(metadata: &ObjectMeta) -> Option<ServiceKey> {
    let labels = metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY_LABEL).map(String::as_str) != Some(MANAGED_BY) {
        return None;
    }
    Some(ServiceKey::new(metadata.namespace.as_deref()?, labels.get(SERVICE_LABEL)?))
}

/// The uid of the `ModelService` that controls an object. `Some("")` if something else does.
pub(crate) fn owner_uid(metadata: &ObjectMeta) -> Option<Box<str>> {
    let owners = metadata.owner_references.as_ref()?;
    let controller = owners.iter().find(|owner| owner.controller == Some(true))?;
    let is_service = controller.kind == KIND && controller.api_version.starts_with(GROUP);
    Some(if is_service { controller.uid.as_str().into() } else { "".into() })
}
