//! Autoscaling.

mod subject;

mod scl01_cpu_for_gpu_server;
mod scl02_memory_never_falls;
mod scl03_no_request_for_metric;
mod scl04_two_autoscalers;
mod scl05_replicas_beside_autoscaler;
mod scl06_above_quota;
mod scl07_zero_without_trigger;
mod scl08_no_scale_down_window;
mod scl09_retired_metric;
mod scl10_no_fallback;
mod scl11_cooldown_below_load;
mod scl12_budget_at_minimum;
mod scl13_busy_gpu;
mod scl14_concurrency_of_an_llm;
mod scl15_expendable_priority;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 15] = [
    &scl01_cpu_for_gpu_server::RULE,
    &scl02_memory_never_falls::RULE,
    &scl03_no_request_for_metric::RULE,
    &scl04_two_autoscalers::RULE,
    &scl05_replicas_beside_autoscaler::RULE,
    &scl06_above_quota::RULE,
    &scl07_zero_without_trigger::RULE,
    &scl08_no_scale_down_window::RULE,
    &scl09_retired_metric::RULE,
    &scl10_no_fallback::RULE,
    &scl11_cooldown_below_load::RULE,
    &scl12_budget_at_minimum::RULE,
    &scl13_busy_gpu::RULE,
    &scl14_concurrency_of_an_llm::RULE,
    &scl15_expendable_priority::RULE,
];
