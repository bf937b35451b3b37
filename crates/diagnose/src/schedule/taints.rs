//! Taints and tolerations.

use serde_json::Value;

use crate::view::{Node, Pod, text};

/// Taints of a node that keep a pod away.
pub(super) fn untolerated<'a>(pod: &Pod<'a>, node: &Node<'a>) -> impl Iterator<Item = &'a Value> {
    let tolerations = pod.object.list("/spec/tolerations");
    let taints: Vec<&'a Value> = node.taints().collect();
    taints.into_iter().filter(move |taint| !is_tolerated(tolerations, taint))
}

pub(crate) fn is_tolerated(tolerations: &[Value], taint: &Value) -> bool {
    tolerations.iter().any(|toleration| {
        let (effect, key) = (text(toleration, "/effect"), text(toleration, "/key"));
        let operator = text(toleration, "/operator");
        (effect.is_empty() || effect == text(taint, "/effect"))
            && match operator {
                "Exists" => key.is_empty() || key == text(taint, "/key"),
                "" | "Equal" => {
                    key == text(taint, "/key")
                        && text(toleration, "/value") == text(taint, "/value")
                }
                _ => false,
            }
    })
}

/// `nvidia.com/gpu=present:NoSchedule`, as kubectl writes taints.
pub(crate) fn taint_text(taint: &Value) -> String {
    let (key, value, effect) = (text(taint, "/key"), text(taint, "/value"), text(taint, "/effect"));
    if value.is_empty() { format!("{key}:{effect}") } else { format!("{key}={value}:{effect}") }
}

#[test]
fn tolerations() {
    use serde_json::json;
    let taint = json!({"key": "a", "value": "b", "effect": "NoSchedule"});
    let check = |toleration: Value, expected: bool| {
        assert_eq!(
            is_tolerated(std::slice::from_ref(&toleration), &taint),
            expected,
            "{toleration}"
        );
    };
    check(json!({"operator": "Exists"}), true);
    check(json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"}), true);
    check(json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), false);
    check(json!({"key": "a", "value": "b"}), true);
    check(json!({"key": "a", "value": "c"}), false);
    check(json!({"key": "b", "operator": "Exists"}), false);
    check(json!("x"), false);
    assert_eq!(taint_text(&taint), "a=b:NoSchedule");
}
