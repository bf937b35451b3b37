//! Plants mistakes: writes the examples that rules must find in other words, and puts them into
//! files that are clean.

use std::collections::BTreeMap;
use std::fmt::Write;

use trainyard_rules::yaml::Node;
use trainyard_rules::{Documents, Source};

/// Names that mean something by themselves: under another they are no mistake, or another one.
const KNOWN: [&str; 3] = ["default", "nvidia", "vllm"];

/// How a planted document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// Block style, indented by four.
    Block,
    /// JSON.
    Json,
}

/// An example written anew: other names, another notation, documents in reverse order if asked.
/// The meaning is the same, so a rule must find the same number of mistakes.
pub(super) fn rewrite(example: &str, number: usize, notation: Notation) -> Option<String> {
    let source = Source { name: "example.yaml".to_owned(), text: example.to_owned() };
    let documents = Documents::read(vec![source]);
    if !documents.errors.is_empty() {
        return None;
    }
    let mut names = BTreeMap::new();
    for root in documents.roots() {
        let metadata = root.get("metadata");
        for name in [metadata.get("name"), metadata.get("namespace")] {
            let known = KNOWN.contains(&name.str()) || name.str().starts_with("kube-");
            if !known && !name.str().is_empty() {
                names.insert(name.str().to_owned(), format!("{}-x{number}", name.str()));
            }
        }
    }
    let writer = Writer { names };
    let mut written: Vec<String> = documents
        .roots()
        .map(|root| {
            let mut text = String::new();
            match notation {
                Notation::Block => writer.block(root, 0, &mut text),
                Notation::Json => writer.json(root, &mut text),
            }
            text
        })
        .collect();
    if number % 2 == 1 {
        written.reverse();
    }
    Some(written.join("\n---\n"))
}

/// Writes trees in other words.
struct Writer {
    /// New names by old ones, in every scalar that is a name.
    names: BTreeMap<String, String>,
}

impl Writer {
    fn scalar(&self, node: Node<'_>) -> String {
        let text = node.text().unwrap_or("null");
        if let Some(name) = self.names.get(text) {
            return quote(name);
        }
        let is_value = node.int().is_some()
            || node.bool().is_some()
            || (!node.is_quoted() && (node.is_null() || text.parse::<f64>().is_ok()));
        if is_value && !node.is_quoted() { text.to_owned() } else { quote(text) }
    }

    fn json(&self, node: Node<'_>, into: &mut String) {
        if node.is_map() {
            into.push('{');
            for (at, entry) in node.entries().enumerate() {
                let comma = if at > 0 { ", " } else { "" };
                write!(into, "{comma}{}: ", quote(entry.key)).expect("a String takes all");
                self.json(entry.value, into);
            }
            into.push('}');
        } else if node.is_list() {
            into.push('[');
            for (at, item) in node.items().enumerate() {
                into.push_str(if at > 0 { ", " } else { "" });
                self.json(item, into);
            }
            into.push(']');
        } else {
            into.push_str(&self.scalar(node));
        }
    }

    fn block(&self, node: Node<'_>, indent: usize, into: &mut String) {
        let pad = " ".repeat(indent);
        if node.is_map() && !node.is_empty() {
            for (at, entry) in node.entries().enumerate() {
                into.push_str(if at > 0 { &pad } else { "" });
                into.push_str(&quote(entry.key));
                into.push(':');
                self.nested(entry.value, indent + 4, into);
            }
        } else if node.is_list() && !node.is_empty() {
            for (at, item) in node.items().enumerate() {
                into.push_str(if at > 0 { &pad } else { "" });
                into.push_str("-   ");
                if item.is_empty() {
                    self.json(item, into);
                    into.push('\n');
                } else {
                    self.block(item, indent + 4, into);
                }
            }
        } else {
            self.json(node, into);
            into.push('\n');
        }
    }

    fn nested(&self, node: Node<'_>, indent: usize, into: &mut String) {
        if node.is_empty() {
            into.push(' ');
            self.json(node, into);
            into.push('\n');
        } else {
            into.push('\n');
            into.push_str(&" ".repeat(indent));
            self.block(node, indent, into);
        }
    }
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str =
        "kind: A\nmetadata: {name: a}\nspec:\n- x: '1'\n  y: [a, b, {}]\n---\nkind: B\n";

    #[test]
    fn names_change_everywhere_and_types_stay() {
        let json = rewrite(EXAMPLE, 2, Notation::Json).unwrap();
        assert_eq!(
            json,
            r#"{"kind": "A", "metadata": {"name": "a-x2"}, "spec": [{"x": "1", "y": ["a-x2", "b", {}]}]}
---
{"kind": "B"}"#
        );
    }

    #[test]
    fn both_notations_mean_the_same() {
        let block = rewrite(EXAMPLE, 2, Notation::Block).unwrap();
        let again = rewrite(&block, 0, Notation::Json).unwrap();
        let json = rewrite(EXAMPLE, 2, Notation::Json).unwrap();
        assert_eq!(again, json.replace("a-x2", "a-x2-x0"), "{block}");
    }
}
