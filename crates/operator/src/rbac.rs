//! What the operator must be allowed to do, and nothing beyond: made from what the code declares
//! that it uses.

use serde_json::{Value, json};

use crate::elsewhere::WATCHED;
use crate::kinds::OWNED;
use crate::lint::configuration_name;
use crate::names::{ELECTION, FIGURES, LINT, NAME_LABEL, OPERATOR};
use crate::settings::Scope;

/// One rule, with why it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    pub why: &'static str,
    /// Only objects of these names; empty for all.
    pub names: Vec<String>,
}

/// Verbs for what is watched, applied and deleted. An apply needs `create` and `patch`; `get` tells
/// whether an object of that name is somebody else's.
const OWN: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// What is needed in each namespace with services.
pub fn rules() -> Vec<Rule> {
    let rule =
        |group, resource, verbs, why| Rule { group, resource, verbs, why, names: Vec::new() };
    let ours = "trainyard.dev";
    let mut rules = vec![
        rule(ours, "modelservices", &["get", "list", "watch"], "what is asked for"),
        rule(ours, "modelservices/status", &["patch"], "what came of it"),
        rule(
            ours,
            "modelservices/finalizers",
            &["update"],
            "owner references that block a deletion in the foreground",
        ),
        rule(
            ours,
            "trainingjobs",
            &["get", "list", "watch", "delete"],
            "what is asked for, and the end of what is over (`ttlAfterFinished`)",
        ),
        rule(ours, "trainingjobs/status", &["patch"], "what came of it"),
        rule(
            ours,
            "trainingjobs/finalizers",
            &["update"],
            "owner references that block a deletion in the foreground",
        ),
        rule("", "pods", &["list", "watch"], "why a replica does not serve"),
        // None is read: who makes pods may have them mounted, but is shown nothing.
        rule("", "secrets", &["create"], "by which the workers of an MPI job know each other"),
        rule(
            "apps",
            "controllerrevisions",
            &["list", "watch", "create", "delete"],
            "revisions to roll back to",
        ),
        rule(
            "events.k8s.io",
            "events",
            &["list", "create", "patch"],
            "warnings about pods, and our own events",
        ),
    ];
    rules.extend(
        OWNED
            .iter()
            .map(|kind| rule(kind.group, kind.plural, OWN, "what services and jobs are made of")),
    );
    rules.extend(elsewhere_rules(true));
    rules
}

/// What is read of other systems that queue jobs: nothing of theirs is written.
fn elsewhere_rules(is_namespaced: bool) -> impl Iterator<Item = Rule> {
    let is_owned = |group: &str, plural: &str| {
        OWNED.iter().any(|kind| (kind.group, kind.plural) == (group, plural))
    };
    WATCHED
        .iter()
        .filter(move |it| it.is_namespaced == is_namespaced && !is_owned(it.group(), it.plural))
        .map(|it| Rule {
            group: it.group(),
            resource: it.plural,
            verbs: &["list", "watch"],
            why: it.why,
            names: Vec::new(),
        })
}

/// What is needed in the operator's own namespace.
pub fn own_rules(lease: &str) -> Vec<Rule> {
    let group = "coordination.k8s.io";
    let names = vec![lease.to_owned()];
    let why = "which operator acts";
    vec![
        Rule { group, resource: "leases", verbs: &["get", "update"], why, names },
        // A name cannot be demanded of what is not there yet.
        Rule { group, resource: "leases", verbs: &["create"], why, names: Vec::new() },
    ]
}

/// What is needed in the gateway's namespace.
pub fn gateway_namespace_rules() -> Vec<Rule> {
    vec![Rule {
        group: "discovery.k8s.io",
        resource: "endpointslices",
        verbs: &["list", "watch"],
        why: "the gateways, whose figures decide on replicas and rollouts",
        names: Vec::new(),
    }]
}

/// What the lint webhook needs in the namespace of the operator.
fn lint_rules() -> Vec<Rule> {
    let names = vec![LINT.to_owned()];
    let why = "the webhook's keys, for which an installation makes an empty Secret";
    vec![Rule { group: "", resource: "secrets", verbs: &["get", "update"], why, names }]
}

