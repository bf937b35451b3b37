//! How a version is batched, queued and run: configuration, command line and what the model allows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::options::ServerOptions;
use crate::config::{DynamicBatching, ModelConfig, QueuePolicyConfig};
use crate::scheduler::{
    Batching, BatchingVerdict, QueuePolicy, SchedulerOptions, SingleRun, TimeoutAction,
    Verification,
};
use crate::signature::Signature;

/// Most elements of a batch where nobody says. Larger batches gain little on CPUs, and each doubles
/// the memory that a model's activations take.
const DEFAULT_MAX_BATCH: usize = 64;

/// Longest queue where nobody says, in requests. Triton has no limit, and with it no refusal in time.
const DEFAULT_MAX_QUEUE: usize = 2048;

/// Operators of faster models are too small to be spread over threads, so that more of their
/// requests run at a time instead.
const WORTH_SEVERAL_THREADS: Duration = Duration::from_millis(1);

/// Whether and how far a model is batched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchPlan {
    /// As metadata shows it; 0 where the first dimension is not the batch.
    pub(super) max_batch_size: usize,
    /// Whether requests are put together.
    pub(super) together: bool,
    /// Most elements of one request, where the configuration limits them.
    pub(super) row_limit: Option<usize>,
    pub(super) why: String,
    /// Whether the configuration asks for batches that would give wrong answers.
    pub(super) is_refused: bool,
    /// How long one request takes alone, if the model ran at all.
    pub(super) single_run: Option<SingleRun>,
}

/// Decides on batching, given what running the model has shown.
pub(super) fn plan_batches(
    config: &ModelConfig,
    options: &ServerOptions,
    model: &Signature,
    verification: &Verification,
) -> BatchPlan {
    let configured = config.max_batch_size.map(|size| usize::try_from(size).unwrap_or(0));
    let off = |max_batch_size, row_limit, why: String| BatchPlan {
        max_batch_size,
        together: false,
        row_limit,
        why,
        is_refused: false,
        single_run: verification.single_run,
    };
    if configured == Some(0) {
        return off(0, None, "max_batch_size is 0 in the configuration".to_owned());
    }
    let size = options.max_batch.or(configured).unwrap_or(DEFAULT_MAX_BATCH).max(1);
    // Clients may send more than is put together, except where the configuration forbids it.
    let row_limit = configured.map(|_| size);
    if let Some(fixed) = fixed_first_dimension(model) {
        let plan = off(0, None, fixed);
        return BatchPlan { is_refused: configured.is_some_and(|size| size > 1), ..plan };
    }
    if size == 1 {
        let max_batch_size = usize::from(configured.is_some());
        return off(max_batch_size, row_limit, "the largest batch is set to 1".to_owned());
    }
    match &verification.batching {
        BatchingVerdict::Safe if !asks_for_batches(config, options) && is_futile(verification) => {
            let why = "a batch of two takes about as long as two single requests".to_owned();
            off(size, row_limit, why)
        }
        BatchingVerdict::Safe => BatchPlan {
            max_batch_size: size,
            together: true,
            row_limit,
            why: "a batch of two gave what two single requests gave".to_owned(),
            is_refused: false,
            single_run: verification.single_run,
        },
        BatchingVerdict::Unsafe(reason) => BatchPlan {
            is_refused: configured.is_some(),
            ..off(row_limit.unwrap_or(0), row_limit, reason.clone())
        },
    }
}

/// Whether the owner wants requests to be put together, whatever it gains.
fn asks_for_batches(config: &ModelConfig, options: &ServerOptions) -> bool {
    config.dynamic_batching.is_some() || options.max_batch.is_some() || options.max_delay.is_some()
}

/// Whether batches have been seen to gain nothing. Times of quick models tell little, and what they
/// gain is the way to the engine.
fn is_futile(verification: &Verification) -> bool {
    let pair = verification.pair.filter(|pair| pair.single >= WORTH_SEVERAL_THREADS);
    pair.is_some_and(|pair| !pair.gains())
}

/// Says which input or output has no batch dimension, if any.
fn fixed_first_dimension(model: &Signature) -> Option<String> {
    let inputs = model.inputs.iter().map(|spec| ("input", spec));
    let outputs = model.outputs.iter().map(|spec| ("output", spec));
    inputs.chain(outputs).find_map(|(kind, spec)| match spec.dims.first() {
        Some(None) => None,
        Some(Some(extent)) => {
            Some(format!("the first dimension of {kind} '{}' is always {extent}", spec.name))
        }
        None => Some(format!("{kind} '{}' is a scalar", spec.name)),
    })
}

