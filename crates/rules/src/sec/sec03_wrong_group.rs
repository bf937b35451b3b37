use crate::context::Context;
use crate::edit::Edit;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

use super::access::{Grant, homes, is_built_in};

rule! {
    /// Built-in resource in the wrong API group
    ///
    /// ## What it does
    /// Looks at rules of roles whose groups are all Kubernetes' own, for resources that none of
    /// those groups has, and another has (`jobs` in `apps`).
    ///
    /// Silent as soon as one of the groups is a custom one, which may have a resource of the same
    /// name, or `*`, or `extensions`, which once had many.
    ///
    /// ## Why it matters
    /// The API server takes the role and it grants nothing: requests are refused with `forbidden`
    /// though the role seems to allow them.
    ///
    /// ## How to fix it
    /// Add the group that has the resource; `kubectl api-resources` lists them.
    SEC03, Error,
    evidence: "kubernetes/website, reference/access-authn-authz/rbac, referring to resources: a rule fits by group and resource",
    check: Check::Objects(&["Role", "ClusterRole"], check),
    examples: [
        Example::bad("jobs are in batch", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: a}
rules:
  - apiGroups: [apps]
    resources: [deployments, jobs]
    verbs: [get]
", &[6]),
        Example::bad("a subresource of the core group", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: a}
rules:
  - apiGroups:
      - apps
    resources:
      - deployments
      - pods/log
    verbs:
      - get
", &[9]),
        Example::good("both groups are named", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: a}
rules:
  - apiGroups: [apps, batch, '']
    resources: [deployments, jobs, pods/log]
    verbs: [get]
"),
        Example::good("a custom group has jobs of its own", "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: a}
rules:
  - apiGroups: [pipelines.kubeflow.org]
    resources: [jobs]
    verbs: [get]
"),
    ],
}

fn check(_: &Context<'_>, role: &Object<'_>, report: &mut Report) {
    for grant in Grant::all(role) {
        let known = |group: &str| is_built_in(group) && group != "extensions";
        if grant.groups.is_empty() || !grant.groups.items().all(|group| known(group.str())) {
            continue;
        }
        for item in grant.resources.items() {
            let resource = item.str().split('/').next().unwrap_or_default();
            let homes = homes(resource);
            let fits = homes.iter().any(|home| grant.groups.items().any(|group| group.is(home)));
            let Some(home) = homes.first().filter(|_| !fits) else { continue };
            let shown = if home.is_empty() { "the core group (`\"\"`)" } else { home };
            let shown = if home.is_empty() { shown.to_owned() } else { format!("`{shown}`") };
            let groups: Vec<String> = grant
                .groups
                .items()
                .map(|group| {
                    format!("`{}`", if group.str().is_empty() { "\"\"" } else { group.str() })
                })
                .collect();
            // What a mistake kept closed is not opened by a program.
            let delicate =
                matches!(resource, "secrets" | "nodes") || *home == "rbac.authorization.k8s.io";
            let quoted = if home.is_empty() { "\"\"" } else { home };
            let edit = if delicate { None } else { Edit::prepend(grant.groups, quoted) };
            report
                .at(
                    item,
                    format!(
                        "this grants nothing and requests are refused: `{resource}` belongs to {shown}, not to {}",
                        groups.join(" or ")
                    ),
                )
                .fix(format!("add {shown} to `apiGroups`"))
                .edit(edit);
        }
    }
}