/// What the lint webhook needs in the cluster.
fn lint_cluster_rules(namespace: &str) -> Vec<Rule> {
    let names = vec![configuration_name(namespace)];
    let (group, resource) = ("admissionregistration.k8s.io", "validatingwebhookconfigurations");
    let verbs = &["get", "patch"];
    let why = "whose certificates the API server believes";
    let nodes = Rule {
        group: "",
        resource: "nodes",
        verbs: &["list"],
        why: "labels that pods may select",
        names: Vec::new(),
    };
    vec![Rule { group, resource, verbs, why, names }, nodes]
}

/// The objects that give the lint webhook of an operator in `namespace` its rights.
pub fn lint_manifests(namespace: &str, account: &str) -> Vec<Value> {
    let (subject, home) = ((namespace, account), Some(namespace));
    // Several installations may have each their own.
    let name = configuration_name(namespace);
    vec![
        role("Role", LINT, home, &lint_rules()),
        binding("Role", LINT, home, subject),
        role("ClusterRole", &name, None, &lint_cluster_rules(namespace)),
        binding("ClusterRole", &name, None, subject),
    ]
}

/// What is needed for GPU pools, which are of the whole cluster: an operator of some namespaces
/// does without.
pub fn pool_rules(manage_gpu_nodes: bool) -> Vec<Rule> {
    let rule =
        |group, resource, verbs, why| Rule { group, resource, verbs, why, names: Vec::new() };
    let ours = "trainyard.dev";
    let mut rules = vec![
        rule(ours, "gpupools", &["get", "list", "watch"], "how GPUs are shared"),
        rule(ours, "gpupools/status", &["patch"], "what came of it"),
        rule("", "nodes", &["list", "watch"], "which GPUs there are"),
        rule(
            "resource.k8s.io",
            "deviceclasses",
            &["get", "list", "create", "patch", "delete"],
            "pools whose devices are claimed",
        ),
    ];
    if manage_gpu_nodes {
        rules.push(rule("", "nodes", &["patch"], "labels and taints of the pools' nodes"));
    }
    rules
}

/// What is needed for queues, which are of the whole cluster too.
fn queue_rules() -> Vec<Rule> {
    let rule =
        |resource, verbs, why| Rule { group: "trainyard.dev", resource, verbs, why, names: vec![] };
    let mut rules = vec![
        rule("queues", &["list", "watch"], "which jobs may start"),
        rule("queues/status", &["patch"], "what their jobs have"),
    ];
    rules.extend(elsewhere_rules(false));
    rules
}

/// To whom rights are given, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Granted<'a> {
    pub scope: &'a Scope,
    /// Of the service account.
    pub namespace: &'a str,
    pub account: &'a str,
    pub lease: &'a str,
    /// The gateway's namespace.
    pub gateway: Option<&'a str>,
    pub manage_gpu_nodes: bool,
}

/// The objects that give the operator its rights.
pub fn manifests(granted: &Granted<'_>) -> Vec<Value> {
    let Granted { scope, namespace, account, lease, gateway, manage_gpu_nodes } = *granted;
    let mut all = rules();
    if matches!(scope, Scope::Cluster) {
        all.extend(pool_rules(manage_gpu_nodes));
        all.extend(queue_rules());
    }
    let mut objects = scoped(scope, OPERATOR, &all, (namespace, account));
    objects.push(role("Role", ELECTION, Some(namespace), &own_rules(lease)));
    objects.push(binding("Role", ELECTION, Some(namespace), (namespace, account)));
    if gateway.is_some() {
        objects.push(role("Role", FIGURES, gateway, &gateway_namespace_rules()));
        objects.push(binding("Role", FIGURES, gateway, (namespace, account)));
    }
    objects
}

/// What a gateway needs to be fed.
fn gateway_rules() -> Vec<Rule> {
    let rule =
        |group, resource, verbs, why| Rule { group, resource, verbs, why, names: Vec::new() };
    vec![
        rule("trainyard.dev", "modelservices", &["list", "watch"], "which services there are"),
        rule("discovery.k8s.io", "endpointslices", &["list", "watch"], "their ready replicas"),
        // By name, as services name them; listing would show all secrets.
        rule("", "secrets", &["get"], "API keys"),
    ]
}

