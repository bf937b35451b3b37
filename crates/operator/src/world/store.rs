//! Where watches put what they see, and reconciles look it up.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube_client::Resource as KubeResource;
use kube_client::core::DeserializeGuard;
use serde::Serialize;
use serde_json::Value;

use super::child::{Child, Standing};
use super::entry::{Entry, Packed, Pod, Release, Resource};
use super::meta;
use crate::compare::Leaves;
use crate::key::{Declared, ResourceKey};
use crate::kinds::KindIndex;
use crate::pods::PodFacts;

/// Everything that is known of the cluster.
#[derive(Debug, Default)]
pub(crate) struct World {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    entries: HashMap<ResourceKey, Entry>,
    /// What watches have said to be gone of services that are being visited.
    gone: HashMap<ResourceKey, HashSet<Gone>>,
}

/// Something that an answer to an earlier request must not bring back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Gone {
    One(Source, Box<str>),
    /// All was listed anew: what the list did not have is gone.
    Unlisted(Source),
}

/// A reconcile of one service, from before its first request to after its last answer.
///
/// The answer to an apply may come after the watch has told that the object was applied and
/// deleted since. Taken in as news, it would stay for ever, since no watch tells of it again.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    world: &'a World,
    key: &'a ResourceKey,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.world.lock().gone.remove(self.key);
    }
}

/// Who tells of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// A watch, in which so many lists have begun.
    ByWatch { epoch: u32 },
    /// The answer to a write of ours, which may know more than what was written: a change of somebody
    /// else in the moment before. By its version it is no news when the watch tells of it after that,
    /// and nobody has looked at it.
    ByAnswer,
}

/// Where a part of an entry comes from. A list that is complete says which parts are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Declared(Declared),
    Children(KindIndex),
    Pods,
    Releases,
}

impl World {
    /// Begins a visit. A service has one at a time.
    pub(crate) fn visit<'a>(&'a self, key: &'a ResourceKey) -> Visit<'a> {
        self.lock().gone.insert(key.clone(), HashSet::new());
        Visit { world: self, key }
    }

    /// A copy of what is known of a service.
    pub(crate) fn entry(&self, key: &ResourceKey) -> Option<Entry> {
        self.lock().entries.get(key).cloned()
    }

    /// Whether there is such a service or job.
    pub(crate) fn is_declared(&self, key: &ResourceKey) -> bool {
        self.lock().entries.get(key).is_some_and(|entry| entry.resource.is_some())
    }

    /// All services and jobs that there are.
    pub(crate) fn declared(&self) -> Vec<ResourceKey> {
        let known = self.lock();
        let there = known.entries.iter().filter(|(_, entry)| entry.resource.is_some());
        there.map(|(key, _)| key.clone()).collect()
    }

    /// All jobs that are gone, of which something is there yet.
    pub(crate) fn left_jobs(&self) -> Vec<ResourceKey> {
        let known = self.lock();
        let gone = known.entries.iter().filter(|(_, entry)| entry.resource.is_none());
        let jobs = gone.map(|(key, _)| key).filter(|key| key.kind == Declared::TrainingJob);
        jobs.cloned().collect()
    }

    /// How many resources of a kind there are.
    pub(crate) fn count(&self, kind: Declared) -> usize {
        let known = self.lock();
        let there = known.entries.iter().filter(|(_, entry)| entry.resource.is_some());
        there.filter(|(key, _)| key.kind == kind).count()
    }

