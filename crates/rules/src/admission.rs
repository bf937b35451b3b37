//! Rules as ValidatingAdmissionPolicies, for those that one object alone can break.
//!
//! A policy denies, or warns of, only what its rule reports too. It sees less: one object, without
//! what others say of it.

use serde_json::{Value, json};

use crate::ignore;
use crate::registry;
use crate::rule::{Level, Rule};
use crate::settings::Settings;

/// What of a rule CEL can say of a pod template.
///
/// The variables `spec` (the PodSpec), `containers` (the main ones) and `all` (init containers
/// too) are there for the expression.
pub struct Policy {
    /// CEL that holds for pod templates which the rule does not report.
    pub expression: &'static str,
    /// What will happen otherwise, in the words of the rule's findings.
    pub message: &'static str,
    /// Names of the rule's bad examples that the policy lets pass.
    pub misses: &'static [&'static str],
    /// Whether pods of DaemonSets are looked at: of the system's own, few rules know better.
    pub of_daemons: bool,
}

/// Namespaces of what makes a cluster and its GPUs work.
const SYSTEM_NAMESPACES: [&str; 4] =
    ["gpu-operator", "kube-node-lease", "kube-public", "kube-system"];

/// Where an object keeps its pod template. Kinds differ, so types are left to the run.
const SPEC: &str = "object.kind == 'Pod' ? dyn(object).spec : object.kind == 'CronJob' ? dyn(object).spec.jobTemplate.spec.template.spec : dyn(object).spec.template.spec";
const OLD_SPEC: &str = "oldObject == null ? dyn({}) : object.kind == 'Pod' ? dyn(oldObject).spec : object.kind == 'CronJob' ? dyn(oldObject).spec.jobTemplate.spec.template.spec : dyn(oldObject).spec.template.spec";

/// A ValidatingAdmissionPolicy and its binding for each rule that the settings choose and that can
/// be one. Errors are denied, the rest warned of. `page` answers where a rule's page is.
#[must_use]
pub fn policies(settings: &Settings, page: impl Fn(&Rule) -> String) -> Vec<Value> {
    let mut objects = Vec::new();
    for rule in registry::all().iter().copied().filter(|rule| settings.runs(rule.id)) {
        for policy in rule.policies {
            let actions: &[&str] = match settings.level(rule.id, rule.level) {
                Level::Error => &["Deny", "Audit"],
                Level::Warning | Level::Hygiene => &["Warn", "Audit"],
            };
            objects.push(object(rule, policy, &page(rule)));
            objects.push(binding(rule, actions));
        }
    }
    objects
}

fn name(rule: &Rule) -> String {
    format!("trainyard-{}", rule.id.to_ascii_lowercase())
}

fn metadata(rule: &Rule) -> Value {
    json!({"name": name(rule), "labels": {"app.kubernetes.io/managed-by": "trainyard-lint"}})
}

fn object(rule: &Rule, policy: &Policy, page: &str) -> Value {
    let mut apps = vec!["deployments", "replicasets", "statefulsets"];
    if policy.of_daemons {
        apps.push("daemonsets");
    }
    let resources = |group: &str, names: &[&str]| {
        json!({
            "apiGroups": [group], "apiVersions": ["v1"], "resources": names,
            "operations": ["CREATE", "UPDATE"],
        })
    };
    let annotation = format!("{}{}", ignore::ANNOTATION, rule.id.to_ascii_lowercase());
    let mut conditions = vec![
        // What goes away must be able to: finalizers are taken off by an update.
        json!({
            "name": "is-not-being-deleted",
            "expression": "!has(object.metadata.deletionTimestamp)",
        }),
        json!({
            "name": "is-not-ignored",
            "expression": format!("!has(object.metadata.annotations) || !('{annotation}' in object.metadata.annotations) || object.metadata.annotations['{annotation}'] == ''"),
        }),
    ];
    if !policy.of_daemons {
        conditions.push(json!({
            "name": "is-of-no-daemon",
            "expression": "!has(object.metadata.ownerReferences) || !object.metadata.ownerReferences.exists(owner, owner.kind == 'DaemonSet')",
        }));
    }
    let mut metadata = metadata(rule);
    metadata["annotations"] = json!({"trainyard.dev/rule": rule.id, "trainyard.dev/page": page});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            // A rule that cannot know stays silent.
            "failurePolicy": "Ignore",
            "matchConstraints": {"resourceRules": [
                resources("", &["pods"]),
                resources("apps", &apps),
                resources("batch", &["jobs", "cronjobs"]),
            ]},
            "matchConditions": conditions,
            "variables": [
                {"name": "spec", "expression": SPEC},
                {"name": "oldSpec", "expression": OLD_SPEC},
                {"name": "containers", "expression": "variables.spec.containers"},
                {"name": "all", "expression": "variables.spec.containers + (has(variables.spec.initContainers) ? variables.spec.initContainers : [])"},
                // What was let in before the policy came must stay manageable.
                {"name": "unchanged", "expression": "oldObject != null && variables.spec == variables.oldSpec"},
            ],
            "validations": [{
                "expression": format!("variables.unchanged || ({})", policy.expression.trim()),
                "message": format!("{}: {}. See {page}", rule.id, policy.message),
                "reason": "Invalid",
            }],
        },
    })
}

fn binding(rule: &Rule, actions: &[&str]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata(rule),
        "spec": {
            "policyName": name(rule),
            "validationActions": actions,
            "matchResources": {"namespaceSelector": {"matchExpressions": [{
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": SYSTEM_NAMESPACES,
            }]}},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_policies_miss_are_bad_examples() {
        for rule in registry::all() {
            for missed in rule.policies.iter().flat_map(|policy| policy.misses) {
                let example = rule.examples.iter().find(|example| example.name == *missed);
                assert!(example.is_some_and(|it| !it.lines.is_empty()), "{}: {missed}", rule.id);
            }
        }
    }

    #[test]
    fn settings_choose_and_raise() {
        let page = |rule: &Rule| format!("https://example.org/{}", rule.id);
        let settings = Settings {
            include: vec!["GPU12".to_owned(), "GPU13".to_owned()],
            levels: [("GPU12".to_owned(), Level::Error)].into(),
            ..Settings::default()
        };
        let objects = policies(&settings, page);
        let names: Vec<&str> =
            objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect();
        let expected = ["trainyard-gpu12", "trainyard-gpu12", "trainyard-gpu13", "trainyard-gpu13"];
        assert_eq!(names, expected);
        assert_eq!(objects[1]["spec"]["validationActions"], json!(["Deny", "Audit"]));
        let message = objects[2]["spec"]["validations"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("GPU13: ") && message.ends_with("https://example.org/GPU13"));
        // The API server takes no more than that.
        for object in policies(&Settings::default(), page) {
            let message = object["spec"]["validations"][0]["message"].as_str().unwrap_or_default();
            assert!(message.len() < 1024, "{message}");
        }
    }
}
