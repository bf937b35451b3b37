//! Serving: probes, rollouts, images, models.

mod cache;
mod load_time;
mod rollout;
mod srv01_no_startup_probe;
mod srv02_startup_budget_too_short;
mod srv03_no_readiness_probe;
mod srv04_liveness_is_readiness;
mod srv05_rollout_needs_spare_gpu;
mod srv06_rollout_halves_capacity;
mod srv07_deadline_below_load_time;
mod srv08_grace_below_longest_stream;
mod srv09_ports_differ;
mod srv10_disruption_budget;
mod srv11_all_on_one_node;
mod srv12_weights_from_the_internet;
mod srv13_gated_model_without_token;
mod srv14_trust_remote_code;
mod srv15_service_called_vllm;
mod srv16_mutable_image;
mod srv17_gateway_timeout;
mod srv18_unbounded_model_cache;
mod srv19_runtime_does_not_fit;
mod srv20_scale_to_zero_of_slow_server;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 20] = [
    &srv01_no_startup_probe::RULE,
    &srv02_startup_budget_too_short::RULE,
    &srv03_no_readiness_probe::RULE,
    &srv04_liveness_is_readiness::RULE,
    &srv05_rollout_needs_spare_gpu::RULE,
    &srv06_rollout_halves_capacity::RULE,
    &srv07_deadline_below_load_time::RULE,
    &srv08_grace_below_longest_stream::RULE,
    &srv09_ports_differ::RULE,
    &srv10_disruption_budget::RULE,
    &srv11_all_on_one_node::RULE,
    &srv12_weights_from_the_internet::RULE,
    &srv13_gated_model_without_token::RULE,
    &srv14_trust_remote_code::RULE,
    &srv15_service_called_vllm::RULE,
    &srv16_mutable_image::RULE,
    &srv17_gateway_timeout::RULE,
    &srv18_unbounded_model_cache::RULE,
    &srv19_runtime_does_not_fit::RULE,
    &srv20_scale_to_zero_of_slow_server::RULE,
];
