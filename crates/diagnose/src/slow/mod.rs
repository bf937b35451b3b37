//! What runs, and is wrong or slow.

mod d34_gpu_lost_while_running;
mod d35_collective_timeout;
mod d36_wrong_network_interface;
mod d37_nccl_cannot_start;
mod d38_no_fast_network;
mod d39_world_size_mismatch;
mod d40_idle_gpu;
mod d41_throttled_gpu;
mod d42_overloaded_server;
mod d43_autoscaler_without_metrics;
mod gpu_samples;
mod peers;

use crate::diagnosis::Diagnosis;
pub(crate) use d40_idle_gpu::metric;
pub(crate) use gpu_samples::{gpu_of, node_of};

pub(crate) static DIAGNOSES: [&Diagnosis; 10] = [
    &d34_gpu_lost_while_running::DIAGNOSIS,
    &d35_collective_timeout::DIAGNOSIS,
    &d36_wrong_network_interface::DIAGNOSIS,
    &d37_nccl_cannot_start::DIAGNOSIS,
    &d38_no_fast_network::DIAGNOSIS,
    &d39_world_size_mismatch::DIAGNOSIS,
    &d40_idle_gpu::DIAGNOSIS,
    &d41_throttled_gpu::DIAGNOSIS,
    &d42_overloaded_server::DIAGNOSIS,
    &d43_autoscaler_without_metrics::DIAGNOSIS,
];
