//! Containers that start and die.

mod d23_killed_while_starting;
mod d24_out_of_memory;
mod d25_out_of_gpu_memory;
mod d26_shared_gpu_memory;
mod d27_small_shared_memory;
mod d28_no_kernel_image;
mod d29_driver_too_old;
mod d30_no_gpu_seen;
mod d31_service_named_like_setting;
mod d32_model_hub_refuses;
mod d33_crash_in_nccl;
mod gpu_memory;

use crate::diagnosis::Diagnosis;

pub(crate) static DIAGNOSES: [&Diagnosis; 11] = [
    &d23_killed_while_starting::DIAGNOSIS,
    &d24_out_of_memory::DIAGNOSIS,
    &d25_out_of_gpu_memory::DIAGNOSIS,
    &d26_shared_gpu_memory::DIAGNOSIS,
    &d27_small_shared_memory::DIAGNOSIS,
    &d28_no_kernel_image::DIAGNOSIS,
    &d29_driver_too_old::DIAGNOSIS,
    &d30_no_gpu_seen::DIAGNOSIS,
    &d31_service_named_like_setting::DIAGNOSIS,
    &d32_model_hub_refuses::DIAGNOSIS,
    &d33_crash_in_nccl::DIAGNOSIS,
];
