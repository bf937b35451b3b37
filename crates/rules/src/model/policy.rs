//! Network policies.

use crate::yaml::Node;

use super::object::Object;
use super::selector::Selector;

/// A NetworkPolicy of Kubernetes.
#[derive(Debug, Clone)]
pub struct Policy<'b> {
    pub object: Object<'b>,
    /// The pods that it isolates.
    pub selector: Selector<'b>,
    /// Whether what no rule allows in is refused.
    pub isolates_ingress: bool,
    /// Whether what no rule allows out is refused.
    pub isolates_egress: bool,
}

impl<'b> Policy<'b> {
    /// The policy that an object is; `None` for other kinds, and other projects' policies.
    #[must_use]
    pub fn read(object: &Object<'b>) -> Option<Self> {
        if !object.is("networking.k8s.io", "NetworkPolicy")
            && !object.is("extensions", "NetworkPolicy")
        {
            return None;
        }
        let spec = object.spec();
        let types = spec.get("policyTypes");
        let typed = |name: &str| types.items().any(|item| item.is(name));
        // Without types: ingress always, egress if it has rules.
        let (isolates_ingress, isolates_egress) = if types.is_empty() {
            (true, !spec.get("egress").is_empty())
        } else {
            (typed("Ingress"), typed("Egress"))
        };
        let selector = Selector::structured(spec.get("podSelector"));
        Some(Self { object: *object, selector, isolates_ingress, isolates_egress })
    }

    /// Rules of what may come in.
    pub fn ingress(&self) -> impl ExactSizeIterator<Item = Node<'b>> + Clone + use<'b> {
        self.object.spec().get("ingress").items()
    }

    /// Rules of what may go out.
    pub fn egress(&self) -> impl ExactSizeIterator<Item = Node<'b>> + Clone + use<'b> {
        self.object.spec().get("egress").items()
    }
}

/// Whether a rule's ports allow a port: a rule without ports allows all. Named ports fit by name.
#[must_use]
pub fn allows_port(rule: Node<'_>, protocol: &str, number: i64, name: &str) -> bool {
    let ports = rule.get("ports");
    ports.is_empty()
        || ports.items().any(|entry| {
            if entry.get("protocol").text().unwrap_or("TCP") != protocol {
                return false;
            }
            let port = entry.get("port");
            match port.int() {
                Some(first) => {
                    let last = entry.get("endPort").int().unwrap_or(first);
                    (first..=last).contains(&number)
                }
                None => !port.is_set() || (!name.is_empty() && port.is(name)),
            }
        })
}

/// Whether peers of a rule (`from`, `to`) are anybody: a missing or empty list.
#[must_use]
pub fn allows_anybody(peers: Node<'_>) -> bool {
    peers.is_empty()
}

/// Whether a block of addresses can hold some that are not private: what cannot be read may be
/// anything.
#[must_use]
pub fn may_be_public(cidr: &str) -> bool {
    let Some((address, bits)) = cidr.split_once('/') else { return true };
    let (Ok(address), Ok(bits)) = (address.parse::<std::net::Ipv4Addr>(), bits.parse::<u8>())
    else {
        return true;
    };
    let [a, b, ..] = address.octets();
    let private = match (a, b) {
        (10 | 127, _) => bits >= 8,
        (172, 16..=31) => bits >= 12,
        (192, 168) | (169, 254) => bits >= 16,
        (100, 64..=127) => bits >= 10,
        _ => false,
    };
    !private
}

#[test]
fn private_blocks() {
    for cidr in ["10.0.0.0/8", "10.1.2.3/32", "172.16.0.0/12", "192.168.1.0/24", "169.254.1.1/32"] {
        assert!(!may_be_public(cidr), "{cidr}");
    }
    for cidr in ["0.0.0.0/0", "8.8.8.8/32", "10.0.0.0/7", "::/0", "", "x"] {
        assert!(may_be_public(cidr), "{cidr}");
    }
}