/// The objects that give a gateway in `namespace` its rights.
pub fn gateway_manifests(scope: &Scope, namespace: &str, account: &str) -> Vec<Value> {
    scoped(scope, account, &gateway_rules(), (namespace, account))
}

/// A role of that name and its binding: one for the cluster, or one for each namespace.
fn scoped(scope: &Scope, name: &str, rules: &[Rule], subject: (&str, &str)) -> Vec<Value> {
    match scope {
        Scope::Cluster => vec![
            role("ClusterRole", name, None, rules),
            binding("ClusterRole", name, None, subject),
        ],
        Scope::Namespaces(names) => names
            .iter()
            .flat_map(|watched| {
                let watched = Some(watched.as_str());
                [role("Role", name, watched, rules), binding("Role", name, watched, subject)]
            })
            .collect(),
    }
}

fn role(kind: &str, name: &str, namespace: Option<&str>, rules: &[Rule]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|rule| {
            let mut shown = json!({
                "apiGroups": [rule.group], "resources": [rule.resource], "verbs": rule.verbs,
            });
            if !rule.names.is_empty() {
                shown["resourceNames"] = json!(rule.names);
            }
            shown
        })
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": metadata(name, namespace), "rules": rules,
    })
}

fn binding(
    role: &str,
    name: &str,
    namespace: Option<&str>,
    (home, account): (&str, &str),
) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" },
        "metadata": metadata(name, namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": home}],
    })
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let labels = json!({NAME_LABEL: name, "app.kubernetes.io/part-of": "trainyard"});
    match namespace {
        Some(namespace) => json!({"name": name, "namespace": namespace, "labels": labels}),
        None => json!({"name": name, "labels": labels}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wildcards_no_look_at_secrets_and_no_rights_over_rights() {
        let all =
            [rules(), own_rules("l"), gateway_namespace_rules(), pool_rules(true), queue_rules()]
                .concat();
        for rule in all {
            let words = [&[rule.group, rule.resource], rule.verbs].concat();
            assert!(!words.contains(&"*"), "{rule:?}");
            assert!(!["roles", "clusterroles"].contains(&rule.resource), "{rule:?}");
            // It shows nobody a Secret, and changes none.
            assert!(rule.resource != "secrets" || rule.verbs == ["create"], "{rule:?}");
            assert!(
                !["escalate", "bind", "impersonate"].iter().any(|verb| rule.verbs.contains(verb))
            );
        }
    }

    /// Who may change a node may bring any pod to it; that is given where it was asked for only.
    #[test]
    fn nodes_are_only_read_unless_asked_for() {
        let writes = |manage| {
            let rules = [rules(), pool_rules(manage)].concat();
            let nodes = rules.iter().filter(|rule| rule.resource == "nodes");
            nodes.flat_map(|rule| rule.verbs).filter(|it| !["list", "watch"].contains(*it)).count()
        };
        assert_eq!((writes(false), writes(true)), (0, 1));
    }

    #[test]
    fn a_list_of_namespaces_needs_nothing_in_the_cluster() {
        let scope = Scope::Namespaces(vec!["a".into(), "b".into()]);
        let kinds = |scope: &Scope| -> Vec<String> {
            let all = manifests(&Granted {
                scope,
                namespace: "trainyard",
                account: "operator",
                lease: "l",
                gateway: None,
                manage_gpu_nodes: true,
            });
            let show = |o: &Value| {
                format!(
                    "{} {}",
                    o["kind"].as_str().unwrap_or_default(),
                    o["metadata"]["namespace"].as_str().unwrap_or("-")
                )
            };
            all.iter().map(show).collect()
        };
        assert_eq!(
            kinds(&scope),
            [
                "Role a",
                "RoleBinding a",
                "Role b",
                "RoleBinding b",
                "Role trainyard",
                "RoleBinding trainyard"
            ]
        );
        assert_eq!(
            kinds(&Scope::Cluster),
            ["ClusterRole -", "ClusterRoleBinding -", "Role trainyard", "RoleBinding trainyard"]
        );
    }
}
