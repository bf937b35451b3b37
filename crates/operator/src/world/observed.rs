//! Objects as watches deliver them.

use std::borrow::Cow;
use std::fmt::Debug;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_client::Resource;
use kube_client::core::{ApiResource, DynamicResourceScope};
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;

use super::child::Child;
use super::entry::Release;
use super::meta;
use crate::pods::PodFacts;

/// An object that may belong to a service, and what is kept of it.
///
/// That is made while the object's JSON is read: a page of a list with hundreds of whole objects,
/// each several times as large as its JSON, is what an operator would need most memory for.
#[derive(Debug, Clone)]
pub(crate) struct Observed<T> {
    /// Name, namespace, labels and version; nothing else.
    metadata: ObjectMeta,
    pub(crate) kept: T,
}

/// What is kept of objects.
pub(crate) trait Keep: Sized + Clone + Debug + Send + Sync + 'static {
    /// The object as the API server sends it.
    type Whole: DeserializeOwned;

    /// What is kept of an object, and its metadata.
    fn keep(whole: Self::Whole) -> (ObjectMeta, Self);
}

/// None of what belongs to nobody here.
impl Keep for Option<Child> {
    type Whole = Value;

    fn keep(whole: Value) -> (ObjectMeta, Self) {
        let metadata: ObjectMeta = whole
            .get("metadata")
            .and_then(|metadata| serde_json::from_value(metadata.clone()).ok())
            .unwrap_or_default();
        let child =
            meta::belongs_to(&metadata).and_then(|key| Child::of_any_kind(&key, &whole, &metadata));
        (metadata, child)
    }
}

impl Keep for PodFacts {
    type Whole = Pod;

    fn keep(whole: Pod) -> (ObjectMeta, Self) {
        let facts = PodFacts::of(&whole);
        (whole.metadata, facts)
    }
}

/// None of what is no service's.
impl Keep for Option<Release> {
    type Whole = ControllerRevision;

    fn keep(whole: ControllerRevision) -> (ObjectMeta, Self) {
        let key = meta::belongs_to(&whole.metadata);
        let release = key.map(|key| Release::of(&key, &whole));
        (whole.metadata, release)
    }
}

impl<'de, T: Keep> serde::Deserialize<'de> for Observed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (metadata, kept) = T::keep(T::Whole::deserialize(deserializer)?);
        let ObjectMeta { name, namespace, labels, resource_version, .. } = metadata;
        let metadata =
            ObjectMeta { name, namespace, labels, resource_version, ..ObjectMeta::default() };
        Ok(Self { metadata, kept })
    }
}

impl<T: Keep> Resource for Observed<T> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;
    use crate::names::{MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL};

    fn labelled(labels: Value, spec: Value) -> Observed<Option<Child>> {
        let object = json!({
            "metadata": {
                "name": "iris", "namespace": "default", "uid": "u", "resourceVersion": "7",
                "labels": labels, "annotations": {"a": "b"},
                "managedFields": [{"manager": "trainyard", "operation": "Apply",
                    "fieldsV1": {"f:spec": {"f:replicas": {}}}}],
            },
            "spec": spec,
        });
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn little_is_kept_of_an_object() {
        let ours = json!({MANAGED_BY_LABEL: MANAGED_BY, SERVICE_LABEL: "iris"});
        let seen = labelled(ours.clone(), json!({"replicas": 3, "template": {}}));
        assert_eq!(meta::resource_version(seen.meta()), 7);
        assert!(seen.meta().annotations.is_none() && seen.meta().managed_fields.is_none());
        let deployment = kinds::index_of("apps/v1", "Deployment").expect("in the table");
        let service = kinds::index_of("v1", "Service").expect("in the table");
        let child = seen.kept.expect("it is a service's");
        let facts = child.clone().with_kind(deployment).deployment.expect("a Deployment");
        assert!(facts.wanted == 3 && facts.replicas_are_ours);
        assert!(child.with_kind(service).deployment.is_none());
        assert!(labelled(ours, json!({"ports": []})).kept.expect("ours").deployment.is_none());
        assert!(labelled(json!({SERVICE_LABEL: "iris"}), json!({})).kept.is_none());
    }
}
