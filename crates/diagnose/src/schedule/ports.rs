//! Ports of the node.

use serde_json::Value;

use super::Obstacle;
use crate::view::{Node, Pod, View, list, number, text};

pub(super) fn obstacles<'a>(view: &View<'a>, pod: &Pod<'a>, node: &Node<'a>) -> Vec<Obstacle<'a>> {
    let wanted = host_ports(pod);
    if wanted.is_empty() {
        return Vec::new();
    }
    let others = view.pods_on(node.name()).iter().filter(|other| !other.has_ended());
    let taken: Vec<(Port<'a>, &Pod<'a>)> =
        others.flat_map(|other| host_ports(other).into_iter().map(move |it| (it, other))).collect();
    wanted
        .into_iter()
        .filter_map(|port| {
            let (_, holder) = taken.iter().find(|(other, _)| other.clashes(&port))?;
            Some(Obstacle::Port {
                port: port.number,
                holder: holder.object.reference().to_string(),
            })
        })
        .collect()
}

struct Port<'a> {
    number: i64,
    protocol: &'a str,
    /// Empty is every address.
    address: &'a str,
}

impl Port<'_> {
    fn clashes(&self, other: &Self) -> bool {
        let anywhere = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        self.number == other.number
            && self.protocol == other.protocol
            && (anywhere(self.address) || anywhere(other.address) || self.address == other.address)
    }
}

fn host_ports<'a>(pod: &Pod<'a>) -> Vec<Port<'a>> {
    let on_host = pod.object.at("/spec/hostNetwork") == Some(&Value::Bool(true));
    let ports = pod.object.list("/spec/containers").iter().flat_map(|it| list(it, "/ports"));
    ports
        .filter_map(|port| {
            let own = number(port, "/hostPort").filter(|number| *number > 0);
            let number = own.or_else(|| number(port, "/containerPort").filter(|_| on_host))?;
            let protocol = match text(port, "/protocol") {
                "" => "TCP",
                protocol => protocol,
            };
            Some(Port { number, protocol, address: text(port, "/hostIP") })
        })
        .collect()
}
