//! Our NetworkPolicy enforcer, one on each node.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::super::layout::NodeLayout;
use super::super::process::{Daemon, Place, wait_for};
use super::super::settings::Settings;

/// How long the first rules may take.
const FIRST_RULES: Duration = Duration::from_secs(60);

/// Starts it on a node, where the cluster has it.
pub(crate) fn start(node: &NodeLayout, settings: &Settings) -> anyhow::Result<()> {
    let Some(program) = &settings.netpol else { return Ok(()) };
    let ready = ready_file(node);
    if ready.exists() {
        fs::remove_file(&ready)?;
    }
    daemon(node, program.clone()).start(&node.cluster, &Place::node(node))
}

/// Waits until every node has its first rules.
pub(crate) fn wait(nodes: &[NodeLayout]) -> anyhow::Result<()> {
    for node in nodes {
        let log = daemon(node, PathBuf::new()).log(&node.cluster);
        wait_for("the first network rules", &log, FIRST_RULES, || ready_file(node).exists())?;
    }
    Ok(())
}

/// Written by the enforcer once its first rules are in force.
fn ready_file(node: &NodeLayout) -> PathBuf {
    node.folder().join("netpol.ready")
}

fn daemon(node: &NodeLayout, program: PathBuf) -> Daemon {
    let arguments = [
        format!("--kubeconfig={}", node.cluster.kubeconfig().display()),
        format!("--node={}", node.name()),
        format!("--ready-file={}", ready_file(node).display()),
    ];
    Daemon::new(format!("{}-netpol", node.name()), program, arguments)
}
