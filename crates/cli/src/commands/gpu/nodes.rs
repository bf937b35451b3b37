//! `trainyard gpu nodes`.

use trainyard_operator::pools::inventory::{GpuNode, Inventory, Units};

use super::bar::bar;
use crate::table::table;

/// A row for each resource of each node.
pub(super) fn text(seen: &Inventory, wide: bool) -> String {
    if seen.nodes.is_empty() {
        return String::new();
    }
    let mut header =
        vec!["NODE", "POOL", "PRODUCT", "GPUS", "RESOURCE", "MEMORY/UNIT", "USED", "FREE", ""];
    if wide {
        header.push("OWNERS");
    }
    let rows = seen.nodes.iter().flat_map(|node| {
        let none = [Units::default()];
        let units = if node.units.is_empty() { none.as_slice() } else { node.units.as_slice() };
        units.iter().map(|units| row(seen, node, units, wide)).collect::<Vec<_>>()
    });
    let mut text = table(&header, rows);
    for node in seen.nodes.iter().filter(|node| !node.is_ready) {
        text.push_str(&format!("\n\n{}: the node is not ready, or takes no pods", node.name));
    }
    for node in &seen.nodes {
        for units in node.units.iter().filter(|units| units.allocatable < units.capacity) {
            text.push_str(&format!(
                "\n\n{}: {} of {} {} are of unhealthy GPUs",
                node.name,
                units.capacity.saturating_sub(units.allocatable),
                units.capacity,
                units.resource
            ));
        }
    }
    text
}

fn row(seen: &Inventory, node: &GpuNode, units: &Units, wide: bool) -> Vec<String> {
    let memory = |memory: Option<trainyard_api::scalar::Bytes>| {
        memory.map(|memory| memory.to_string()).unwrap_or_default()
    };
    let mut row = vec![
        node.name.clone(),
        node.pools.join(","),
        node.product.clone().unwrap_or_default(),
        node.gpus.to_string(),
        if units.resource.is_empty() {
            "(none announced)".to_owned()
        } else {
            units.resource.clone()
        },
        memory(units.memory),
        units.allocated.to_string(),
        units.free().to_string(),
        bar(units, node.gpus),
    ];
    if wide {
        let own = seen.pods.iter().filter(|pod| {
            pod.node.as_deref() == Some(node.name.as_str())
                && pod.units.contains_key(&units.resource)
        });
        let names = own.map(|pod| format!("{}/{}", pod.namespace, pod.name));
        row.push(names.collect::<Vec<_>>().join(", "));
    }
    row
}
