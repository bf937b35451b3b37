//! `trainyard gpu pools`.

use trainyard_operator::pools::inventory::{Inventory, PoolUse, Units, mode_text};
use trainyard_plan::kubernetes::quota_names;

use super::bar::bar;
use crate::table::table;

/// A row for each resource of each pool.
pub(super) fn text(seen: &Inventory, wide: bool) -> String {
    if seen.pools.is_empty() {
        return String::new();
    }
    let mut header =
        vec!["NAME", "SHARING", "NODES", "GPUS", "MEMORY/UNIT", "UNITS", "USED", "FREE"];
    header.push("");
    if wide {
        header.extend(["PRODUCT", "RENTED", "PRICE/GPU/H", "QUOTA"]);
    }
    let rows = seen.pools.iter().flat_map(|pool| {
        let none = [Units::default()];
        let units = if pool.units.is_empty() { none.as_slice() } else { pool.units.as_slice() };
        units.iter().map(|units| row(pool, units, wide)).collect::<Vec<_>>()
    });
    table(&header, rows)
}

fn row(pool: &PoolUse, units: &Units, wide: bool) -> Vec<String> {
    let spec = &pool.spec;
    let mut row = vec![
        pool.name.clone(),
        mode_text(spec),
        pool.nodes.len().to_string(),
        pool.gpus.to_string(),
        units.memory.map(|memory| memory.to_string()).unwrap_or_default(),
    ];
    if units.resource.is_empty() {
        // Devices that are claimed are not counted.
        row.extend(["-", "-", "-", ""].map(str::to_owned));
    } else {
        row.extend([
            units.allocatable.to_string(),
            units.allocated.to_string(),
            units.free().to_string(),
            bar(units, pool.gpus),
        ]);
    }
    if wide {
        let rented = spec.capacity.map(|capacity| match capacity {
            trainyard_api::gpu_pool::Capacity::Spot => "spot",
            trainyard_api::gpu_pool::Capacity::OnDemand => "onDemand",
        });
        let quota = quota_names(&pool.name, spec);
        let quota = match quota.iter().find(|name| name.ends_with(&units.resource)) {
            Some(name) if !units.resource.is_empty() => name.clone(),
            _ => quota.join(" "),
        };
        row.extend([
            spec.product.clone().unwrap_or_default(),
            rented.unwrap_or_default().to_owned(),
            spec.price_per_hour.map(|price| price.to_string()).unwrap_or_default(),
            quota,
        ]);
    }
    row
}
