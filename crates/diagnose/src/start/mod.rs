//! Pods that have a node, and whose containers do not start.

mod d15_no_nvidia_runtime;
mod d16_allocation_refused;
mod d17_too_many_shares;
mod d18_image_not_pulled;
mod d19_volume_of_another_node;
mod d20_volume_not_mounted;
mod d21_configuration_missing;
mod d22_gpu_not_given_to_container;

use crate::diagnosis::Diagnosis;

pub(crate) static DIAGNOSES: [&Diagnosis; 8] = [
    &d15_no_nvidia_runtime::DIAGNOSIS,
    &d16_allocation_refused::DIAGNOSIS,
    &d17_too_many_shares::DIAGNOSIS,
    &d18_image_not_pulled::DIAGNOSIS,
    &d19_volume_of_another_node::DIAGNOSIS,
    &d20_volume_not_mounted::DIAGNOSIS,
    &d21_configuration_missing::DIAGNOSIS,
    &d22_gpu_not_given_to_container::DIAGNOSIS,
];
