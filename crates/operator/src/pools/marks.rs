//! The labels and the taint that a pool's nodes carry: what to change on a node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint as NodeTaint;
use serde_json::{Value, json};
use trainyard_api::gpu_pool::Taint;
use trainyard_api::model_service::TaintEffect;
use trainyard_plan::kubernetes::{MIG_CONFIG, NodeMarks, PLUGIN_CONFIG, POOL, effect};

use super::inventory::GpuNode;

/// The taint that was put on a node for its pool, so that it can be taken away again.
const TAINT: &str = "trainyard.dev/gpu-pool-taint";

/// Whether a node carries the labels that choose what NVIDIA's programs do.
pub(super) fn has_labels(node: &GpuNode, marks: &NodeMarks) -> bool {
    marks.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

/// Whether a node carries the pool's taint.
pub(super) fn has_taint(node: &GpuNode, marks: &NodeMarks) -> bool {
    marks.taint.as_ref().is_none_or(|taint| node.taints.iter().any(|it| is(it, taint)))
}

/// The merge patch that gives a node the marks of its pool, or takes them away where it is in none
/// any more; none where there is nothing to change.
///
/// What people or clouds have put on a node stays: only a label or taint of ours is taken away.
pub(super) fn patch(node: &GpuNode, marks: Option<&NodeMarks>) -> Option<Value> {
    let mut labels = BTreeMap::new();
    let was_ours = node.labels.contains_key(POOL);
    for key in [POOL, PLUGIN_CONFIG, MIG_CONFIG] {
        let wanted = marks.and_then(|marks| marks.labels.get(key));
        match wanted {
            Some(value) if node.labels.get(key) != Some(value) => {
                labels.insert(key, json!(value));
            }
            None if was_ours && node.labels.contains_key(key) => {
                labels.insert(key, Value::Null);
            }
            _ => {}
        }
    }
    let wanted = marks.and_then(|marks| marks.taint.as_ref());
    let before = node.annotations.get(TAINT).map(String::as_str);
    let text = wanted.map(text);
    let mut taints: Vec<&NodeTaint> = node.taints.iter().collect();
    // The one that was ours, where another is wanted now.
    if let Some(before) = before.filter(|before| text.as_deref() != Some(*before)) {
        taints.retain(|taint| of_node(taint) != before);
    }
    let added = wanted.filter(|wanted| !taints.iter().any(|taint| is(taint, wanted)));
    let is_changed = added.is_some() || taints.len() != node.taints.len();
    let mut annotation = None;
    if added.is_some() && text.as_deref() != before {
        annotation = Some(json!(text));
    } else if wanted.is_none() && before.is_some() {
        annotation = Some(Value::Null);
    }
    if labels.is_empty() && !is_changed && annotation.is_none() {
        return None;
    }
    let mut patch = json!({"metadata": {"labels": labels}});
    if let Some(annotation) = annotation {
        patch["metadata"]["annotations"][TAINT] = annotation;
    }
    if is_changed {
        // The list is replaced as a whole: only the one that was seen.
        patch["metadata"]["resourceVersion"] = json!(node.resource_version);
        let mut all: Vec<Value> = taints.iter().map(|taint| json!(taint)).collect();
        all.extend(added.map(
            |taint| json!({"key": taint.key, "value": taint.value, "effect": effect(of(taint))}),
        ));
        patch["spec"]["taints"] = json!(all);
    }
    Some(patch)
}

fn of(taint: &Taint) -> TaintEffect {
    taint.effect.unwrap_or(TaintEffect::NoSchedule)
}

/// Whether a node's taint is the pool's. A node cannot have two of one key and effect.
fn is(taint: &NodeTaint, wanted: &Taint) -> bool {
    of_node(taint) == text(wanted)
}

fn text(taint: &Taint) -> String {
    format!("{}={}:{}", taint.key, taint.value.as_deref().unwrap_or_default(), effect(of(taint)))
}

fn of_node(taint: &NodeTaint) -> String {
    format!("{}={}:{}", taint.key, taint.value.as_deref().unwrap_or_default(), taint.effect)
}

#[cfg(test)]
mod tests {
    use trainyard_plan::kubernetes::node_marks;

    use super::super::inventory::examples::{node, pool};
    use super::*;

    fn marks() -> NodeMarks {
        let taint = json!({"key": "nvidia.com/gpu", "value": "present"});
        let spec = json!({"nodeSelector": {"pool": "t4"}, "taint": taint, "sharing": {"mode": "mps", "shares": 4}});
        node_marks("t4", &pool(spec))
    }

    /// A node after a patch, as an API server makes it.
    fn after(mut node: GpuNode, patch: &Value) -> GpuNode {
        for (place, texts) in [("labels", &mut node.labels), ("annotations", &mut node.annotations)]
        {
            for (key, value) in patch["metadata"][place].as_object().into_iter().flatten() {
                match value.as_str() {
                    Some(value) => drop(texts.insert(key.clone(), value.to_owned())),
                    None => drop(texts.remove(key)),
                }
            }
        }
        if let Some(taints) = patch.pointer("/spec/taints") {
            node.taints = serde_json::from_value(taints.clone()).expect("taints");
        }
        node
    }

    #[test]
    fn marks_come_and_go_and_what_is_not_ours_stays() {
        let foreign = json!({"key": "a", "effect": "NoExecute"});
        let mut bare = node("n", json!({}), json!({}));
        bare.taints = vec![serde_json::from_value(foreign).expect("a taint")];
        let marks = marks();
        let first = patch(&bare, Some(&marks)).expect("nothing is there yet");
        assert_eq!(first["metadata"]["resourceVersion"], "7");
        let marked = after(bare.clone(), &first);
        assert!(has_labels(&marked, &marks) && has_taint(&marked, &marks));
        assert_eq!(marked.taints.len(), 2);
        assert_eq!(patch(&marked, Some(&marks)), None);
        let last = patch(&marked, None).expect("it is in no pool any more");
        let again = after(marked.clone(), &last);
        assert_eq!(
            (again.labels, again.taints, again.annotations),
            (bare.labels, bare.taints, bare.annotations)
        );
        // Another content has another label, and the taint stays.
        let mut other = marks.clone();
        other.labels.insert(PLUGIN_CONFIG.to_owned(), "t4-other".to_owned());
        let change = patch(&marked, Some(&other)).expect("another label");
        assert_eq!(change["metadata"]["labels"], json!({PLUGIN_CONFIG: "t4-other"}));
        assert!(change.pointer("/spec/taints").is_none());
    }

    #[test]
    fn a_taint_that_was_there_before_is_not_taken_away() {
        let mut tainted = node("n", json!({}), json!({}));
        let taint = json!({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"});
        tainted.taints = vec![serde_json::from_value(taint).expect("a taint")];
        let marked = after(tainted.clone(), &patch(&tainted, Some(&marks())).expect("labels"));
        let again = after(marked.clone(), &patch(&marked, None).expect("labels"));
        assert_eq!(again.taints, tainted.taints);
    }

    #[test]
    fn labels_that_people_set_are_not_taken_away() {
        let by_hand = node("n", json!({}), json!({PLUGIN_CONFIG: "mine"}));
        assert_eq!(patch(&by_hand, None), None);
    }
}
