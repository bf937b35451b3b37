//! What can be said of one object without the others that it stands among, as an admission webhook
//! sees it. Only nodes are known besides, if at all.

use crate::lint::{Finding, lint};
use crate::registry;
use crate::rule::{Check, Level, Rule};
use crate::settings::{Profile, Settings};
use crate::yaml::{Documents, Source};

/// Rules that are silent where another object excuses what they look at: a disruption budget, a
/// PodGroup, a LimitRange, a policy. Alone they would accuse the innocent.
const NEED_OTHERS: [&str; 9] =
    ["CST02", "CST04", "GPU02", "GPU20", "NET01", "OBS01", "SEC09", "SRV10", "TRN18"];
/// Rules that need to know the labels that nodes have.
const NEED_NODES: [&str; 1] = ["GPU07"];
/// Rules whose errors happen only where no GPU is free, which depends on the rest of the cluster.
const NEED_SPACE: [&str; 2] = ["SRV05", "TRN08"];

/// Whether the rule is right about an object of which nothing else is known but nodes.
fn is_judged_alone(rule: &Rule, nodes_known: bool) -> bool {
    !matches!(rule.check, Check::Bundle(_))
        && !NEED_OTHERS.contains(&rule.id)
        && (nodes_known || !NEED_NODES.contains(&rule.id))
}

/// A linter of single objects.
#[derive(Debug)]
pub struct Alone {
    settings: Settings,
    /// Nodes as manifests.
    nodes: Option<String>,
}

impl Alone {
    /// `nodes` are manifests of the cluster's nodes, or none where they are not known.
    #[must_use]
    pub fn new(profile: Profile, nodes: Option<String>) -> Self {
        let rules = registry::all().iter();
        let include = rules
            .filter(|rule| is_judged_alone(rule, nodes.is_some()))
            .map(|rule| rule.id.to_owned())
            .collect();
        let settings = Settings { profile: Some(profile), include, ..Settings::default() };
        Self { settings, nodes }
    }

    /// What rules find in the object, which is YAML or JSON. What goes wrong only where the cluster
    /// is full is a warning.
    #[must_use]
    pub fn lint(&self, object: &str) -> Vec<Finding> {
        let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
        let nodes = self.nodes.as_deref().map(|nodes| source("nodes", nodes));
        let sources = [source("object", object)].into_iter().chain(nodes).collect();
        let mut findings = lint(&Documents::read(sources), &self.settings);
        findings.retain(|finding| finding.file_index == 0);
        for finding in &mut findings {
            if NEED_SPACE.contains(&finding.rule.as_str()) {
                finding.level = finding.level.min(Level::Warning);
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each object of an example that is fine must be fine without the others, nodes excepted. What
    /// a kustomization changes does not reach a cluster as it stands.
    #[test]
    fn what_is_fine_among_others_is_fine_alone() {
        let mut wrong = Vec::new();
        for rule in registry::all() {
            for example in rule.examples.iter().filter(|example| {
                example.lines.is_empty() && !example.manifest.contains("kind: Kustomization\n")
            }) {
                let (nodes, objects): (Vec<&str>, Vec<&str>) = example
                    .manifest
                    .split("\n---\n")
                    .partition(|object| object.contains("kind: Node\n"));
                let linter = Alone::new(example.profile, Some(nodes.join("\n---\n")));
                for object in objects {
                    let found = linter.lint(object);
                    if found.iter().any(|finding| finding.rule == rule.id) {
                        wrong.push(format!("{} `{}`", rule.id, example.name));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn names_are_of_rules_and_mistakes_in_pods_are_seen() {
        for id in NEED_OTHERS.iter().chain(&NEED_NODES) {
            let rule = registry::find(id).expect("a rule");
            assert!(!matches!(rule.check, Check::Bundle(_)), "{id} is left out anyway");
        }
        let blind = Alone::new(Profile::Generic, None);
        for id in ["GPU03", "SRV13", "TRN01"] {
            assert!(blind.settings.runs(id), "{id}");
        }
        assert!(!blind.settings.runs("GPU07"));
        assert!(!blind.settings.runs("SRV10"));
    }

    #[test]
    fn a_label_of_a_node_is_known() {
        let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {
            "nodeSelector": {"accelerator": "v100"},
            "containers": [{"name": "a", "image": "a:1", "resources": {"limits": {"nvidia.com/gpu": 1}}}]}}"#;
        let node = |label: &str| {
            format!(
                r#"{{"apiVersion": "v1", "kind": "Node", "metadata": {{"name": "n", "labels": {{"{label}": "v100"}}}}}}"#
            )
        };
        let rules = |nodes: Option<String>| -> Vec<String> {
            let found = Alone::new(Profile::Generic, nodes).lint(pod);
            found.into_iter().map(|finding| finding.rule).filter(|id| id == "GPU07").collect()
        };
        assert_eq!(rules(Some(node("zone"))), ["GPU07"]);
        assert!(rules(Some(node("accelerator"))).is_empty());
        assert!(rules(None).is_empty());
    }

    #[test]
    fn what_fails_only_where_no_gpu_is_free_is_a_warning() {
        for id in NEED_SPACE {
            let rule = registry::find(id).expect("a rule");
            let bad = rule.examples.iter().find(|example| !example.lines.is_empty());
            let example = bad.expect("an example that is wrong");
            let found = Alone::new(example.profile, None).lint(example.manifest);
            let levels: Vec<Level> =
                found.iter().filter(|it| it.rule == id).map(|it| it.level).collect();
            assert!(!levels.is_empty(), "{id}");
            assert!(levels.iter().all(|level| *level == Level::Warning), "{id}: {levels:?}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_no_mistake() {
        for text in ["", "[", "null", "{}", "\u{0}", "- a\n- b"] {
            assert!(Alone::new(Profile::Generic, Some("]".to_owned())).lint(text).is_empty());
        }
    }
}
