//! GPU requests, sharing and placement.

mod gpu01_request_differs_from_limit;
mod gpu02_request_without_limit;
mod gpu03_fractional_count;
mod gpu04_unread_fraction;
mod gpu05_share_smaller_than_grab;
mod gpu06_two_time_slices;
mod gpu07_unknown_label;
mod gpu08_no_toleration;
mod gpu09_keyless_toleration;
mod gpu10_cpu_pod_on_gpu_nodes;
mod gpu11_no_model_pinned;
mod gpu12_all_devices_by_hand;
mod gpu13_visible_index_beyond_count;
mod gpu14_parallel_size_differs;
mod gpu15_processes_differ;
mod gpu16_wrong_mig_strategy;
mod gpu17_devices_of_the_host;
mod gpu18_stale_device_plugin;
mod gpu19_two_plugins;
mod gpu20_no_cpu_or_memory_request;
mod gpu21_too_few_cpus;
mod gpu22_shm_above_memory_limit;
mod gpu23_runtime_class;
mod gpu24_claim_not_used;
mod gpu25_claim_and_device;
mod gpu26_image_does_not_fit_node;
mod memory_share;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 26] = [
    &gpu01_request_differs_from_limit::RULE,
    &gpu02_request_without_limit::RULE,
    &gpu03_fractional_count::RULE,
    &gpu04_unread_fraction::RULE,
    &gpu05_share_smaller_than_grab::RULE,
    &gpu06_two_time_slices::RULE,
    &gpu07_unknown_label::RULE,
    &gpu08_no_toleration::RULE,
    &gpu09_keyless_toleration::RULE,
    &gpu10_cpu_pod_on_gpu_nodes::RULE,
    &gpu11_no_model_pinned::RULE,
    &gpu12_all_devices_by_hand::RULE,
    &gpu13_visible_index_beyond_count::RULE,
    &gpu14_parallel_size_differs::RULE,
    &gpu15_processes_differ::RULE,
    &gpu16_wrong_mig_strategy::RULE,
    &gpu17_devices_of_the_host::RULE,
    &gpu18_stale_device_plugin::RULE,
    &gpu19_two_plugins::RULE,
    &gpu20_no_cpu_or_memory_request::RULE,
    &gpu21_too_few_cpus::RULE,
    &gpu22_shm_above_memory_limit::RULE,
    &gpu23_runtime_class::RULE,
    &gpu24_claim_not_used::RULE,
    &gpu25_claim_and_device::RULE,
    &gpu26_image_does_not_fit_node::RULE,
];
