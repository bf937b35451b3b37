//! Roles: what they grant, and who holds them.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::facts;
use crate::model::{Bundle, Object, Purpose};
use crate::yaml::Node;

/// One rule of a Role.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant<'b> {
    pub groups: Node<'b>,
    pub resources: Node<'b>,
    pub verbs: Node<'b>,
    /// Names to which it is limited; empty if to none.
    pub names: Node<'b>,
}

impl<'b> Grant<'b> {
    /// The rules of a Role or ClusterRole; none of other objects.
    pub(super) fn all(role: &Object<'b>) -> impl Iterator<Item = Self> + use<'b> {
        let own = role.group() == "rbac.authorization.k8s.io";
        let rules = role.root.get("rules").items();
        rules.filter(move |_| own).map(|rule| Self {
            groups: rule.get("apiGroups"),
            resources: rule.get("resources"),
            verbs: rule.get("verbs"),
            names: rule.get("resourceNames"),
        })
    }

    /// The item that grants a resource of a group, be it by `*`.
    pub(super) fn resource(&self, group: &str, resource: &str) -> Option<Node<'b>> {
        let in_group = self.groups.items().any(|item| item.is(group) || item.is("*"));
        let mut resources = self.resources.items();
        if in_group { resources.find(|item| item.is(resource) || item.is("*")) } else { None }
    }

    /// Whether it grants one of these verbs, be it by `*`.
    pub(super) fn grants(&self, verbs: &[&str]) -> bool {
        self.verbs.items().any(|item| item.is("*") || verbs.contains(&item.str()))
    }

    /// Whether one of its groups is Kubernetes' own, or all are meant.
    pub(super) fn is_built_in(&self) -> bool {
        self.groups.items().any(|group| group.is("*") || is_built_in(group.str()))
    }
}

/// Who holds a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// People: users, groups, and what is added to the roles that people get.
    People,
    /// Pods that train, serve or are notebooks: code of users.
    Workload,
    /// A controller, which needs what it needs.
    Controller,
    /// No binding here, and a name that tells nothing.
    Unknown,
}

/// Who holds a role, from its bindings here, or else from its labels and name.
pub(super) fn holder(bundle: &Bundle<'_>, role: &Object<'_>) -> Holder {
    let mut controller = false;
    for binding in bundle.bindings_of(role) {
        for subject in binding.root.get("subjects").items() {
            let name = subject.get("name").str();
            match subject.get("kind").str() {
                "User" | "Group" if name.starts_with("system:serviceaccount:") => controller = true,
                "User" | "Group" if name.starts_with("system:kube") || name == "system:masters" => {
                    controller = true;
                }
                "User" | "Group" => return Holder::People,
                "ServiceAccount" => {
                    let space = subject.get("namespace").text().unwrap_or(binding.namespace);
                    if runs_code_of_users(bundle, space, name, binding.root) {
                        return Holder::Workload;
                    }
                    controller = true;
                }
                _ => {}
            }
        }
    }
    if controller {
        return Holder::Controller;
    }
    // Roles with these labels become part of what people are given (`edit`, `kubeflow-edit`).
    let aggregated = role.metadata().get("labels").entries().any(|label| {
        label.value.is("true")
            && [
                "aggregate-to-view",
                "aggregate-to-edit",
                "aggregate-to-admin",
                "aggregate-to-kubeflow-",
            ]
            .iter()
            .any(|part| label.key.contains(part))
    });
    if aggregated {
        return Holder::People;
    }
    let lower = role.name.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
    if has(&CONTROLLERS) {
        Holder::Controller
    } else if has(&PEOPLE) {
        Holder::People
    } else {
        Holder::Unknown
    }
}

/// Words in names of roles that programs hold.
const CONTROLLERS: [&str; 27] = [
    "controller",
    "manager",
    "operator",
    "webhook",
    "proxy",
    "metrics",
    "agent",
    "scheduler",
    "leader",
    "election",
    "provisioner",
    "driver",
    "plugin",
    "admission",
    "autoscaler",
    "ui",
    "server",
    "apiserver",
    "prometheus",
    "exporter",
    "state",
    "discovery",
    "daemon",
    "dashboard",
    "runner",
    "installer",
    "system",
];
/// Words in names of roles that people hold.
const PEOPLE: [&str; 24] = [
    "engineer",
    "engineers",
    "user",
    "users",
    "developer",
    "developers",
    "dev",
    "scientist",
    "scientists",
    "researcher",
    "researchers",
    "team",
    "tenant",
    "tenants",
    "analyst",
    "analysts",
    "student",
    "students",
    "member",
    "members",
    "editor",
    "viewer",
    "contributor",
    "intern",
];

/// Whether pods of a service account run what users bring: models, training code, notebooks.
fn runs_code_of_users(bundle: &Bundle<'_>, space: &str, account: &str, from: Node<'_>) -> bool {
    bundle.pods_of_account(space, account, from).any(|pod| {
        bundle.distance(pod.spec, from) <= 1
            && (matches!(pod.purpose, Purpose::Serving | Purpose::Training | Purpose::Notebook)
                || pod.has_accelerator() && pod.purpose != Purpose::System)
    })
}

#[derive(Deserialize)]
struct Table {
    groups: std::collections::BTreeMap<String, Vec<String>>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/api-resources.json")));

/// Whether a group is Kubernetes' own.
pub(super) fn is_built_in(group: &str) -> bool {
    TABLE.groups.contains_key(group)
}

/// Kubernetes' own groups that have a resource; none for resources of others.
pub(super) fn homes(resource: &str) -> Vec<&'static str> {
    let has = |list: &Vec<String>| list.iter().any(|item| item == resource);
    TABLE.groups.iter().filter(|(_, list)| has(list)).map(|(group, _)| group.as_str()).collect()
}
