//! Triton's configuration of a loaded version, everything filled in.

use super::fit::Fit;
use super::tuning::BatchPlan;
use super::version::PLATFORM;
use crate::config::{
    DynamicBatching, InputConfig, InstanceGroup, ModelConfig, OutputConfig, QueuePolicyConfig,
    TensorConfig, VersionPolicy,
};
use crate::scheduler::{SchedulerOptions, TimeoutAction};
use crate::signature::TensorSpec;

/// The configuration as it takes effect, as JSON with the message's own field names.
pub(super) fn effective(
    model: &str,
    configured: &ModelConfig,
    fit: &Fit,
    plan: &BatchPlan,
    scheduler: &SchedulerOptions,
) -> serde_json::Value {
    let skipped = usize::from(plan.max_batch_size > 0);
    let dims = |spec: &TensorSpec| -> Vec<i64> {
        let extents = spec.dims.iter().skip(skipped);
        extents.map(|extent| extent.and_then(|it| i64::try_from(it).ok()).unwrap_or(-1)).collect()
    };
    let tensor = |spec: &TensorSpec, declared: Option<&TensorConfig>| TensorConfig {
        name: spec.name.clone(),
        data_type: Some(spec.data_type),
        dims: dims(spec),
        reshape: declared.and_then(|tensor| tensor.reshape.clone()),
    };
    let input = |spec: &TensorSpec| {
        let declared = configured.input.iter().find(|input| input.tensor.name == spec.name);
        InputConfig {
            tensor: tensor(spec, declared.map(|input| &input.tensor)),
            optional: spec.optional,
        }
    };
    let output = |spec: &TensorSpec| {
        let declared = configured.output.iter().find(|output| output.tensor.name == spec.name);
        OutputConfig {
            tensor: tensor(spec, declared.map(|output| &output.tensor)),
            label_filename: declared.map(|it| it.label_filename.clone()).unwrap_or_default(),
        }
    };
    let group = InstanceGroup {
        name: model.to_owned(),
        kind: "KIND_AUTO".to_owned(),
        count: i32::try_from(scheduler.instances).unwrap_or(i32::MAX),
    };
    let groups = &configured.instance_group;
    let config = ModelConfig {
        name: model.to_owned(),
        platform: PLATFORM.to_owned(),
        backend: "onnxruntime".to_owned(),
        version_policy: Some(
            configured.version_policy.clone().unwrap_or(VersionPolicy::Latest { num_versions: 1 }),
        ),
        max_batch_size: Some(i32::try_from(plan.max_batch_size).unwrap_or(i32::MAX)),
        input: fit.signature.inputs.iter().map(input).collect(),
        output: fit.signature.outputs.iter().map(output).collect(),
        instance_group: if groups.is_empty() { vec![group] } else { groups.clone() },
        default_model_filename: match configured.default_model_filename.as_str() {
            "" => "model.onnx".to_owned(),
            given => given.to_owned(),
        },
        metric_tags: configured.metric_tags.clone(),
        dynamic_batching: scheduler.batching.as_ref().map(|_| dynamic_batching(scheduler)),
        parameters: configured.parameters.clone(),
        model_warmup: configured.model_warmup.clone(),
    };
    serde_json::to_value(config).unwrap_or_default()
}

fn dynamic_batching(scheduler: &SchedulerOptions) -> DynamicBatching {
    let batching = scheduler.batching.clone().unwrap_or_default();
    // Triton fills in the maximum where no size is preferred.
    let mut preferred = batching.preferred_sizes;
    if preferred.is_empty() {
        preferred.push(scheduler.max_batch_size);
    }
    let microseconds =
        |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let policy = |policy: &crate::scheduler::QueuePolicy| QueuePolicyConfig {
        timeout_action: match policy.on_timeout {
            TimeoutAction::Reject => "REJECT".to_owned(),
            TimeoutAction::Delay => "DELAY".to_owned(),
        },
        default_timeout_microseconds: policy.timeout.map(microseconds).unwrap_or_default(),
        allow_timeout_override: policy.allow_override,
        max_queue_size: Some(u32::try_from(policy.max_size).unwrap_or(u32::MAX)),
    };
    DynamicBatching {
        preferred_batch_size: preferred
            .into_iter()
            .map(|size| i32::try_from(size).unwrap_or(i32::MAX))
            .collect(),
        max_queue_delay_microseconds: microseconds(batching.max_delay),
        preserve_ordering: batching.preserve_ordering,
        priority_levels: scheduler.priority_levels,
        default_priority_level: scheduler.default_priority,
        default_queue_policy: Some(policy(&scheduler.queue)),
        priority_queue_policy: scheduler
            .priority_queues
            .iter()
            .map(|(level, it)| (*level, policy(it)))
            .collect(),
    }
}
