//! Where watches put what they see, and reconciles look it up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1;
use kube_client::core::DeserializeGuard;
use serde_json::Value;
use trainyard_api::ModelService;

use super::child::{Child, Standing};
use super::entry::{Entry, Pod, Release, Resource};
use super::meta;
use crate::compare::Leaves;
use crate::key::ServiceKey;
use crate::kinds::KindIndex;
use crate::pods::PodFacts;

/// Everything that is known of the cluster.
#[derive(Debug, Default)]
pub(crate) struct World {
    entries: Mutex<HashMap<ServiceKey, Entry>>,
}

/// Where a part of an entry comes from. A list that is complete says which parts are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Services,
    Children(KindIndex),
    Pods,
    Releases,
}

impl World {
    /// A copy of what is known of a service.
    pub(crate) fn entry(&self, key: &ServiceKey) -> Option<Entry> {
        self.lock().get(key).cloned()
    }

    /// All services that there are.
    pub(crate) fn services(&self) -> Vec<ServiceKey> {
        let entries = self.lock();
        let there = entries.iter().filter(|(_, entry)| entry.resource.is_some());
        there.map(|(key, _)| key.clone()).collect()
    }

    /// How many services there are, and how many objects and pods of theirs.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        self.lock().values().fold((0, 0, 0), |(services, children, pods), entry| {
            let service = usize::from(entry.resource.is_some());
            (services + service, children + entry.children.len(), pods + entry.pods.len())
        })
    }

    /// Compares an object with what is wanted; none if it is not known.
    pub(crate) fn compare(
        &self,
        key: &ServiceKey,
        (kind, name): (KindIndex, &str),
        (wanted, leaves, digest): (&Value, &Leaves, u64),
    ) -> Option<(Standing, Child)> {
        let mut entries = self.lock();
        let children = &mut entries.get_mut(key)?.children;
        let child = children.iter_mut().find(|c| c.kind == kind && *c.name == *name)?;
        let standing = child.compare(wanted, leaves, digest);
        Some((standing, child.clone()))
    }

    /// Takes in a service; true if it is news.
    pub(crate) fn put_service(
        &self,
        key: ServiceKey,
        service: DeserializeGuard<ModelService>,
        epoch: u32,
    ) -> bool {
        let metadata = match &service.0 {
            Ok(service) => &service.metadata,
            Err(invalid) => &invalid.metadata,
        };
        let resource_version = meta::resource_version(metadata);
        let mut entries = self.lock();
        let known = &mut entries.entry(key).or_default().resource;
        if let Some(known) =
            known.as_mut().filter(|known| !meta::is_news(resource_version, known.resource_version))
        {
            known.epoch = known.epoch.max(epoch);
            return false;
        }
        let epoch = known.as_ref().map_or(epoch, |known| known.epoch.max(epoch));
        let content = service.0.map(Arc::new).map_err(Arc::new);
        *known = Some(Resource { content, resource_version, epoch });
        true
    }

    /// Takes in an object that belongs to a service; false if something as new is known.
    pub(crate) fn put_child(&self, key: ServiceKey, mut child: Child, epoch: u32) -> bool {
        let mut entries = self.lock();
        let children = &mut entries.entry(key).or_default().children;
        child.epoch = epoch;
        let known = children.iter_mut().find(|c| c.kind == child.kind && c.name == child.name);
        match known {
            Some(known) if !meta::is_news(child.resource_version, known.resource_version) => {
                known.epoch = known.epoch.max(epoch);
                false
            }
            Some(known) => {
                child.inherit(known);
                child.epoch = known.epoch.max(epoch);
                *known = child;
                true
            }
            None => {
                children.push(child);
                children.shrink_to_fit();
                true
            }
        }
    }

    /// Takes in a pod; false if nothing changed that matters.
    pub(crate) fn put_pod(&self, key: ServiceKey, pod: &v1::Pod, epoch: u32) -> bool {
        let facts = PodFacts::of(pod);
        let mut entries = self.lock();
        let pods = &mut entries.entry(key).or_default().pods;
        let Some(known) = pods.iter_mut().find(|pod| pod.facts.name == facts.name) else {
            pods.push(Pod { facts, epoch });
            pods.shrink_to_fit();
            return true;
        };
        known.epoch = known.epoch.max(epoch);
        if !meta::is_news(facts.resource_version, known.facts.resource_version) {
            return false;
        }
        let facts = facts.after(&known.facts);
        let resource_version = facts.resource_version;
        let before = std::mem::replace(&mut known.facts, facts);
        known.facts != PodFacts { resource_version, ..before }
    }

    /// Takes in a kept revision.
    pub(crate) fn put_release(
        &self,
        key: ServiceKey,
        kept: &ControllerRevision,
        epoch: u32,
    ) -> bool {
        let metadata = &kept.metadata;
        let release = Release {
            name: metadata.name.as_deref().unwrap_or_default().into(),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            resource_version: meta::resource_version(metadata),
            number: kept.revision,
            owner: meta::owner_uid(metadata, &key.name),
            epoch,
        };
        let mut entries = self.lock();
        let releases = &mut entries.entry(key).or_default().releases;
        match releases.iter_mut().find(|known| known.name == release.name) {
            Some(known) if !meta::is_news(release.resource_version, known.resource_version) => {
                known.epoch = known.epoch.max(epoch);
                false
            }
            Some(known) => {
                *known = release;
                true
            }
            None => {
                releases.push(release);
                releases.shrink_to_fit();
                true
            }
        }
    }

    /// Forgets one object.
    pub(crate) fn remove(&self, key: &ServiceKey, source: Source, name: &str) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(key) else {
            return;
        };
        match source {
            Source::Services => entry.resource = None,
            Source::Children(kind) => {
                entry.children.retain(|child| child.kind != kind || *child.name != *name);
            }
            Source::Pods => entry.pods.retain(|pod| *pod.facts.name != *name),
            Source::Releases => entry.releases.retain(|release| *release.name != *name),
        }
        if entry.is_empty() {
            entries.remove(key);
        }
    }

    /// Forgets what a complete list of a namespace (or of all) did not have: everything from that
    /// source that was not seen since `epoch` began. Returns the services that lost something.
    pub(crate) fn sweep(
        &self,
        source: Source,
        namespace: Option<&str>,
        epoch: u32,
    ) -> Vec<ServiceKey> {
        let mut lost = Vec::new();
        self.lock().retain(|key, entry| {
            if namespace.is_some_and(|namespace| *key.namespace != *namespace) {
                return true;
            }
            let before = entry.parts();
            match source {
                Source::Services => {
                    entry.resource = entry.resource.take().filter(|kept| kept.epoch >= epoch);
                }
                Source::Children(kind) => {
                    entry.children.retain(|child| child.kind != kind || child.epoch >= epoch);
                }
                Source::Pods => entry.pods.retain(|pod| pod.epoch >= epoch),
                Source::Releases => entry.releases.retain(|release| release.epoch >= epoch),
            }
            if entry.parts() != before {
                lost.push(key.clone());
            }
            !entry.is_empty()
        });
        lost
    }

    /// Notes what the API server answered to an apply: newer than what any watch has told so far.
    /// Returns the paths of values that it gave back in another form.
    pub(crate) fn settle(
        &self,
        key: &ServiceKey,
        child: Child,
        (wanted, leaves, digest): (&Value, &Leaves, u64),
    ) -> Vec<String> {
        let (kind, name, version) = (child.kind, child.name.clone(), child.resource_version);
        self.put_child(key.clone(), child, 0);
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(key) else {
            return Vec::new();
        };
        let known = entry.children.iter_mut().find(|c| c.kind == kind && c.name == name);
        match known {
            Some(known) if known.resource_version == version => {
                known.settle(wanted, leaves, digest)
            }
            // A watch was faster, with what came after; that is to be compared.
            _ => Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn parts(&self) -> (bool, usize, usize, usize) {
        let Self { resource, children, pods, releases } = self;
        (resource.is_some(), children.len(), pods.len(), releases.len())
    }
}

#[cfg(test)]
mod tests;