/// Settings of a version's queue.
pub(super) fn scheduler_options(
    config: &ModelConfig,
    options: &ServerOptions,
    plan: &BatchPlan,
    threads: usize,
) -> SchedulerOptions {
    let dynamic = config.dynamic_batching.clone().unwrap_or_default();
    let queue = queue_policy(dynamic.default_queue_policy.as_ref(), options);
    let priority_queues: BTreeMap<u64, QueuePolicy> = dynamic
        .priority_queue_policy
        .iter()
        .map(|(level, policy)| (*level, queue_policy(Some(policy), options)))
        .collect();
    SchedulerOptions {
        max_batch_size: plan.max_batch_size,
        batching: plan.together.then(|| batching(&dynamic, options, plan.max_batch_size)),
        instances: instances(config, plan, threads),
        queue,
        priority_levels: dynamic.priority_levels,
        default_priority: dynamic.default_priority_level,
        priority_queues,
        single_run: plan.single_run,
    }
}

fn batching(dynamic: &DynamicBatching, options: &ServerOptions, most: usize) -> Batching {
    let mut preferred_sizes: Vec<usize> = dynamic
        .preferred_batch_size
        .iter()
        .filter_map(|size| usize::try_from(*size).ok())
        .filter(|size| *size <= most)
        .collect();
    preferred_sizes.sort_unstable();
    preferred_sizes.dedup();
    let configured = Duration::from_micros(dynamic.max_queue_delay_microseconds);
    Batching {
        preferred_sizes,
        max_delay: options.max_delay.unwrap_or(configured),
        preserve_ordering: dynamic.preserve_ordering,
    }
}

/// Executions at a time: what the configuration counts, else one where a batch keeps all threads
/// busy, and one a thread where only requests are parallel.
fn instances(config: &ModelConfig, plan: &BatchPlan, threads: usize) -> usize {
    let counted: usize = config
        .instance_group
        .iter()
        .map(|group| usize::try_from(group.count).unwrap_or(1).max(1))
        .fold(0, usize::saturating_add);
    let is_slow = plan.single_run.is_none_or(|run| run.time >= WORTH_SEVERAL_THREADS);
    match counted {
        0 if plan.together && is_slow => 1,
        0 => threads,
        counted => counted,
    }
}

