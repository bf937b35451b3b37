use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

use super::access::{Grant, Holder, holder};

rule! {
    /// People or workloads may take rights they were not given
    ///
    /// ## What it does
    /// Looks at roles of people and of pods that run users' code for the rights by which one gets
    /// others: `pods/exec` and `pods/attach`, `nodes/proxy`, `escalate` and `bind` on roles,
    /// `impersonate`.
    ///
    /// Silent for controllers, and for roles of which nothing tells who holds them.
    ///
    /// ## Why it matters
    /// A shell in a pod has that pod's secrets, service account and GPU memory, of other teams too.
    /// `nodes/proxy` reaches every pod of a node past admission and audit. `escalate`, `bind` and
    /// `impersonate` give any right in the cluster.
    ///
    /// ## How to fix it
    /// Take the right away; for debugging grant `pods/log`, or `pods/exec` in a namespace of the
    /// team's own only.
    SEC04, Warning,
    evidence: "kubernetes/website, concepts/security/rbac-good-practices, privilege escalation risks",
    check: Check::Objects(&["Role", "ClusterRole"], check),
    examples: [
        Example::bad("a team may open shells in every pod", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: research-team}
rules:
  - apiGroups: ['']
    resources: [pods, pods/exec]
    verbs: [get, create]
", &[6]),
        Example::bad("a user acts as anybody", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: a}
rules:
  - apiGroups: ['']
    resources: [users]
    verbs: [impersonate]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: a}
subjects: [{kind: User, name: jane}]
", &[7]),
        Example::good("logs only", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: research-team}
rules:
  - apiGroups: ['']
    resources: [pods, pods/log]
    verbs: [get, create]
"),
        Example::good("an operator needs it", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: mpi-operator}
rules:
  - apiGroups: ['']
    resources: [pods/exec]
    verbs: [create]
"),
    ],
}

fn check(context: &Context<'_>, role: &Object<'_>, report: &mut Report) {
    for grant in Grant::all(role) {
        let Some((node, what)) = found(&grant) else { continue };
        let who = match holder(context.bundle, role) {
            Holder::People => "everybody with this role",
            Holder::Workload => "the code in the pods that have this role",
            Holder::Controller | Holder::Unknown => return,
        };
        report
            .at(node, format!("{who} {what}"))
            .fix("take the right away, or limit it to a namespace of the holder's own");
    }
}

/// The right by which a rule gives others, and what can be done with it.
fn found<'b>(grant: &Grant<'b>) -> Option<(Node<'b>, &'static str)> {
    let resource = |name: &str| {
        grant.resource("", name).filter(|item| item.is(name)).filter(|_| grant.names.is_empty())
    };
    if let Some(item) = resource("pods/exec").or_else(|| resource("pods/attach"))
        && grant.grants(&["create", "get"])
    {
        return Some((
            item,
            "can open a shell in every pod it is bound for, and has what that pod has: secrets, service account, GPU memory",
        ));
    }
    if let Some(item) = resource("nodes/proxy")
        && grant.grants(&["create", "get"])
    {
        return Some((
            item,
            "can run commands in every pod of every node through the kubelet, past admission and audit",
        ));
    }
    let verb = |name: &str| grant.verbs.items().find(|item| item.is(name));
    let roles = ["roles", "clusterroles"]
        .iter()
        .any(|name| grant.resource("rbac.authorization.k8s.io", name).is_some());
    if roles
        && grant.names.is_empty()
        && let Some(item) = verb("escalate").or_else(|| verb("bind"))
    {
        return Some((
            item,
            "can give itself any right: this verb lifts the check that nobody grants more than they have",
        ));
    }
    let item = verb("impersonate").filter(|_| grant.names.is_empty())?;
    Some((item, "can act as any user or service account"))
}