    /// How many objects and pods of theirs there are.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        self.lock().entries.values().fold((0, 0), |(children, pods), entry| {
            (children + entry.children.len(), pods + entry.pods.len())
        })
    }

    /// Compares an object with what is wanted; none if it is not known.
    pub(crate) fn compare(
        &self,
        key: &ResourceKey,
        (kind, name): (KindIndex, &str),
        (wanted, leaves, digest): (&Value, &Leaves, u64),
    ) -> Option<(Standing, Child)> {
        let mut known = self.lock();
        let children = &mut known.entries.get_mut(key)?.children;
        let child = children.iter_mut().find(|c| c.kind == kind && *c.name == *name)?;
        let standing = child.compare(wanted, leaves, digest);
        Some((standing, child.clone()))
    }

    /// Takes in a resource as a watch tells it; true if it is news, though the answer to a write of
    /// ours may have brought it before.
    pub(crate) fn put_resource<T: KubeResource + Serialize>(
        &self,
        key: ResourceKey,
        resource: DeserializeGuard<T>,
        epoch: u32,
    ) -> bool {
        self.lock().put_resource(key, resource, Told::ByWatch { epoch })
    }

    /// Takes in an object that belongs to a service; false if something as new is known, and was when
    /// what to do was decided.
    pub(crate) fn put_child(&self, key: ResourceKey, child: Child, epoch: u32) -> bool {
        self.lock().put_child(key, child, Told::ByWatch { epoch })
    }

    /// Takes in a pod; false if nothing changed that matters.
    pub(crate) fn put_pod(&self, key: ResourceKey, facts: PodFacts, epoch: u32) -> bool {
        let mut known = self.lock();
        let Entry { pods, taken, .. } = known.entries.entry(key).or_default();
        if let Some(worker) = facts.worker.as_ref().filter(|worker| worker.is_taken) {
            *taken = (*taken).max(Some(worker.attempt));
        }
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
    pub(crate) fn put_release(&self, key: ResourceKey, release: Release, epoch: u32) -> bool {
        self.lock().put_release(key, release, epoch)
    }

    /// Forgets one object, unless a newer one of that name than this version is known.
    pub(crate) fn remove(&self, key: &ResourceKey, source: Source, name: &str, version: u64) {
        let mut known = self.lock();
        let Known { entries, gone } = &mut *known;
        if let Some(gone) = gone.get_mut(key) {
            gone.insert(Gone::One(source, name.into()));
        }
        let Some(entry) = entries.get_mut(key) else {
            return;
        };
        let stays = |known: u64| known > version;
        match source {
            Source::Declared(_) => {
                entry.resource = entry.resource.take().filter(|it| stays(it.resource_version));
                // The next of that name counts its attempts from 1.
                entry.taken = entry.taken.filter(|_| entry.resource.is_some());
            }
            Source::Children(kind) => entry.children.retain(|child| {
                child.kind != kind || *child.name != *name || stays(child.resource_version)
            }),
            Source::Pods => entry
                .pods
                .retain(|pod| *pod.facts.name != *name || stays(pod.facts.resource_version)),
            Source::Releases => entry
                .releases
                .retain(|release| *release.name != *name || stays(release.resource_version)),
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
    ) -> Vec<ResourceKey> {
        let mut lost = Vec::new();
        let mut known = self.lock();
        for gone in known.gone.values_mut() {
            gone.insert(Gone::Unlisted(source));
        }
        known.entries.retain(|key, entry| {
            if namespace.is_some_and(|namespace| *key.namespace != *namespace) {
                return true;
            }
            let before = entry.parts();
            match source {
                Source::Declared(kind) => {
                    let stays = |epoch_of: u32| key.kind != kind || epoch_of >= epoch;
                    entry.resource = entry.resource.take().filter(|kept| stays(kept.epoch));
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
        key: &ResourceKey,
        child: Child,
        (wanted, leaves, digest): (&Value, &Leaves, u64),
    ) -> Vec<String> {
        let (kind, name, version) = (child.kind, child.name.clone(), child.resource_version);
        let mut known = self.lock();
        if known.is_gone(key, Source::Children(kind), &name) {
            return Vec::new();
        }
        known.put_child(key.clone(), child, Told::ByAnswer);
        let Some(entry) = known.entries.get_mut(key) else {
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

    /// Notes a resource as the API server answered a write of its status. The answer may have more: a
    /// spec that was changed in the moment before, of which the watch tells later.
    pub(crate) fn settle_resource<T: KubeResource + Serialize>(
        &self,
        key: &ResourceKey,
        resource: T,
    ) {
        let mut known = self.lock();
        if !known.is_gone(key, Source::Declared(key.kind), &key.name) {
            known.put_resource(key.clone(), DeserializeGuard(Ok(resource)), Told::ByAnswer);
        }
    }

    /// Notes a kept revision as the API server answered its write.
    pub(crate) fn settle_release(&self, key: &ResourceKey, kept: &ControllerRevision) {
        let release = Release::of(key, kept);
        let mut known = self.lock();
        if !known.is_gone(key, Source::Releases, &release.name) {
            known.put_release(key.clone(), release, 0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether an object may have come and gone since the visit of its service began. If it is
    /// there after all, the watch tells.
    fn is_gone(&self, key: &ResourceKey, source: Source, name: &str) -> bool {
        let is_known = self.entries.get(key).is_some_and(|entry| match source {
            Source::Declared(_) => entry.resource.is_some(),
            Source::Children(kind) => entry.child(kind, name).is_some(),
            Source::Pods => entry.pods().any(|pod| *pod.name == *name),
            Source::Releases => entry.releases.iter().any(|release| *release.name == *name),
        });
        let is_told = self.gone.get(key).is_some_and(|gone| {
            gone.contains(&Gone::Unlisted(source)) || gone.contains(&Gone::One(source, name.into()))
        });
        is_told && !is_known
    }

    fn put_resource<T: KubeResource + Serialize>(
        &mut self,
        key: ResourceKey,
        resource: DeserializeGuard<T>,
        told: Told,
    ) -> bool {
        let epoch = told.epoch();
        let metadata = match &resource.0 {
            Ok(resource) => resource.meta(),
            Err(invalid) => &invalid.metadata,
        };
        let resource_version = meta::resource_version(metadata);
        let known = &mut self.entries.entry(key).or_default().resource;
        if let Some(known) =
            known.as_mut().filter(|known| !meta::is_news(resource_version, known.resource_version))
        {
            known.epoch = known.epoch.max(epoch);
            return told.hears(&mut known.is_unheard);
        }
        let epoch = known.as_ref().map_or(epoch, |known| known.epoch.max(epoch));
        let content = resource.0.map(|resource| Packed::of(&resource)).map_err(Arc::new);
        let mut now = Resource { content, resource_version, epoch, is_unheard: false };
        now.is_unheard = told == Told::ByAnswer
            && known.as_ref().is_none_or(|before| before.is_unheard || now.differs_from(before));
        *known = Some(now);
        true
    }

    fn put_child(&mut self, key: ResourceKey, mut child: Child, told: Told) -> bool {
        let children = &mut self.entries.entry(key).or_default().children;
        let epoch = told.epoch();
        child.epoch = epoch;
        let known = children.iter_mut().find(|c| c.kind == child.kind && c.name == child.name);
        match known {
            Some(known) if !meta::is_news(child.resource_version, known.resource_version) => {
                known.epoch = known.epoch.max(epoch);
                told.hears(&mut known.is_unheard)
            }
            Some(known) => {
                child.inherit(known);
                child.is_unheard =
                    told == Told::ByAnswer && (known.is_unheard || child.differs_from(known));
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

    fn put_release(&mut self, key: ResourceKey, mut release: Release, epoch: u32) -> bool {
        release.epoch = epoch;
        let releases = &mut self.entries.entry(key).or_default().releases;
        match releases.iter_mut().find(|known| known.name == release.name) {
            Some(known) if !meta::is_news(release.resource_version, known.resource_version) => {
                known.epoch = known.epoch.max(epoch);
                false
            }
            Some(known) => {
                release.epoch = known.epoch.max(epoch);
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
}

impl Told {
    fn epoch(self) -> u32 {
        match self {
            Self::ByWatch { epoch } => epoch,
            Self::ByAnswer => 0,
        }
    }

    /// Whether this is the watch's word of what an answer had brought, which is news once.
    fn hears(self, is_unheard: &mut bool) -> bool {
        match self {
            Self::ByWatch { .. } => std::mem::take(is_unheard),
            Self::ByAnswer => false,
        }
    }
}

impl Entry {
    fn parts(&self) -> (bool, usize, usize, usize) {
        let Self { resource, children, pods, releases, taken: _ } = self;
        (resource.is_some(), children.len(), pods.len(), releases.len())
    }
}

#[cfg(test)]
mod tests;
