use crate::context::Context;
use crate::model::{Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::trn::job;
use crate::yaml::Node;

rule! {
    /// GPU workload without a label that says whose it is
    ///
    /// ## What it does
    /// Looks at workloads that ask for accelerators for a label of a team, owner, project, cost
    /// centre or model: on the pod, the object, or its Namespace. A queue counts as one.
    ///
    /// Silent where a kustomization adds such a label, and for tests of GPUs that end at once.
    ///
    /// ## Why it matters
    /// Cost reports split a bill by labels. What has none lands on everybody's.
    ///
    /// ## How to fix it
    /// Label the pod template, with `team` and `model` for instance.
    CST02, Hygiene,
    evidence: "opencost/opencost, allocation by label; FinOps Foundation, allocation of shared cost",
    check: Check::Pod(check),
    examples: [
        Example::bad("only a name", "\
apiVersion: v1
kind: Pod
metadata:
  name: a
  labels: {app: a}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
", &[5]),
        Example::good("a team", "\
apiVersion: v1
kind: Pod
metadata:
  name: a
  labels: {app: a, example.org/team: vision}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
        Example::good("the namespace has an owner", "\
apiVersion: v1
kind: Namespace
metadata: {name: vision, labels: {cost-center: '4711'}}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: vision}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
        Example::good("no accelerator", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {containers: [{name: a, image: a:1}]}
"),
        Example::good("a model, by the domain of the key", "\
apiVersion: v1
kind: Pod
metadata:
  name: a
  labels: {model.example.org/name: llama-3-8b}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
        Example::good("a test", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {containers: [{name: a, image: a:1, command: [nvidia-smi], resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
        Example::good("a queue of KAI", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {kai.scheduler/queue: research}}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
    ],
}

/// Last parts of keys that say whose a workload is, without dashes.
const OWNERS: [&str; 25] = [
    "team",
    "owner",
    "ownedby",
    "costcenter",
    "costcentre",
    "costcode",
    "cost",
    "project",
    "projectid",
    "department",
    "businessunit",
    "businessowner",
    "billing",
    "chargeback",
    "tenant",
    "organization",
    "organisation",
    "org",
    "squad",
    "group",
    "product",
    "model",
    "modelname",
    "queue",
    "queuename",
];

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if !pod.complete || pod.purpose == Purpose::System || pod.devices().next().is_none() {
        return;
    }
    if job::is_short_test(pod) {
        return;
    }
    let own = [pod.labels(), pod.object.metadata().get("labels")];
    let space = context.bundle.find("Namespace", "", pod.object.namespace, pod.spec);
    let space = space.filter(|_| !pod.object.namespace.is_empty());
    let of_space = space.map(|space| space.metadata().get("labels"));
    if own.into_iter().chain(of_space).any(names_owner) || context.bundle.adds_label_later(is_owner)
    {
        return;
    }
    let labels = pod.labels();
    let at = if labels.is_set() { labels } else { pod.object.metadata().get("name") };
    report
        .at(at, "what this workload's accelerators cost cannot be given to a team or model: no label says whose it is")
        .fix("add labels such as `team` and `model` to the pod template");
}

fn names_owner(labels: Node<'_>) -> bool {
    labels.entries().any(|label| is_owner(label.key))
}

/// Whether a key names an owner in its last part, or in the first part of its domain:
/// `example.org/team`, `model.example.org/name`.
fn is_owner(key: &str) -> bool {
    let (domain, name) = key.rsplit_once('/').unwrap_or(("", key));
    let known = |part: &str| {
        let plain: String = part.chars().filter(char::is_ascii_alphanumeric).collect();
        OWNERS.contains(&plain.to_ascii_lowercase().as_str())
    };
    known(name.rsplit('.').next().unwrap_or_default())
        || matches!(name, "name" | "id") && known(domain.split('.').next().unwrap_or_default())
}
