//! What egress rules let out, as far as a text can tell.

use crate::model::{allows_anybody, allows_port, may_be_public};
use crate::yaml::Node;

/// The label that the API server gives to each namespace.
pub(super) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Ports on which DNS servers of clusters listen: their Service's, and those of pods (CoreDNS in
/// OpenShift, and behind other remappings). Policies see either, depending on the network plugin.
const DNS_PORTS: [i64; 4] = [53, 5353, 8053, 1053];

/// What a rule says about names being looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dns {
    /// It lets queries out, or may do so.
    Open,
    /// It lets only TCP out, which resolvers try last.
    TcpOnly,
    /// It is meant for DNS and misses: a peer in the policy's own namespace.
    WrongPeer,
    /// It has nothing to do with DNS.
    No,
}

/// Whether a rule lets DNS queries out of pods in a namespace.
pub(super) fn dns(rule: Node<'_>, namespace: &str) -> Dns {
    let ports = rule.get("ports");
    let over = |protocol: &str| {
        DNS_PORTS.iter().any(|&port| allows_port(rule, protocol, port, ""))
            || ports.items().any(|entry| {
                entry.get("protocol").text().unwrap_or("TCP") == protocol
                    && entry.get("port").str().starts_with("dns")
            })
    };
    let (udp, tcp) = (over("UDP"), over("TCP"));
    if !udp && !tcp {
        return Dns::No;
    }
    let peers = rule.get("to");
    // A rule for all ports is one for DNS only if its peers may be the DNS servers.
    let meant = !ports.is_empty();
    let reaches =
        allows_anybody(peers) || peers.items().any(|peer| reaches_dns(peer, namespace, meant));
    match (reaches, meant) {
        (true, _) if udp => Dns::Open,
        (true, _) => Dns::TcpOnly,
        (false, true) if udp && peers.items().any(is_dns_server) => Dns::WrongPeer,
        _ => Dns::No,
    }
}

/// Whether a peer may be the DNS servers; `meant` if the rule names their port.
fn reaches_dns(peer: Node<'_>, namespace: &str, meant: bool) -> bool {
    let block = peer.get("ipBlock");
    if block.is_set() {
        // An address for port 53 is somebody's DNS server; a wide block may hold the cluster's.
        return meant || !narrow(block.get("cidr").str());
    }
    let spaces = peer.get("namespaceSelector");
    if !spaces.is_set() {
        // Pods of the policy's own namespace, which is where the cluster's DNS runs only there.
        let own = matches!(namespace, "kube-system" | "openshift-dns");
        let anyone = peer.get("podSelector").is_empty();
        return own || (meant && !is_dns_server(peer) && !anyone);
    }
    let named = spaces.get("matchLabels").get(NAMESPACE_NAME);
    if named.is_set() {
        return matches!(named.str(), "kube-system" | "openshift-dns" | "kube-dns")
            || (meant && named.str().contains("dns"));
    }
    // Other labels may be on it; without the port only what selects all or says so counts.
    meant
        || spaces.is_empty()
        || spaces.get("matchLabels").entries().any(|label| label.value.is("kube-system"))
        || !spaces.get("matchExpressions").is_empty()
}

/// Whether a peer selects pods by a label of the cluster's DNS.
fn is_dns_server(peer: Node<'_>) -> bool {
    peer.get("podSelector").get("matchLabels").entries().any(|label| {
        matches!(label.key, "k8s-app" | "app" | "app.kubernetes.io/name")
            && matches!(label.value.str(), "kube-dns" | "coredns")
    })
}

/// Whether a block is too small to be a network of Services or pods.
fn narrow(cidr: &str) -> bool {
    cidr.split_once('/').and_then(|(_, bits)| bits.parse::<u8>().ok()).is_some_and(|bits| bits > 24)
}

/// Whether a rule may let connections out to an address outside of the cluster.
pub(super) fn reaches_internet(rule: Node<'_>, port: i64) -> bool {
    if !allows_port(rule, "TCP", port, "") && !named_ports(rule) {
        return false;
    }
    let peers = rule.get("to");
    allows_anybody(peers)
        || peers.items().any(|peer| {
            let block = peer.get("ipBlock");
            // A proxy or a gateway for what leaves the cluster has a name that says so.
            if block.is_set() { may_be_public(block.get("cidr").str()) } else { is_way_out(peer) }
        })
}

fn named_ports(rule: Node<'_>) -> bool {
    rule.get("ports").items().any(|entry| {
        let port = entry.get("port");
        port.is_set() && port.int().is_none()
    })
}

/// Whether a peer's labels speak of a proxy, a gateway or a mesh, or select without labels.
fn is_way_out(peer: Node<'_>) -> bool {
    const WORDS: [&str; 8] =
        ["proxy", "egress", "gateway", "squid", "istio", "envoy", "minio", "mirror"];
    [peer.get("podSelector"), peer.get("namespaceSelector")].into_iter().any(|selector| {
        !selector.get("matchExpressions").is_empty()
            || selector.get("matchLabels").entries().any(|label| {
                WORDS
                    .iter()
                    .any(|word| label.key.contains(word) || label.value.str().contains(word))
            })
    })
}
