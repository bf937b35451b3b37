//! The cluster's network: a bridge in the control plane's namespace, and a cable to each node.
//!
//! All of it lies in namespaces: the host's links, addresses and routes stay as they are.

use std::process::Command;

use anyhow::{Context, bail};

use super::layout::{CONTROL_PLANE, Layout, NodeLayout, SERVICES};
use super::process::search_path;

/// The namespace of the control plane, with the bridge.
pub(crate) fn create(layout: &Layout) -> anyhow::Result<()> {
    let ns = layout.network();
    ip(&["netns", "add", &ns])?;
    ip(&["-n", &ns, "link", "set", "lo", "up"])?;
    ip(&["-n", &ns, "link", "add", "br0", "type", "bridge"])?;
    ip(&["-n", &ns, "addr", "add", &format!("{CONTROL_PLANE}/24"), "dev", "br0"])?;
    ip(&["-n", &ns, "link", "set", "br0", "up"])?;
    // kube-proxy gives packets to a Service another destination, but only those that have a way.
    ip(&["-n", &ns, "route", "add", SERVICES, "dev", "br0"])?;
    sysctl(&ns, "net.ipv4.ip_forward=1")?;
    // Nodes send all through the control plane, which must not tell them a shorter way: their
    // routes would then outlive a partition.
    sysctl(&ns, "net.ipv4.conf.all.send_redirects=0")?;
    sysctl(&ns, "net.ipv4.conf.br0.send_redirects=0")
}

/// A node's namespace, its cable to the bridge, and the way to its pods.
pub(crate) fn create_node(node: &NodeLayout) -> anyhow::Result<()> {
    let (cp, ns, cable) = (node.cluster.network(), node.network(), node.cable());
    ip(&["netns", "add", &ns])?;
    ip(&["-n", &ns, "link", "set", "lo", "up"])?;
    ip(&["-n", &cp, "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &ns])?;
    ip(&["-n", &cp, "link", "set", &cable, "master", "br0", "up"])?;
    ip(&["-n", &ns, "addr", "add", &format!("{}/24", node.address()), "dev", "eth0"])?;
    ip(&["-n", &ns, "link", "set", "eth0", "up"])?;
    ip(&["-n", &ns, "route", "add", "default", "via", CONTROL_PLANE])?;
    sysctl(&ns, "net.ipv4.ip_forward=1")?;
    ip(&["-n", &cp, "route", "add", &node.pods(), "via", &node.address()])
}

/// Plugs a node's cable in or pulls it.
pub(crate) fn connect(node: &NodeLayout, connected: bool) -> anyhow::Result<()> {
    let state = if connected { "up" } else { "down" };
    ip(&["-n", &node.cluster.network(), "link", "set", &node.cable(), state])
}

/// Removes every namespace of a cluster.
pub(crate) fn remove(layout: &Layout) -> anyhow::Result<()> {
    let output = Command::new("ip").args(["netns", "list"]).env("PATH", search_path()).output()?;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        if layout.owns_network(name) {
            ip(&["netns", "del", name])?;
        }
    }
    Ok(())
}

fn sysctl(namespace: &str, setting: &str) -> anyhow::Result<()> {
    ip(&["netns", "exec", namespace, "sysctl", "-qw", setting])
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .env("PATH", search_path())
        .output()
        .context("cannot start `ip`; on Debian: apt-get install iproute2")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), error.trim());
    }
    Ok(())
}
