use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

use super::access::{Grant, Holder, holder};

rule! {
    /// People or workloads may read all secrets
    ///
    /// ## What it does
    /// Looks at roles that let people, or pods that run models, training or notebooks, read every
    /// secret of a namespace or of the cluster.
    ///
    /// Silent for controllers (roles bound to their service accounts, or named after them), for
    /// roles limited to names, and for cluster roles of which nothing tells who holds them.
    ///
    /// ## Why it matters
    /// Secrets hold the keys to model hubs, object stores and registries, and the tokens of every
    /// service account: who reads them all can do what any of them can. A model that runs code at
    /// load time, or a notebook, reads them as well.
    ///
    /// ## How to fix it
    /// Name the secrets that are needed in `resourceNames` with the verb `get`, or mount them and
    /// grant nothing. `list` and `watch` show the contents too.
    SEC01, Warning,
    evidence: "kubernetes/website, concepts/security/rbac-good-practices, listing secrets: list and watch reveal contents",
    check: Check::Objects(&["Role", "ClusterRole"], check),
    examples: [
        Example::bad("engineers get secrets beside pods", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: ml-engineer}
rules:
  - apiGroups: ['']
    resources: [pods, secrets, configmaps]
    verbs: [get, list, watch, create, update, patch, delete]
", &[6]),
        Example::bad("a notebook reads secrets", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: a}
rules:
  - apiGroups: ['']
    resources:
      - secrets
    verbs: [list]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: a}
subjects: [{kind: ServiceAccount, name: nb, namespace: ml}]
---
apiVersion: kubeflow.org/v1
kind: Notebook
metadata: {name: a, namespace: ml}
spec:
  template:
    spec:
      serviceAccountName: nb
      containers: [{name: a, image: 'jupyter/scipy-notebook:x'}]
", &[7]),
        Example::good("one secret by name", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: ml-engineer}
rules:
  - apiGroups: ['']
    resources: [secrets]
    resourceNames: [hub-token]
    verbs: [get]
"),
        Example::good("a controller", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: a}
rules:
  - apiGroups: ['']
    resources: [secrets]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: a}
subjects: [{kind: ServiceAccount, name: controller, namespace: ml}]
"),
        Example::good("no secrets", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: ml-engineer}
rules:
  - apiGroups: ['']
    resources: [pods, configmaps]
    verbs: [get, list]
"),
    ],
}

fn check(context: &Context<'_>, role: &Object<'_>, report: &mut Report) {
    for grant in Grant::all(role) {
        // Wildcards are another rule's.
        let secrets = grant.resource("", "secrets").filter(|item| item.is("secrets"));
        let Some(secrets) = secrets else { continue };
        if !grant.names.is_empty() || !grant.grants(&["get", "list", "watch"]) {
            continue;
        }
        let who = match holder(context.bundle, role) {
            Holder::People => "everybody with this role",
            Holder::Workload => "the code in the pods that have this role",
            // A role of one namespace among which pods are managed too is one for people.
            Holder::Unknown if role.kind == "Role" && is_for_work(role) => {
                "everybody with this role"
            }
            Holder::Unknown | Holder::Controller => return,
        };
        let reach =
            if role.kind == "Role" { "this namespace" } else { "all namespaces it is bound in" };
        report
            .at(
                secrets,
                format!(
                    "{who} can read every secret of {reach}: keys of stores and hubs, and tokens of all service accounts"
                ),
            )
            .fix("grant `get` on the secrets that are needed, by name in `resourceNames`, or none");
    }
}

/// Whether a role lets its holder start pods or what makes them, as people do.
fn is_for_work(role: &Object<'_>) -> bool {
    Grant::all(role).any(|grant| {
        grant.grants(&["create"])
            && [("", "pods"), ("apps", "deployments"), ("batch", "jobs")]
                .iter()
                .any(|(group, resource)| grant.resource(group, resource).is_some())
    })
}
