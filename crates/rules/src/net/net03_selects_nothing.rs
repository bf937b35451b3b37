use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Bundle, Object, Policy};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

use super::closed_egress::NAMESPACE_NAME;

rule! {
    /// Network policy that selects nothing
    ///
    /// ## What it does
    /// Compares the pod selector of a policy with the pods of the same namespace that stand in the
    /// same file or folder, and namespace selectors with the namespaces here.
    ///
    /// Silent where there are no such pods, where something here sets the label (a kustomization,
    /// a pod template of a kind that an operator completes), and for labels that operators set.
    /// Of namespace selectors it reports the label `name`, which is on no namespace unless somebody
    /// puts it there, and labels that none of the Namespaces in the file has.
    ///
    /// ## Why it matters
    /// A policy that selects nothing is no error: the API server takes it, and nothing is isolated,
    /// or nothing is let in.
    ///
    /// ## How to fix it
    /// Write the labels of the pod template. Choose namespaces by `kubernetes.io/metadata.name`,
    /// which the API server sets.
    NET03, Warning,
    evidence: "kubernetes/website, concepts/services-networking/network-policies, targeting a namespace by its name",
    check: Check::Objects(&["NetworkPolicy"], check),
    examples: [
        Example::bad("a label that no pod here has", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec: {containers: [{name: main, image: a:1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector:
    matchLabels: {app: sever}
", &[14]),
        Example::bad("namespaces have no label `name`", "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
    - to:
        - namespaceSelector:
            matchLabels:
              name: kube-system
      ports: [{protocol: UDP, port: 53}]
", &[11]),
        Example::good("the pod has the label", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec: {containers: [{name: main, image: a:1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector:
    matchLabels: {app: server}
"),
        Example::good("no pods are here, so nothing is known", "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector:
    matchLabels: {app: server}
"),
        Example::good("a label that an operator sets", "\
apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: a}
spec:
  headGroupSpec:
    template:
      spec: {containers: [{name: main, image: 'rayproject/ray:2.9.0'}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector:
    matchLabels: {ray.io/cluster: a}
"),
    ],
}

/// Namespaces that are looked at for a label; larger bundles than this are no one's to review.
const MOST_NAMESPACES: usize = 1024;

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(policy) = Policy::read(object) else { return };
    check_pods(context.bundle, &policy, report);
    for rule in policy.ingress().chain(policy.egress()) {
        for peer in rule.get("from").items().chain(rule.get("to").items()) {
            check_namespaces(context.bundle, object, peer.get("namespaceSelector"), report);
        }
    }
}

fn check_pods(bundle: &Bundle<'_>, policy: &Policy<'_>, report: &mut Report) {
    let (object, selector) = (&policy.object, &policy.selector);
    if selector.labels.is_empty()
        || !bundle.pods_selected(selector, object.namespace, object.root).is_empty()
    {
        return;
    }
    // A label of another domain is an operator's affair, and one whose value is a name here may be
    // set by what owns that name.
    let foreign = selector.labels.iter().any(|(key, value)| {
        (key.contains('/') && !key.starts_with("app.kubernetes.io/"))
            || bundle.is_name_of_custom_object(value)
            || bundle.sets_label_later(key)
    });
    if foreign || !bundle.has_pods_near(object) {
        return;
    }
    let labels: Vec<String> =
        selector.labels.iter().map(|(key, value)| format!("`{key}: {value}`")).collect();
    report
        .at(
            selector.node,
            format!(
                "this policy isolates nothing unless pods from elsewhere have the label {}: no pod here has",
                labels.join(" and ")
            ),
        )
        .fix("write labels that the pod templates have");
}

fn check_namespaces(
    bundle: &Bundle<'_>,
    policy: &Object<'_>,
    selector: Node<'_>,
    report: &mut Report,
) {
    for label in selector.get("matchLabels").entries() {
        let value = label.value.str();
        let own = bundle.find("Namespace", "", value, policy.root).is_some();
        let built_in = matches!(value, "kube-system" | "kube-public" | "default");
        if label.key == NAMESPACE_NAME || !(own || built_in) || bundle.sets_label_later(label.key) {
            continue;
        }
        let mut spaces = bundle.of_kind("Namespace").take(MOST_NAMESPACES);
        if spaces.any(|space| space.label(label.key).is(value)) {
            continue;
        }
        if label.key == "name" && (own || built_in) {
            report
                .at(
                    label.value,
                    format!(
                        "no traffic fits this rule unless somebody labels namespace `{value}` by hand: namespaces have no label `name` of their own"
                    ),
                )
                .fix(format!("select by `{NAMESPACE_NAME}`, which the API server sets"))
                .edit(Edit::rename(label.value, NAMESPACE_NAME));
        } else if own && !label.key.contains('/') {
            report
                .at(
                    label.value,
                    format!(
                        "no traffic fits this rule unless somebody labels namespaces by hand: Namespace `{value}` here does not have the label `{}`",
                        label.key
                    ),
                )
                .fix(format!("add the label to the Namespace, or select by `{NAMESPACE_NAME}`"));
        }
    }
}
