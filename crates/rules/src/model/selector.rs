//! Label selectors.

use crate::yaml::Node;

/// A label selector as Services (a plain mapping) and policies (`matchLabels`,
/// `matchExpressions`) write it.
#[derive(Debug, Clone)]
pub struct Selector<'b> {
    /// Where it is written.
    pub node: Node<'b>,
    /// Labels that must be equal.
    pub labels: Vec<(&'b str, &'b str)>,
    expressions: Node<'b>,
}

impl<'b> Selector<'b> {
    /// A selector with `matchLabels` and `matchExpressions`.
    #[must_use]
    pub fn structured(node: Node<'b>) -> Self {
        let labels = pairs(node.get("matchLabels"));
        Self { node, labels, expressions: node.get("matchExpressions") }
    }

    /// A mapping of labels, as in `spec.selector` of a Service and in `nodeSelector`.
    #[must_use]
    pub fn plain(node: Node<'b>) -> Self {
        Self { node, labels: pairs(node), expressions: node.get("\0") }
    }

    /// Whether it selects everything (in Services: nothing).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.expressions.is_empty()
    }

    /// Whether it selects an object with these labels.
    #[must_use]
    pub fn matches(&self, labels: Node<'_>) -> bool {
        self.labels
            .iter()
            .all(|(key, value)| labels.get(key).str() == *value && labels.get(key).exists())
            && self.expressions.items().all(|expression| fits(expression, labels))
    }
}

fn pairs<'b>(node: Node<'b>) -> Vec<(&'b str, &'b str)> {
    node.entries().map(|entry| (entry.key, entry.value.str())).collect()
}

fn fits(expression: Node<'_>, labels: Node<'_>) -> bool {
    let value = labels.get(expression.get("key").str());
    let listed = || expression.get("values").items().any(|item| item.str() == value.str());
    match expression.get("operator").str() {
        "In" => value.exists() && listed(),
        "NotIn" => !(value.exists() && listed()),
        "Exists" => value.exists(),
        "DoesNotExist" => !value.exists(),
        // An operator of a later Kubernetes: unknown is not a mismatch.
        _ => true,
    }
}
