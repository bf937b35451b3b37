//! JAX: `jax.distributed.initialize` reads the coordinator's address and the local devices from the
//! environment (`jax/_src/distributed.py`); number and id of the processes are its arguments, which
//! the program takes from here.

use std::collections::BTreeMap;

use super::gang::{Gang, Place, texts};

pub(super) const RESERVED: [&str; 4] =
    ["JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_LOCAL_DEVICE_IDS"];

pub(super) fn variables(gang: &Gang, place: &Place) -> BTreeMap<String, String> {
    let Some(first) = gang.first() else { return BTreeMap::new() };
    let mut variables = texts([
        ("JAX_COORDINATOR_ADDRESS", first.to_string()),
        ("JAX_NUM_PROCESSES", place.world.to_string()),
        ("JAX_PROCESS_ID", place.rank.to_string()),
    ]);
    if place.processes > 1 {
        variables.extend(texts([("JAX_LOCAL_DEVICE_IDS", place.local.to_string())]));
    }
    variables
}
