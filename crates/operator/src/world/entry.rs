//! All that is known of one service or job.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube_client::core::error_boundary::InvalidObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::child::Child;
use super::meta;
use crate::key::ResourceKey;
use crate::kinds::KindIndex;
use crate::pods::PodFacts;

/// A resource with what belongs to it. Parts may be there before the resource itself, or after it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub(crate) resource: Option<Resource>,
    pub(crate) children: Vec<Child>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) releases: Vec<Release>,
    /// The attempt of a job of which a worker was taken last. That a node went down is told in the
    /// moment in which its pods go, which may be between two looks.
    pub(crate) taken: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) facts: PodFacts,
    pub(super) epoch: u32,
}

/// The resource as the cluster has it.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) content: Result<Packed, Arc<InvalidObject>>,
    pub(crate) resource_version: u64,
    pub(super) epoch: u32,
    /// The answer to a write of its status had a change of somebody else in it that no watch has told
    /// of yet.
    pub(super) is_unheard: bool,
}

impl Resource {
    /// Whether somebody has changed anything but the status, going by what was known `before`.
    pub(super) fn differs_from(&self, before: &Self) -> bool {
        let content = |it: &Self| it.content.as_ref().ok().and_then(Packed::without_status);
        let before = content(before);
        before.is_none() || before != content(self)
    }
}

/// A resource as JSON, which takes a third of the memory; it is read once in each reconcile.
#[derive(Debug, Clone)]
pub(crate) struct Packed(Arc<[u8]>);

impl Packed {
    pub(super) fn of(resource: &impl Serialize) -> Self {
        Self(serde_json::to_vec(resource).unwrap_or_default().into())
    }

    pub(crate) fn unpack<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.0)
    }

    /// What others than we write.
    fn without_status(&self) -> Option<Value> {
        let mut resource: Value = self.unpack().ok()?;
        let fields = resource.as_object_mut()?;
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
        }
        Some(resource)
    }
}

/// A revision of the past or present, kept in a ControllerRevision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) resource_version: u64,
    /// Grows with each release; the highest is the newest.
    pub(crate) number: i64,
    /// The uid of the service that controls it.
    pub(crate) owner: Option<Box<str>>,
    pub(super) epoch: u32,
}

impl Release {
    /// Reads a kept revision of a service.
    pub(super) fn of(key: &ResourceKey, kept: &ControllerRevision) -> Self {
        let metadata = &kept.metadata;
        Self {
            name: metadata.name.as_deref().unwrap_or_default().into(),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            resource_version: meta::resource_version(metadata),
            number: kept.revision,
            owner: meta::owner_uid(metadata, (key.kind, &key.name)),
            epoch: 0,
        }
    }
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.resource.is_none()
            && self.children.is_empty()
            && self.pods.is_empty()
            && self.releases.is_empty()
    }

    pub(crate) fn child(&self, kind: KindIndex, name: &str) -> Option<&Child> {
        self.children.iter().find(|child| child.kind == kind && *child.name == *name)
    }

    /// One with no pod but this.
    #[cfg(test)]
    pub(crate) fn with_pod(self, facts: PodFacts) -> Self {
        Self { pods: vec![Pod { facts, epoch: 0 }], ..self }
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &PodFacts> {
        self.pods.iter().map(|pod| &pod.facts)
    }
}
