//! PyTorch, by torchrun or without; programs of no framework find each other the same way.
//!
//! Names: PyTorch's "Environment variable initialization" of `torch.distributed`, and the arguments of
//! torchrun, each of which has a variable `PET_…` (`torch/distributed/argparse_util.py`).

use std::collections::BTreeMap;

use trainyard_api::training_job::Launcher;

use super::gang::{Gang, Place, texts};

pub(super) const RESERVED: [&str; 16] = [
    "MASTER_ADDR",
    "MASTER_PORT",
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "PET_NNODES",
    "PET_NPROC_PER_NODE",
    "PET_NODE_RANK",
    "PET_MASTER_ADDR",
    "PET_MASTER_PORT",
    "PET_RDZV_BACKEND",
    "PET_RDZV_ENDPOINT",
    "PET_RDZV_ID",
    "PET_MAX_RESTARTS",
];

pub(super) fn variables(gang: &Gang, place: &Place) -> BTreeMap<String, String> {
    let Some(first) = gang.first() else { return BTreeMap::new() };
    match gang.launcher {
        Launcher::Torchrun => texts([
            ("PET_NNODES", place.workers.to_string()),
            ("PET_NPROC_PER_NODE", gang.processes.to_string()),
            ("PET_NODE_RANK", place.worker.to_string()),
            ("PET_MASTER_ADDR", first.host.clone()),
            ("PET_MASTER_PORT", first.port.to_string()),
            // Who is which worker is decided already; `c10d` would number them as they come.
            ("PET_RDZV_BACKEND", "static".to_owned()),
            ("PET_RDZV_ENDPOINT", first.to_string()),
            ("PET_RDZV_ID", format!("{}-{}", gang.job, gang.attempt)),
            // A restart is the whole gang's, and the back end's.
            ("PET_MAX_RESTARTS", "0".to_owned()),
        ]),
        Launcher::Agent => texts([
            ("MASTER_ADDR", first.host.clone()),
            ("MASTER_PORT", first.port.to_string()),
            ("WORLD_SIZE", place.world.to_string()),
            ("RANK", place.rank.to_string()),
            ("LOCAL_RANK", place.local.to_string()),
            ("LOCAL_WORLD_SIZE", place.processes.to_string()),
            ("GROUP_RANK", place.worker.to_string()),
        ]),
    }
}

/// The interface for Gloo, NCCL and TensorPipe, which would look for that of the machine's own name.
pub(super) fn defaults(gang: &Gang) -> BTreeMap<String, String> {
    let Some(interface) = &gang.interface else { return BTreeMap::new() };
    texts([
        ("GLOO_SOCKET_IFNAME", interface.clone()),
        ("NCCL_SOCKET_IFNAME", interface.clone()),
        ("TP_SOCKET_IFNAME", interface.clone()),
    ])
}
