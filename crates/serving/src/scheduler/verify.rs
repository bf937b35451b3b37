//! Finds out by running a model whether its requests may share a batch.
//!
//! A dynamic first dimension does not make a batch: it may be the length of a sequence, or the
//! model may look across rows. So the model itself is asked: two rows at once must answer what each
//! answers alone, on every output.

mod compare;
mod sample;

use std::time::{Duration, Instant};

use super::batch::{concatenate, split};
use super::execute;
use crate::engine::Session;
use crate::signature::Signature;
use crate::tensor::Tensor;
use compare::difference;
use sample::{Sample, samples};

/// What running a model has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    pub batching: BatchingVerdict,
    /// For [`SchedulerOptions::single_run`]; `None` when the model ran on none of the inputs made
    /// for it.
    ///
    /// [`SchedulerOptions::single_run`]: super::SchedulerOptions::single_run
    pub single_run: Option<SingleRun>,
    /// What a batch of two took, where the model may be batched.
    pub pair: Option<Pair>,
}

impl Verification {
    fn unbatched(reason: String, single_run: Option<SingleRun>) -> Self {
        Self { batching: BatchingVerdict::Unsafe(reason), single_run, pair: None }
    }
}

/// How long two rows take, one by one and together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// One row.
    pub single: Duration,
    /// Both rows at once.
    pub together: Duration,
}

impl Pair {
    /// Whether a batch saves a sixth of the time or more.
    ///
    /// A net that keeps all cores busy with one row saves nothing, and does better with one run a
    /// core: a ResNet-50 answers about a seventh more that way than with all cores on one run
    /// (`cargo xtask bench serving --only resnet`). What saves less than that is not worth it.
    pub fn gains(&self) -> bool {
        self.together.saturating_mul(3) <= self.single.saturating_mul(5)
    }
}

/// How long one request takes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SingleRun {
    /// The median of several runs.
    pub time: Duration,
    /// Elements of all its inputs: larger requests are expected to take longer.
    pub elements: usize,
}

/// Whether a model may be batched, in words for metadata and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchingVerdict {
    /// The first dimension of every input and output is the batch.
    Safe,
    /// It must not be; the reason.
    Unsafe(String),
}

/// Past this, a model is taken to be too slow to be run several times over while it loads.
const SLOW: Duration = Duration::from_secs(2);

/// Most runs for the median, and the time after which no more are begun.
const TIMED_RUNS: usize = 9;
const TIMED_FOR: Duration = Duration::from_millis(50);

/// Most comparisons of the time of a batch with that of single requests, and the time after which no
/// more are begun.
const PAIRS: usize = 5;
const PAIRED_FOR: Duration = Duration::from_millis(400);

/// Runs the model on made-up inputs, to see whether a batch of two equals two singles on every
/// output, and how long one takes. Blocks for several inferences.
///
/// For a model that cannot be batched by its signature, only the time is measured.
pub fn verify_batching(session: &dyn Session) -> Verification {
    let signature = session.signature();
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    let unbatchable = without_batch(signature);
    let mut refused = None;
    for sample in samples(signature) {
        let sample = match sample {
            Ok(sample) => sample,
            Err(reason) => {
                refused.get_or_insert(reason);
                continue;
            }
        };
        let started = Instant::now();
        let first = match run(session, &sample.one, &outputs) {
            Ok(first) => first,
            Err(reason) => {
                refused.get_or_insert(reason);
                continue;
            }
        };
        let took = started.elapsed();
        if let Some(reason) = unbatchable.clone() {
            let single_run = Some(median(session, &sample, &outputs, took));
            drop(first);
            settle(session, &sample);
            return Verification::unbatched(reason, single_run);
        }
        if took > SLOW {
            let reason = format!(
                "one inference takes {:.1} s, too long to try a batch while loading",
                took.as_secs_f64()
            );
            return Verification::unbatched(reason, Some(sample.took(took)));
        }
        let (batching, pair) = match compare_batch(session, &sample, &first, &outputs) {
            Ok(pair) => (BatchingVerdict::Safe, Some(pair)),
            Err(reason) => (BatchingVerdict::Unsafe(reason), None),
        };
        let single_run = Some(median(session, &sample, &outputs, took));
        // What an answer lies in is not given back while the answer lives.
        drop(first);
        settle(session, &sample);
        return Verification { batching, single_run, pair };
    }
    let reason = unbatchable.or(refused).unwrap_or_else(|| "the model has no inputs".to_owned());
    Verification::unbatched(reason, None)
}

