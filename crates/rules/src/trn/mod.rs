//! Training jobs: shared memory, storage, restarts, peers and networks.

pub(crate) mod job;
mod network;

mod trn01_small_shared_memory;
mod trn02_shared_memory_on_disk;
mod trn03_unbounded_shared_memory;
mod trn04_volume_of_one_node;
mod trn05_spot_without_checkpoint;
mod trn06_grace_below_checkpoint;
mod trn07_drain_counts_as_failure;
mod trn08_no_gang;
mod trn09_no_deadline;
mod trn10_kept_for_ever;
mod trn11_checkpoint_lost_with_pod;
mod trn12_nccl_switch_left_on;
mod trn13_no_network_interface;
mod trn14_rdma_without_device;
mod trn15_no_rendezvous_host;
mod trn16_policy_blocks_peers;
mod trn17_world_size_differs;
mod trn18_evicted_by_consolidation;
mod trn19_no_topology;
mod trn20_batch_above_serving;
mod trn21_no_queue_or_quota;
mod trn22_elastic_range;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 22] = [
    &trn01_small_shared_memory::RULE,
    &trn02_shared_memory_on_disk::RULE,
    &trn03_unbounded_shared_memory::RULE,
    &trn04_volume_of_one_node::RULE,
    &trn05_spot_without_checkpoint::RULE,
    &trn06_grace_below_checkpoint::RULE,
    &trn07_drain_counts_as_failure::RULE,
    &trn08_no_gang::RULE,
    &trn09_no_deadline::RULE,
    &trn10_kept_for_ever::RULE,
    &trn11_checkpoint_lost_with_pod::RULE,
    &trn12_nccl_switch_left_on::RULE,
    &trn13_no_network_interface::RULE,
    &trn14_rdma_without_device::RULE,
    &trn15_no_rendezvous_host::RULE,
    &trn16_policy_blocks_peers::RULE,
    &trn17_world_size_differs::RULE,
    &trn18_evicted_by_consolidation::RULE,
    &trn19_no_topology::RULE,
    &trn20_batch_above_serving::RULE,
    &trn21_no_queue_or_quota::RULE,
    &trn22_elastic_range::RULE,
];
