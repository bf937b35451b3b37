use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

use super::access::Grant;

rule! {
    /// Wildcard in a role
    ///
    /// ## What it does
    /// Looks at roles for `*` among the verbs or resources of Kubernetes' own groups, or of all
    /// groups. Silent for groups of custom resources, where an owner of the group may mean it, and
    /// for rules limited to names.
    ///
    /// ## Why it matters
    /// `*` grants what is there today and what later versions add: secrets, `pods/exec`, and the
    /// verbs `escalate`, `bind` and `impersonate`, by which the holder takes any right.
    ///
    /// ## How to fix it
    /// List the resources and verbs that are used.
    SEC02, Warning,
    evidence: "kubernetes/website, concepts/security/rbac-good-practices: avoid wildcard permissions",
    check: Check::Objects(&["Role", "ClusterRole"], check),
    examples: [
        Example::bad("all resources", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: a}
rules:
  - apiGroups: ['', apps]
    resources: ['*']
    verbs: [get, list]
", &[6]),
        Example::bad("all verbs", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: a}
rules:
  - apiGroups: ['']
    resources: [pods]
    verbs: ['*']
", &[7]),
        Example::good("lists", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: a}
rules:
  - apiGroups: ['']
    resources: [pods]
    verbs: [get, list]
"),
        Example::good("the group of an operator of one's own", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: a}
rules:
  - apiGroups: [example.org]
    resources: ['*']
    verbs: ['*']
"),
    ],
}

fn check(_: &Context<'_>, role: &Object<'_>, report: &mut Report) {
    for grant in Grant::all(role) {
        if !grant.is_built_in() || !grant.names.is_empty() || grant.resources.is_empty() {
            continue;
        }
        let star = |list: Node<'_>| list.items().any(|item| item.is("*"));
        let (resources, verbs) = (star(grant.resources), star(grant.verbs));
        let (list, what) = match (resources, verbs) {
            (true, true) => {
                (grant.resources, "everything may be done to everything in these groups")
            }
            (true, false) => (
                grant.resources,
                "all resources of these groups are granted, secrets among them where the core group is one",
            ),
            (false, true) => (grant.verbs, "every verb is granted, those of later versions too"),
            (false, false) => continue,
        };
        let Some(item) = list.items().find(|item| item.is("*")) else { continue };
        report.at(item, format!("{what}: `*` in {} `{}`", role.kind, role.name)).fix(
            if resources {
                "list the resources that are used"
            } else {
                "list the verbs that are used"
            },
        );
    }
}
