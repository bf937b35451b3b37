//! On which nodes a pod may run by all rules but room.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::Value;
use trainyard_packing::{Model, ModelSet, Welcome};

use crate::pending::names;
use crate::schedule::{Amounts, Obstacle, Space, claims, obstacles, taint_text};
use crate::view::{Node, Pod, View};

/// Pods of which all that rules look at is the same have one answer.
pub(super) struct Rules<'v, 'a> {
    view: &'v View<'a>,
    space: Space<'a>,
    /// With the models of their GPUs.
    nodes: Vec<(&'v Node<'a>, Option<Model>)>,
    known: RefCell<BTreeMap<String, Allowed>>,
    nowhere: Welcome,
}

/// Where a pod may run.
#[derive(Clone)]
pub(super) struct Allowed {
    pub(super) nodes: Welcome,
    /// Of the GPUs there.
    pub(super) models: ModelSet,
}

/// What rules look at of a pod itself.
const FIELDS: [&str; 5] = [
    "/spec/nodeSelector",
    "/spec/affinity",
    "/spec/tolerations",
    "/spec/topologySpreadConstraints",
    "/spec/hostNetwork",
];

impl<'v, 'a> Rules<'v, 'a> {
    pub(super) fn new(
        view: &'v View<'a>,
        space: Space<'a>,
        nodes: Vec<(&'v Node<'a>, Option<Model>)>,
    ) -> Self {
        let nowhere = vec![false; nodes.len()].into();
        Self { view, space, nodes, known: RefCell::default(), nowhere }
    }

    /// No node at all.
    pub(super) fn nowhere(&self) -> Allowed {
        Allowed { nodes: self.nowhere.clone(), models: ModelSet::EMPTY }
    }

    /// The nodes where it may run.
    pub(super) fn welcome(&self, pod: &Pod<'a>) -> Allowed {
        let mut key = pod.object.namespace().to_owned();
        for field in FIELDS {
            key.push('\n');
            key.push_str(&pod.object.at(field).map(Value::to_string).unwrap_or_default());
        }
        // Labels differ between the pods of a StatefulSet, and only rules about other pods see them.
        if self.space.has_unsociable() || !pod.object.list(FIELDS[3]).is_empty() {
            key.push_str(
                &pod.object.at("/metadata/labels").map(Value::to_string).unwrap_or_default(),
            );
        }
        for claim in claims(self.view, pod) {
            key.push('\n');
            key.push_str(claim.name());
        }
        for container in pod.object.list("/spec/containers") {
            key.push('\n');
            key.push_str(&container.get("ports").map(Value::to_string).unwrap_or_default());
        }
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone();
        }
        let nodes: Welcome =
            self.nodes.iter().map(|(node, _)| self.obstacles(pod, node).is_empty()).collect();
        let models = self.nodes.iter().zip(nodes.iter()).filter(|(_, may)| **may);
        let models = models.filter_map(|((_, model), _)| *model);
        let allowed = Allowed { models: models.fold(ModelSet::EMPTY, ModelSet::with), nodes };
        self.known.borrow_mut().insert(key, allowed.clone());
        allowed
    }

    fn obstacles(&self, pod: &Pod<'a>, node: &Node<'a>) -> Vec<Obstacle<'a>> {
        obstacles(self.view, &self.space, pod, &Amounts::new(), node)
    }

    /// Why a pod may run on no node but its own: what keeps it from most others.
    pub(super) fn why_nowhere_else(&self, pod: &Pod<'a>, own: usize) -> String {
        let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let others = self.nodes.iter().enumerate().filter(|(at, _)| *at != own);
        for (_, (node, _)) in others {
            if let Some(obstacle) = self.obstacles(pod, node).first() {
                reasons.entry(words(obstacle)).or_default().push(node.name());
            }
        }
        let most = reasons.into_iter().max_by_key(|(_, nodes)| nodes.len());
        match most {
            Some((why, nodes)) => {
                format!("no other node may have it ({}: {why})", names(nodes.into_iter()))
            }
            None => "no other node takes pods, or has what it asks for".to_owned(),
        }
    }
}

fn words(obstacle: &Obstacle<'_>) -> String {
    match obstacle {
        Obstacle::Taint(taint) => format!("it does not tolerate `{}`", taint_text(taint)),
        Obstacle::Label { key, wanted, .. } => format!("no label `{key}: {wanted}`"),
        Obstacle::Affinity(terms) => format!("its node affinity wants {terms}"),
        Obstacle::Short(short) => format!("`{}` is short", short.resource),
        Obstacle::Port { port, .. } => format!("port {port} is taken"),
        Obstacle::Volume { why, .. } | Obstacle::Peers(why) => why.clone(),
    }
}
