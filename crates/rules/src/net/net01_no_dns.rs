use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Object, Policy};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

use super::closed_egress::{Dns, dns};

rule! {
    /// Egress policy without DNS
    ///
    /// ## What it does
    /// Looks at network policies that let some traffic out and name no rule through which the
    /// cluster's DNS servers can be asked: UDP port 53 to them.
    ///
    /// Silent for policies that let nothing out (they mean it), and where another policy for the
    /// same pods lets DNS out, since policies add up. A rule with a peer of which it cannot be told
    /// whether it is the DNS servers counts as one for DNS.
    ///
    /// ## Why it matters
    /// As soon as a policy selects a pod for egress, everything that is not allowed is dropped.
    /// Without DNS no name can be looked up, so even the connections that the policy allows fail,
    /// after long timeouts that look like a slow network.
    ///
    /// ## How to fix it
    /// Allow UDP and TCP port 53 to the namespace of the DNS servers, `kube-system` in most
    /// clusters. The DNS pods need a `namespaceSelector`: a `podSelector` alone selects in the
    /// policy's own namespace.
    NET01, Error,
    evidence: "kubernetes/website, concepts/services-networking/network-policies: a pod isolated for egress has only the allowed connections, and a podSelector alone selects in the policy's namespace",
    check: Check::Objects(&["NetworkPolicy"], check),
    examples: [
        Example::bad("only a database may be reached", "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: train}}
  policyTypes: [Egress]
  egress:
    - to:
        - podSelector: {matchLabels: {app: db}}
      ports:
        - {protocol: TCP, port: 5432}
", &[7]),
        Example::bad("only TCP", "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
    - ports:
        - port: 53
        - port: 443
", &[7]),
        Example::bad("the DNS pods are looked for in the policy's own namespace", "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: ml}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
    - to:
        - podSelector: {matchLabels: {k8s-app: kube-dns}}
      ports:
        - {protocol: UDP, port: 53}
    - to:
        - ipBlock: {cidr: 0.0.0.0/0}
      ports:
        - {port: 443}
", &[9]),
        Example::good("DNS is allowed", "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
    - to:
        - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
          podSelector: {matchLabels: {k8s-app: kube-dns}}
      ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
    - to:
        - podSelector: {matchLabels: {app: db}}
"),
        Example::good("another policy allows DNS for all pods", "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: train}}
  policyTypes: [Egress]
  egress:
    - to:
        - podSelector: {matchLabels: {app: db}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: dns}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
    - ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
"),
        Example::good("nothing at all may leave, and that is meant", "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(policy) = Policy::read(object).filter(|policy| policy.isolates_egress) else { return };
    if policy.egress().len() == 0 {
        return;
    }
    let mut wrong_peer = None;
    let mut tcp_only = false;
    for rule in policy.egress() {
        match dns(rule, object.namespace) {
            Dns::Open => return,
            Dns::TcpOnly => tcp_only = true,
            Dns::WrongPeer => wrong_peer = wrong_peer.or(Some(rule)),
            Dns::No => {}
        }
    }
    let Some(covering) = context.bundle.policies_covering(&policy) else { return };
    let is_open_by = |other: &&Policy<'_>| {
        other.isolates_egress
            && other.egress().any(|rule| dns(rule, other.object.namespace) == Dns::Open)
    };
    if covering.iter().any(is_open_by) || uses_node_network(context, &policy) {
        return;
    }
    let egress = object.spec().get("egress");
    if let Some(rule) = wrong_peer {
        let peer = rule.get("to").item(0).get("podSelector");
        report
            .at(
                peer,
                "every name lookup fails: a `podSelector` alone selects pods of this policy's own namespace, where no DNS server of the cluster runs",
            )
            .fix("add a `namespaceSelector` for `kubernetes.io/metadata.name: kube-system` to the same peer")
            .edit(Edit::insert(
                rule.get("to").item(0),
                "namespaceSelector",
                "{matchLabels: {kubernetes.io/metadata.name: kube-system}}",
            ));
        return;
    }
    let message = if tcp_only {
        "name lookups fail: resolvers ask over UDP, and only TCP port 53 is let out"
    } else {
        "every name lookup of the selected pods fails, and with it the connections that are allowed here: no rule lets UDP port 53 out to the DNS servers"
    };
    let dns_rule = "\
to:
  - namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: kube-system
ports:
  - protocol: UDP
    port: 53
  - protocol: TCP
    port: 53";
    report
        .at(egress, message)
        .fix("allow UDP and TCP port 53 to the namespace of the DNS servers, `kube-system` in most clusters")
        .edit(Edit::prepend(egress, dns_rule));
}

/// Whether all pods that it selects here run in their node's network, which policies do not see.
fn uses_node_network(context: &Context<'_>, policy: &Policy<'_>) -> bool {
    let object = &policy.object;
    let pods = context.bundle.pods_selected(&policy.selector, object.namespace, object.root);
    !pods.is_empty() && pods.iter().all(|pod| pod.spec.get("hostNetwork").bool() == Some(true))
}