fn queue_policy(configured: Option<&QueuePolicyConfig>, options: &ServerOptions) -> QueuePolicy {
    let size = configured.and_then(|policy| policy.max_queue_size);
    let size = size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    let max_size = options.max_queue.or(size).unwrap_or(DEFAULT_MAX_QUEUE);
    let Some(policy) = configured else {
        // A client that gives a timeout means it.
        return QueuePolicy { max_size, allow_override: true, ..QueuePolicy::default() };
    };
    let timeout = Duration::from_micros(policy.default_timeout_microseconds);
    QueuePolicy {
        max_size,
        timeout: (!timeout.is_zero()).then_some(timeout),
        on_timeout: match policy.timeout_action.as_str() {
            "DELAY" => TimeoutAction::Delay,
            _ => TimeoutAction::Reject,
        },
        allow_override: policy.allow_timeout_override,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config;
    use crate::engine::EnginePreference;
    use crate::scheduler::Pair;
    use crate::server::ModelControl;
    use crate::signature::TensorSpec;
    use crate::tensor::DataType;

    fn options(max_batch: Option<usize>) -> ServerOptions {
        ServerOptions {
            targets: vec![PathBuf::from("model.onnx")],
            name: None,
            control: ModelControl::None,
            engine: EnginePreference::Auto,
            threads: None,
            max_batch,
            max_delay: None,
            max_queue: None,
            version: None,
            gpu_memory_limit: None,
        }
    }

    fn model(first: Option<usize>) -> Signature {
        let spec = TensorSpec {
            name: "x".to_owned(),
            data_type: DataType::Fp32,
            dims: vec![first, Some(4)],
            optional: false,
            labels: Vec::new(),
        };
        Signature { inputs: vec![spec.clone()], outputs: vec![spec] }
    }

    fn read(text: &str) -> ModelConfig {
        config::read_pbtxt("config.pbtxt", text).expect("valid").config
    }

    fn verification(is_safe: bool, micros: Option<u64>) -> Verification {
        let batching = match is_safe {
            true => BatchingVerdict::Safe,
            false => BatchingVerdict::Unsafe("differs".to_owned()),
        };
        let run = |micros| SingleRun { time: Duration::from_micros(micros), elements: 4 };
        Verification { batching, single_run: micros.map(run), pair: None }
    }

    #[track_caller]
    fn check(
        config: &str,
        max_batch: Option<usize>,
        first: Option<usize>,
        is_safe: bool,
        want: (usize, bool, Option<usize>, bool),
    ) {
        let verification = verification(is_safe, None);
        let plan = plan_batches(&read(config), &options(max_batch), &model(first), &verification);
        let got = (plan.max_batch_size, plan.together, plan.row_limit, plan.is_refused);
        assert_eq!(got, want, "{}", plan.why);
    }

    #[test]
    fn batches() {
        let off = (0, false, None, false);
        check("", None, None, true, (64, true, None, false));
        check("", Some(16), None, true, (16, true, None, false));
        check("", Some(1), None, true, off);
        check("", None, None, false, off);
        check("", None, Some(1), true, off);
        check("max_batch_size: 0", None, None, true, off);
        check("max_batch_size: 8", None, None, true, (8, true, Some(8), false));
        check("max_batch_size: 8", Some(32), None, true, (32, true, Some(32), false));
        check("max_batch_size: 1", None, None, true, (1, false, Some(1), false));
        // Asked for, but it would give wrong answers.
        check("max_batch_size: 8", None, None, false, (8, false, Some(8), true));
        check("max_batch_size: 8", None, Some(3), true, (0, false, None, true));
    }

    #[test]
    fn batches_that_gain_nothing_are_not_made() {
        #[track_caller]
        fn check(single: u64, together: u64, config: &str, max_batch: Option<usize>, want: bool) {
            let ms = Duration::from_millis;
            let pair = Some(Pair { single: ms(single), together: ms(together) });
            let verification = Verification { pair, ..verification(true, Some(single * 1000)) };
            let config = read(config);
            let plan = plan_batches(&config, &options(max_batch), &model(None), &verification);
            assert_eq!(plan.together, want, "{single} {together}: {}", plan.why);
            assert_eq!(plan.max_batch_size, max_batch.unwrap_or(64).min(64));
            let got = scheduler_options(&config, &options(max_batch), &plan, 4);
            assert_eq!(got.instances, if want { 1 } else { 4 });
        }
        check(50, 95, "", None, false);
        check(50, 84, "", None, false);
        check(50, 83, "", None, true);
        check(50, 95, "dynamic_batching { }", None, true);
        check(50, 95, "", Some(16), true);
    }

    #[test]
    fn fast_models_run_on_every_thread() {
        let check = |is_safe, micros: Option<u64>, want| {
            let verification = verification(is_safe, micros);
            let config = ModelConfig::default();
            let plan = plan_batches(&config, &options(None), &model(None), &verification);
            let got = scheduler_options(&config, &options(None), &plan, 4);
            assert_eq!(got.instances, want, "{is_safe} {micros:?}");
        };
        check(true, Some(10), 4);
        check(true, Some(20_000), 1);
        check(true, None, 1);
        check(false, Some(20_000), 4);
    }

    #[test]
    fn queues() {
        let config = read(
            "max_batch_size: 8 instance_group [ { count: 2 }, { kind: KIND_CPU } ]
             dynamic_batching {
               preferred_batch_size: [ 8, 4, 4 ] max_queue_delay_microseconds: 100
               priority_levels: 2 default_priority_level: 2
               default_queue_policy { default_timeout_microseconds: 5 timeout_action: DELAY }
               priority_queue_policy { key: 1 value { max_queue_size: 3 } }
             }",
        );
        let safe = verification(true, None);
        let plan = plan_batches(&config, &options(None), &model(None), &safe);
        let got = scheduler_options(&config, &options(None), &plan, 4);
        assert_eq!(got.instances, 3);
        let batching = got.batching.expect("on");
        assert_eq!(batching.preferred_sizes, [4, 8]);
        assert_eq!(batching.max_delay, Duration::from_micros(100));
        assert_eq!(got.queue.timeout, Some(Duration::from_micros(5)));
        assert_eq!(got.queue.on_timeout, TimeoutAction::Delay);
        assert_eq!(got.queue.max_size, DEFAULT_MAX_QUEUE);
        assert!(!got.queue.allow_override);
        assert_eq!(got.priority_queues[&1].max_size, 3);
        assert_eq!((got.priority_levels, got.default_priority), (2, 2));
    }
}
