use super::job;
use crate::context::Context;
use crate::model::{Pod, Policy};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// A network policy keeps workers from each other
    ///
    /// ## What it does
    /// For training pods that work together, adds up the NetworkPolicies that isolate them, and
    /// looks for a rule that lets one worker reach another: on the port where they meet, and with
    /// GPUs on any port, since NCCL's connections use whichever is free.
    ///
    /// Silent for pods on the node's network, for peers that are given by address, and where labels
    /// that operators add may fit.
    ///
    /// ## Why it matters
    /// Packets are dropped, not refused: all workers hang until a timeout of minutes, and no log
    /// says why.
    ///
    /// ## How to fix it
    /// Add a rule that allows the workers' own labels, without ports, in and out.
    TRN16, Error,
    evidence: "kubernetes/website docs/concepts/services-networking/network-policies; docs.nvidia.com NCCL, troubleshooting: networking and ports",
    check: Check::Pod(check),
    examples: [
        Example::bad("no rule for peers", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 2
      template:
        metadata: {labels: {tier: training}}
        spec:
          containers:
            - name: pytorch
              image: a:1
              resources: {limits: {nvidia.com/gpu: 8}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec:
  podSelector: {matchLabels: {tier: training}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector: {matchLabels: {tier: gateway}}
", &[22]),
        Example::bad("the meeting port alone", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 2
      template:
        metadata: {labels: {tier: training}}
        spec:
          containers:
            - name: pytorch
              image: a:1
              resources: {limits: {nvidia.com/gpu: 8}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec:
  podSelector: {matchLabels: {tier: training}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector: {matchLabels: {tier: training}}
      ports: [{port: 29500}]
", &[22]),
        Example::good("peers are let in", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 2
      template:
        metadata: {labels: {tier: training}}
        spec:
          containers:
            - name: pytorch
              image: a:1
              resources: {limits: {nvidia.com/gpu: 8}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec:
  podSelector: {matchLabels: {tier: training}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector: {matchLabels: {training.kubeflow.org/job-name: a}}
  egress:
    - {}
"),
        Example::good("a pod without peers", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    metadata: {labels: {tier: training}}
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources: {limits: {nvidia.com/gpu: 8}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec:
  podSelector: {}
  policyTypes: [Ingress]
"),
    ],
}

/// A range of ports from which a free one is likely to come.
const WIDE: i64 = 1000;

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if pod.spec.get("hostNetwork").bool() == Some(true) || job::team(context, pod).is_none() {
        return;
    }
    let bundle = context.bundle;
    let Some(mut policies) = bundle.policies_of(pod) else { return };
    policies.retain(|policy| policy.object.group() == "networking.k8s.io");
    for (ingress, rules, way) in [(true, "ingress", "from"), (false, "egress", "to")] {
        let isolates = |policy: &Policy<'_>| {
            if ingress { policy.isolates_ingress } else { policy.isolates_egress }
        };
        let isolating =
            || policies.iter().filter(|policy| isolates(policy)).map(|policy| &policy.object);
        let surely = isolating().find(|policy| {
            let distance = bundle.distance(policy.root, pod.spec);
            let named = !policy.namespace.is_empty() && policy.namespace == pod.object.namespace;
            distance == 0 || distance == 1 && named
        });
        let Some(policy) = surely else { continue };
        let to_peers = || {
            isolating()
                .flat_map(|policy| policy.spec().get(rules).items())
                .filter(|rule| lets_peers(rule.get(way), pod))
        };
        let all_ports = to_peers().any(|rule| is_wide(rule.get("ports")));
        let some_port = to_peers().next().is_some();
        if all_ports || (some_port && pod.gpus() == 0) {
            continue;
        }
        let message = if some_port {
            format!(
                "workers of {} `{}` reach each other on some ports alone: NCCL's connections use whichever is free, and hang",
                pod.object.kind, pod.object.name
            )
        } else {
            format!(
                "packets {way} other workers of {} `{}` are dropped: no policy that isolates them allows their own labels, and they hang at the start",
                pod.object.kind, pod.object.name
            )
        };
        report
            .at(policy.spec().get(rules), message)
            .fix(format!("add a rule `{way}` the workers' own labels, without ports"));
    }
}

/// Whether a rule's peers are anybody, or may be pods with the labels of this one.
fn lets_peers(peers: Node<'_>, pod: &Pod<'_>) -> bool {
    peers.is_empty()
        || peers.items().any(|peer| {
            let own = peer.get("podSelector");
            peer.get("ipBlock").is_set() || !own.is_set() || may_match(own, pod)
        })
}

/// Whether a selector fits a pod, or may once a controller has added its labels.
fn may_match(selector: Node<'_>, pod: &Pod<'_>) -> bool {
    if !selector.get("matchExpressions").is_empty() {
        return true;
    }
    selector.get("matchLabels").entries().all(|label| {
        let own = pod.label(label.key);
        let added = label.key.contains('/') || label.key == "job-name";
        if own.exists() { own.str() == label.value.str() } else { added }
    })
}

fn is_wide(ports: Node<'_>) -> bool {
    ports.is_empty()
        || ports.items().any(|entry| {
            let tcp = entry.get("protocol").text().is_none_or(|protocol| protocol == "TCP");
            let (port, end) = (entry.get("port"), entry.get("endPort"));
            let range = port.int().zip(end.int()).map_or(0, |(first, last)| last - first);
            tcp && (!port.is_set() || range >= WIDE)
        })
}
