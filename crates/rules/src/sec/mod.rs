//! What workloads and people may do, and what they run.

mod access;
mod sec01_secrets;
mod sec02_wildcards;
mod sec03_wrong_group;
mod sec04_escalation;
mod sec05_host_ipc;
mod sec06_pickle;
mod sec07_unpinned_model;
mod sec08_time_sliced_tenants;
mod sec09_mounted_token;
mod sec10_unpatched_toolkit;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 10] = [
    &sec01_secrets::RULE,
    &sec02_wildcards::RULE,
    &sec03_wrong_group::RULE,
    &sec04_escalation::RULE,
    &sec05_host_ipc::RULE,
    &sec06_pickle::RULE,
    &sec07_unpinned_model::RULE,
    &sec08_time_sliced_tenants::RULE,
    &sec09_mounted_token::RULE,
    &sec10_unpatched_toolkit::RULE,
];
