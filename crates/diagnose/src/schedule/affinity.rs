//! Node selectors and required node affinity.

use serde_json::Value;

use super::Obstacle;
use super::selector::{meets, words};
use crate::view::{Node, Object, Pod, list, text};

pub(super) fn obstacles<'a>(pod: &Pod<'a>, node: &Node<'a>) -> Vec<Obstacle<'a>> {
    let mut found = Vec::new();
    let selector = pod.object.at("/spec/nodeSelector").and_then(Value::as_object);
    for (key, wanted) in selector.into_iter().flatten() {
        let wanted = wanted.as_str().unwrap_or_default();
        let has = node.object.label(key);
        if has != Some(wanted) {
            found.push(Obstacle::Label { key, wanted, has });
        }
    }
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    if let Some(required) = pod.object.at(required)
        && !is_met(required, node.object)
    {
        found.push(Obstacle::Affinity(in_words(required)));
    }
    found
}

/// Terms are alternatives; a term without expressions is never met.
pub(super) fn is_met(node_selector: &Value, node: Object<'_>) -> bool {
    list(node_selector, "/nodeSelectorTerms").iter().any(|term| {
        let expressions = list(term, "/matchExpressions");
        let fields = list(term, "/matchFields");
        let field = |it: &Value| (text(it, "/key") == "metadata.name").then(|| node.name());
        !(expressions.is_empty() && fields.is_empty())
            && expressions.iter().all(|it| meets(it, node.label(text(it, "/key"))))
            && fields.iter().all(|it| meets(it, field(it)))
    })
}

fn in_words(node_selector: &Value) -> String {
    let terms = list(node_selector, "/nodeSelectorTerms").iter().map(|term| {
        let all = list(term, "/matchExpressions").iter().chain(list(term, "/matchFields"));
        all.map(words).collect::<Vec<_>>().join(" and ")
    });
    terms.collect::<Vec<_>>().join(", or ")
}
