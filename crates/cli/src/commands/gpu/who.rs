//! `trainyard gpu who`.

use trainyard_operator::pools::inventory::{GpuPod, Inventory};

use crate::commands::time::ago;
use crate::table::table;

/// Pods that have GPUs, and below them those that wait.
pub(super) fn text(seen: &Inventory) -> String {
    let (have, wait): (Vec<&GpuPod>, Vec<&GpuPod>) =
        seen.pods.iter().partition(|pod| pod.node.is_some());
    let mut parts = Vec::new();
    if !have.is_empty() {
        let header = ["NODE", "POOL", "NAMESPACE", "POD", "SERVICE", "HAS", "MEMORY", "SINCE"];
        let rows = have.iter().map(|pod| {
            let node = pod.node.clone().unwrap_or_default();
            let pool = seen.nodes.iter().find(|it| it.name == node).map(|it| it.pools.join(","));
            vec![
                node,
                pool.unwrap_or_default(),
                pod.namespace.clone(),
                pod.name.clone(),
                pod.service.clone().unwrap_or_default(),
                units(pod),
                pod.memory.map(|memory| memory.to_string()).unwrap_or_default(),
                ago(pod.since_ms),
            ]
        });
        parts.push(table(&header, rows));
    }
    if !wait.is_empty() {
        let rows = wait.iter().map(|pod| {
            vec![
                pod.namespace.clone(),
                pod.name.clone(),
                pod.service.clone().unwrap_or_default(),
                units(pod),
                ago(pod.since_ms),
                pod.waits_for.clone().unwrap_or_default(),
            ]
        });
        parts.push(table(&["NAMESPACE", "WAITING POD", "SERVICE", "WANTS", "SINCE", "WHY"], rows));
    }
    parts.join("\n\n")
}

fn units(pod: &GpuPod) -> String {
    let units = pod.units.iter().map(|(resource, amount)| format!("{amount} {resource}"));
    units.collect::<Vec<_>>().join(", ")
}