/// Why the signature alone forbids batching.
fn without_batch(signature: &Signature) -> Option<String> {
    if signature.inputs.iter().all(|input| input.optional) {
        return Some("no input is required, so nothing tells the batch size".to_owned());
    }
    let inputs = signature.inputs.iter().map(|spec| ("input", spec));
    let outputs = signature.outputs.iter().map(|spec| ("output", spec));
    for (kind, spec) in inputs.chain(outputs) {
        let name = &spec.name;
        match spec.dims.first() {
            Some(None) => {}
            Some(Some(extent)) => {
                return Some(format!(
                    "the first dimension of {kind} '{name}' is fixed to {extent}"
                ));
            }
            None => return Some(format!("{kind} '{name}' is a scalar")),
        }
    }
    None
}

/// Compares two rows alone with both at once, in what they answer and in the time they take.
fn compare_batch(
    session: &dyn Session,
    sample: &Sample,
    first: &[Tensor],
    outputs: &[usize],
) -> Result<Pair, String> {
    let (again, took_again) = timed(session, &sample.one, outputs)?;
    let (second, took_second) = timed(session, &sample.other, outputs)?;
    let pair: Vec<Option<Tensor>> = sample
        .one
        .iter()
        .zip(&sample.other)
        .map(|(one, other)| concatenate(&[one.as_ref()?, other.as_ref()?]))
        .collect();
    let (both, took_both) = timed(session, &pair, outputs)
        .map_err(|reason| format!("the model takes one row and not two: {reason}"))?;
    let specs = &session.signature().outputs;
    let answers = specs.iter().zip(&both).zip(first.iter().zip(&again).zip(&second));
    for ((spec, both), ((first, again), second)) in answers {
        let name = &spec.name;
        if let Some(what) = difference(first, again) {
            return Err(format!("output '{name}' differs between two equal requests: {what}"));
        }
        let rows = split(both, &[1, 1]).ok_or_else(|| {
            format!(
                "output '{name}' of two rows has shape {:?}, which is not two rows",
                both.shape()
            )
        })?;
        for (row, single) in rows.iter().zip([first, second]) {
            if let Some(what) = difference(single, row) {
                return Err(format!(
                    "output '{name}' of a row depends on the others in its batch: {what}"
                ));
            }
        }
    }
    let mut times = Pair { single: took_again.min(took_second), together: took_both };
    // The first run of a shape may also allocate, and other work of the machine makes any run take
    // longer. The shortest of several is what a run takes.
    let begun = Instant::now();
    for _ in 1..PAIRS {
        times.together = times.together.min(timed(session, &pair, outputs)?.1);
        times.single = times.single.min(timed(session, &sample.one, outputs)?.1);
        if begun.elapsed() > PAIRED_FOR {
            break;
        }
    }
    Ok(times)
}

fn timed(
    session: &dyn Session,
    inputs: &[Option<Tensor>],
    outputs: &[usize],
) -> Result<(Vec<Tensor>, Duration), String> {
    let started = Instant::now();
    run(session, inputs, outputs).map(|answers| (answers, started.elapsed()))
}

fn run(
    session: &dyn Session,
    inputs: &[Option<Tensor>],
    outputs: &[usize],
) -> Result<Vec<Tensor>, String> {
    let inputs: Vec<_> = inputs.iter().map(Option::as_ref).collect();
    execute::run(session, &inputs, outputs).map_err(|error| error.to_string())
}

fn settle(session: &dyn Session, sample: &Sample) {
    let inputs: Vec<_> = sample.one.iter().map(Option::as_ref).collect();
    session.settle(&inputs);
}

/// The median of several runs; `took` stands for all of a slow model.
fn median(session: &dyn Session, sample: &Sample, outputs: &[usize], took: Duration) -> SingleRun {
    let begun = Instant::now();
    let mut times = Vec::with_capacity(TIMED_RUNS);
    while took < TIMED_FOR && times.len() < TIMED_RUNS && begun.elapsed() < TIMED_FOR {
        let started = Instant::now();
        if run(session, &sample.one, outputs).is_err() {
            break;
        }
        times.push(started.elapsed());
    }
    times.sort_unstable();
    sample.took(times.get(times.len() / 2).copied().unwrap_or(took))
}

#[cfg(test)]
mod tests;
