//! Volumes that are tied to some nodes.

use serde_json::Value;

use super::Obstacle;
use super::affinity::is_met;
use crate::view::{Node, Object, Pod, View, list, text};

pub(super) fn obstacles<'a>(view: &View<'a>, pod: &Pod<'a>, node: &Node<'a>) -> Vec<Obstacle<'a>> {
    claims(view, pod)
        .into_iter()
        .filter_map(|claim| {
            let why = match view.find("PersistentVolume", "", claim.text("/spec/volumeName")) {
                Some(volume) => {
                    let required = volume.at("/spec/nodeAffinity/required")?;
                    (!is_met(required, node.object))
                        .then(|| format!("its volume `{}` is elsewhere", volume.name()))?
                }
                None => {
                    let class = view.find("StorageClass", "", class_of(claim)?)?;
                    let allowed = class.list("/allowedTopologies");
                    (!allowed.is_empty() && !allowed.iter().any(|it| allows(it, node.object)))
                        .then(|| format!("its class `{}` makes no volume there", class.name()))?
                }
            };
            Some(Obstacle::Volume { claim: claim.name().to_owned(), why })
        })
        .collect()
}

/// The claims that a pod names and that are there.
pub(crate) fn claims<'a>(view: &View<'a>, pod: &Pod<'a>) -> Vec<Object<'a>> {
    let namespace = pod.object.namespace();
    let volumes = pod.object.list("/spec/volumes").iter();
    volumes
        .filter_map(|volume| {
            let name = text(volume, "/persistentVolumeClaim/claimName");
            view.find("PersistentVolumeClaim", namespace, name)
        })
        .collect()
}

fn class_of(claim: Object<'_>) -> Option<&str> {
    claim.at("/spec/storageClassName").and_then(Value::as_str)
}

fn allows(topology: &Value, node: Object<'_>) -> bool {
    list(topology, "/matchLabelExpressions").iter().all(|expression| {
        let label = node.label(text(expression, "/key"));
        list(expression, "/values").iter().any(|value| value.as_str() == label && label.is_some())
    })
}
