//! A snapshot with indexes, and objects with names for what is read of them.

mod event;
mod node;
mod object;
mod pod;

use std::cell::OnceCell;
use std::collections::HashMap;

pub(crate) use event::Event;
pub(crate) use node::{Node, is_gpu_resource, quantity};
pub(crate) use object::{Object, list, number, seconds, text};
pub(crate) use pod::{Container, Pod};

use crate::answer::ObjectRef;
use crate::pending::{self, Pending};
use crate::snapshot::{LogTail, NodeProbe, Sample, Snapshot};

/// Longest chain of owners that is followed: it may be a circle.
const MOST_OWNERS: usize = 8;

/// An index of a snapshot.
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// When it was taken, in seconds since the epoch; none if it does not say.
    pub(crate) now: Option<i64>,
    objects: Vec<Object<'a>>,
    by_kind: HashMap<&'a str, Vec<Object<'a>>>,
    by_name: HashMap<(&'a str, &'a str, &'a str), Object<'a>>,
    events: HashMap<(&'a str, &'a str, &'a str), Vec<Event<'a>>>,
    logs: HashMap<(&'a str, &'a str), Vec<&'a LogTail>>,
    pods: Vec<Pod<'a>>,
    nodes: Vec<Node<'a>>,
    pods_of_node: HashMap<&'a str, Vec<Pod<'a>>>,
    pending: OnceCell<Vec<Pending<'a>>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let objects: Vec<Object<'a>> = snapshot.objects.iter().map(Object).collect();
        let mut by_kind: HashMap<&str, Vec<Object<'a>>> = HashMap::new();
        let mut by_name = HashMap::new();
        let mut events: HashMap<_, Vec<Event<'a>>> = HashMap::new();
        for object in &objects {
            by_kind.entry(object.kind()).or_default().push(*object);
            by_name.insert((object.kind(), object.namespace(), object.name()), *object);
        }
        for object in by_kind.get("Event").into_iter().flatten() {
            let event = Event::new(*object);
            let Some(about) = event.regarding() else { continue };
            let key = (text(about, "/kind"), text(about, "/namespace"), text(about, "/name"));
            // An earlier object may have had the same name.
            let uid = text(about, "/uid");
            let lives: Option<&Object<'a>> = by_name.get(&key);
            let is_of_another =
                lives.is_some_and(|it| !uid.is_empty() && !it.uid().is_empty() && it.uid() != uid);
            if !is_of_another {
                events.entry(key).or_default().push(event);
            }
        }
        for list in events.values_mut() {
            list.sort_by(|a, b| {
                (b.last_seen, a.reason, a.message).cmp(&(a.last_seen, b.reason, b.message))
            });
        }
        let mut logs: HashMap<_, Vec<&LogTail>> = HashMap::new();
        for log in &snapshot.logs {
            logs.entry((log.namespace.as_str(), log.pod.as_str())).or_default().push(log);
        }
        let of_kind = |kind: &str| by_kind.get(kind).cloned().unwrap_or_default();
        let pods: Vec<Pod<'a>> = of_kind("Pod").into_iter().map(Pod::new).collect();
        let nodes = of_kind("Node").into_iter().map(Node::new).collect();
        let mut pods_of_node: HashMap<&str, Vec<Pod<'a>>> = HashMap::new();
        for pod in pods.iter().filter(|pod| !pod.node_name().is_empty()) {
            pods_of_node.entry(pod.node_name()).or_default().push(pod.clone());
        }
        Self {
            snapshot,
            now: seconds(&snapshot.taken_at),
            objects,
            by_kind,
            by_name,
            events,
            logs,
            pods,
            nodes,
            pods_of_node,
            pending: OnceCell::new(),
        }
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = Object<'a>> + '_ {
        self.objects.iter().copied()
    }

    pub(crate) fn of_kind(&self, kind: &str) -> &[Object<'a>] {
        self.by_kind.get(kind).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Object<'a>> {
        self.by_name.get(&(kind, namespace, name)).copied()
    }

    pub(crate) fn pods(&self) -> &[Pod<'a>] {
        &self.pods
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Pod<'a>> {
        self.find("Pod", namespace, name).map(Pod::new)
    }

    pub(crate) fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node<'a>> {
        self.nodes.iter().find(|node| node.name() == name)
    }

    /// Pods that were given to a node.
    pub(crate) fn pods_on(&self, node: &str) -> &[Pod<'a>] {
        self.pods_of_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// Events about an object, the newest first.
    pub(crate) fn events_of(&self, object: Object<'a>) -> &[Event<'a>] {
        let key = (object.kind(), object.namespace(), object.name());
        self.events.get(&key).map_or(&[], Vec::as_slice)
    }

    /// All events about objects of a kind, with what is known of the object.
    pub(crate) fn events_about<'v>(
        &'v self,
        kinds: &'v [&str],
    ) -> impl Iterator<Item = &'v Event<'a>> + 'v {
        let mut keys: Vec<_> =
            self.events.iter().filter(|((kind, ..), _)| kinds.contains(kind)).collect();
        keys.sort_by(|a, b| a.0.cmp(b.0));
        keys.into_iter().flat_map(|(_, events)| events)
    }

    pub(crate) fn logs_of(&self, pod: &Pod<'a>) -> &[&'a LogTail] {
        let key = (pod.object.namespace(), pod.object.name());
        self.logs.get(&key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn samples<'v>(
        &'v self,
        name: &'v str,
    ) -> impl Iterator<Item = &'a Sample> + use<'a, 'v> {
        self.snapshot.metrics.iter().filter(move |sample| sample.name == name)
    }

    pub(crate) fn probes(&self) -> &'a [NodeProbe] {
        &self.snapshot.probes
    }

    /// The object that controls another.
    pub(crate) fn owner(&self, object: Object<'a>) -> Option<Object<'a>> {
        let owner = object.controller()?;
        let namespaced = self.find(&owner.kind, object.namespace(), &owner.name);
        namespaced.or_else(|| self.find(&owner.kind, "", &owner.name))
    }

    /// The object that a person wrote: the last of the chain of owners that is known.
    pub(crate) fn top(&self, object: Object<'a>) -> Object<'a> {
        let mut top = object;
        for _ in 0..MOST_OWNERS {
            // A node owns its static pods, and nobody wrote it.
            match self.owner(top).filter(|owner| owner.kind() != "Node") {
                Some(owner) => top = owner,
                None => break,
            }
        }
        top
    }

    /// What keeps pods from nodes.
    pub(crate) fn pending(&self) -> &[Pending<'a>] {
        self.pending.get_or_init(|| pending::analyse(self))
    }

    /// Seconds from a time to that of the snapshot; none if either is unknown.
    pub(crate) fn age(&self, time: &str) -> Option<i64> {
        Some(self.now?.saturating_sub(seconds(time)?))
    }

    /// An object by reference.
    pub(crate) fn get(&self, object: &ObjectRef) -> Option<Object<'a>> {
        self.find(&object.kind, &object.namespace, &object.name)
    }
}
