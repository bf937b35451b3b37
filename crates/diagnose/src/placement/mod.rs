//! Pods that no node has, or that are not even made.

mod d01_all_taken;
mod d02_not_advertised;
mod d03_untolerated_taint;
mod d04_placement_rules;
mod d05_larger_than_any_node;
mod d06_fragmented;
mod d07_no_device_for_claim;
mod d08_waits_in_queue;
mod d09_gang_half_placed;
mod d10_quota_exceeded;
mod d11_admission_denied;
mod d12_no_scale_up;
mod d13_node_without_its_gpus;
mod d14_rollout_deadlock;
pub(crate) mod gang;

use crate::diagnosis::Diagnosis;

pub(crate) static DIAGNOSES: [&Diagnosis; 14] = [
    &d01_all_taken::DIAGNOSIS,
    &d02_not_advertised::DIAGNOSIS,
    &d03_untolerated_taint::DIAGNOSIS,
    &d04_placement_rules::DIAGNOSIS,
    &d05_larger_than_any_node::DIAGNOSIS,
    &d06_fragmented::DIAGNOSIS,
    &d07_no_device_for_claim::DIAGNOSIS,
    &d08_waits_in_queue::DIAGNOSIS,
    &d09_gang_half_placed::DIAGNOSIS,
    &d10_quota_exceeded::DIAGNOSIS,
    &d11_admission_denied::DIAGNOSIS,
    &d12_no_scale_up::DIAGNOSIS,
    &d13_node_without_its_gpus::DIAGNOSIS,
    &d14_rollout_deadlock::DIAGNOSIS,
];
