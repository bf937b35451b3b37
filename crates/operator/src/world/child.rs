//! One object that belongs to a service or job, and whether it is as wanted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::deployment::DeploymentFacts;
use super::job::JobFacts;
use crate::compare::Leaves;
use crate::key::ResourceKey;
use crate::kinds::{self, KindIndex};
use crate::names::APPLIED_ANNOTATION;

/// An object that the operator made, or that carries its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Child {
    pub(crate) kind: KindIndex,
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) resource_version: u64,
    /// The uid of the resource that controls it; none if nothing does, empty if something else does
    /// (see [`owner_uid`](super::owner_uid)).
    pub(crate) owner: Option<Box<str>>,
    pub(crate) is_ending: bool,
    /// The digest of what was applied last, as the object itself tells it.
    pub(crate) applied: Option<u64>,
    content: Content,
    /// Leaves that the API server did not give back as we applied them, though it took them.
    tolerated: Leaves,
    pub(crate) deployment: Option<Box<DeploymentFacts>>,
    pub(crate) job: Option<Box<JobFacts>>,
    pub(super) epoch: u32,
    /// The answer to an apply told more of the object than what was applied, and no watch has yet.
    pub(super) is_unheard: bool,
}

/// What is known of the object's content.
#[derive(Debug, Clone, PartialEq)]
enum Content {
    /// Not compared yet.
    Leaves(Leaves),
    /// It was seen to have all of the wanted object of this digest.
    Has(u64),
}

/// How an object stands to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    AsWanted,
    /// Something else is wanted than before.
    Outdated,
    /// It was as wanted, and somebody changed these fields.
    Drifted(Vec<String>),
}

impl Child {
    /// Reads an object that has the label of a resource; none if it has no name or uid.
    pub(crate) fn of(kind: KindIndex, key: &ResourceKey, object: &Value) -> Option<Self> {
        let metadata = object.get("metadata").cloned().unwrap_or_default();
        let metadata = serde_json::from_value(metadata).ok()?;
        Some(Self::of_any_kind(key, object, &metadata)?.with_kind(kind))
    }

    /// Reads an object whose kind is to be said with [`with_kind`](Self::with_kind): items of lists
    /// do not tell.
    pub(super) fn of_any_kind(
        key: &ResourceKey,
        object: &Value,
        metadata: &ObjectMeta,
    ) -> Option<Self> {
        let annotations = metadata.annotations.as_ref();
        let applied = annotations.and_then(|all| all.get(APPLIED_ANNOTATION));
        let has_pods = object.pointer("/spec/template").is_some();
        Some(Self {
            kind: KindIndex::MAX,
            name: metadata.name.as_deref()?.into(),
            uid: metadata.uid.as_deref()?.into(),
            resource_version: super::resource_version(metadata),
            owner: super::owner_uid(metadata, (key.kind, &key.name)),
            is_ending: metadata.deletion_timestamp.is_some(),
            applied: applied.and_then(|digest| u64::from_str_radix(digest, 16).ok()),
            content: Content::Leaves(Leaves::of(object)),
            tolerated: Leaves::default(),
            deployment: has_pods.then(|| Box::new(DeploymentFacts::of(object))),
            job: has_pods.then(|| Box::new(JobFacts::of(object))),
            epoch: 0,
            is_unheard: false,
        })
    }

    pub(crate) fn with_kind(mut self, kind: KindIndex) -> Self {
        self.kind = kind;
        self.deployment = self.deployment.filter(|_| kinds::owned(kind).kind == "Deployment");
        self.job = self.job.filter(|_| kinds::owned(kind).kind == "Job");
        self
    }

    /// Whether decisions that were made by what was known `before` may come out otherwise now.
    pub(super) fn differs_from(&self, before: &Self) -> bool {
        let facts = |it: &Self| (it.is_ending, it.deployment.clone(), it.job.clone());
        facts(self) != facts(before)
    }

    /// Takes over from what was known of the same object before.
    pub(super) fn inherit(&mut self, before: &Self) {
        if self.uid == before.uid {
            self.tolerated = before.tolerated.clone();
        }
    }

    /// Compares with the wanted object of this digest. Afterwards the content is forgotten if
    /// it is as wanted.
    pub(crate) fn compare(&mut self, wanted: &Value, leaves: &Leaves, digest: u64) -> Standing {
        let missing = match &self.content {
            Content::Has(had) if *had == digest => return Standing::AsWanted,
            Content::Has(_) => return Standing::Outdated,
            Content::Leaves(live) => leaves.missing_from(live, &self.tolerated),
        };
        if missing.is_empty() {
            self.content = Content::Has(digest);
            return Standing::AsWanted;
        }
        if self.applied == Some(digest) {
            return Standing::Drifted(missing.paths_in(wanted));
        }
        Standing::Outdated
    }

    /// Notes that this is what the API server made of the wanted object. Returns the paths that it
    /// gave back in another form: they are not compared any more, lest they are applied for ever.
    pub(crate) fn settle(&mut self, wanted: &Value, leaves: &Leaves, digest: u64) -> Vec<String> {
        let Content::Leaves(live) = &self.content else {
            return Vec::new();
        };
        let missing = leaves.missing_from(live, &Leaves::default());
        let paths = missing.paths_in(wanted);
        self.tolerated = missing;
        self.content = Content::Has(digest);
        paths
    }
}
