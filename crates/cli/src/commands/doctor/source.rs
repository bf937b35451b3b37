//! Where a snapshot comes from and goes to.

use std::path::Path;

use miette::{IntoDiagnostic, miette};
use serde_json::Value;
use trainyard_diagnose::{Focus, Snapshot};
use trainyard_operator::{collect, probe};

use super::Doctor;
use crate::commands::dump::{dump, text_of, unreadable};
use crate::commands::supervisor::block_on;
use crate::failure::failure;
use crate::print::print;

/// A snapshot, and what of it is asked about.
pub(super) fn read(doctor: &Doctor) -> miette::Result<(Snapshot, Focus)> {
    let (mut snapshot, namespace) = match &doctor.from {
        Some(path) => (dump(path)?, doctor.namespace.clone()),
        None => block_on(live(doctor))??,
    };
    for path in &doctor.probes {
        let text = text_of(path)?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| miette!("{} is no JSON: {error}", path.display()))?;
        let probe = probe(value)
            .map_err(|why| miette!("{} is no probe of a node: {why}", path.display()))?;
        snapshot.probes.retain(|other| other.node != probe.node);
        snapshot.probes.push(probe);
        snapshot.unread.retain(|unread| unread.what != "probes");
    }
    let focus = Focus { namespace, target: doctor.target.clone() };
    Ok((snapshot, focus))
}

async fn live(doctor: &Doctor) -> miette::Result<(Snapshot, Option<String>)> {
    let client = doctor.cluster.client().await.into_diagnostic()?.client;
    // A node is in no namespace, and what is on it is in several.
    let asks_for_node = doctor.target.as_ref().is_some_and(|it| it.kind.as_deref() == Some("Node"));
    let namespace = match &doctor.namespace {
        Some(namespace) => Some(namespace.clone()),
        None if doctor.all_namespaces || asks_for_node => None,
        None => Some(client.default_namespace().to_owned()),
    };
    let snapshot = collect(&client, namespace.as_deref()).await.map_err(unreadable)?;
    Ok((snapshot, namespace))
}

/// Writes a snapshot as JSON, sorted, so that equal clusters give equal files but for the time.
pub(super) fn write(path: &Path, snapshot: &Snapshot) -> miette::Result<()> {
    let mut text = serde_json::to_string_pretty(snapshot).map_err(failure)?;
    text.push('\n');
    if path.as_os_str() == "-" {
        return print(text.as_bytes());
    }
    std::fs::write(path, text)
        .map_err(|error| miette!("cannot write {}: {error}", path.display()))?;
    eprintln!(
        "{} objects, {} logs, {} metrics, {} probes written to {}, without values of secrets",
        snapshot.objects.len(),
        snapshot.logs.len(),
        snapshot.metrics.len(),
        snapshot.probes.len(),
        path.display()
    );
    for unread in &snapshot.unread {
        eprintln!("note: not read, {}: {}", unread.what, unread.reason);
    }
    Ok(())
}
