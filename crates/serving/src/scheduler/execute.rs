//! Runs jobs on a session: one as it is, several as one batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::batch::{concatenate, split};
use super::job::Job;
use crate::engine::{EngineError, Session};
use crate::error::InferError;
use crate::tensor::Tensor;

/// How long each part of an execution took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Phases {
    /// Putting the inputs together.
    pub(crate) input: Duration,
    pub(crate) infer: Duration,
    /// Taking the outputs apart.
    pub(crate) output: Duration,
}

impl Phases {
    pub(crate) fn total(&self) -> Duration {
        self.input.saturating_add(self.infer).saturating_add(self.output)
    }
}

/// Runs one job without copying anything.
pub(crate) fn execute_one(
    session: &dyn Session,
    job: &Job,
) -> Result<(Vec<Tensor>, Phases), InferError> {
    let started = Instant::now();
    let inputs: smallvec::SmallVec<[_; 8]> = job.inputs.iter().map(Option::as_ref).collect();
    let outputs = run(session, &inputs, &job.outputs)?;
    Ok((outputs, Phases { infer: started.elapsed(), ..Phases::default() }))
}

/// Runs several jobs at once; the answer has one entry per job, with the outputs that it asked for.
///
/// An error tells nothing about which job is to blame.
pub(crate) fn execute_batch(
    session: &dyn Session,
    jobs: &[&Job],
) -> Result<(Vec<Vec<Tensor>>, Phases), InferError> {
    let uneven = || InferError::Internal("the model does not answer row by row".to_owned());
    let started = Instant::now();
    let n_inputs = jobs.first().map_or(0, |job| job.inputs.len());
    let mut inputs = Vec::with_capacity(n_inputs);
    for index in 0..n_inputs {
        let parts: Vec<&Tensor> =
            jobs.iter().filter_map(|job| job.inputs.get(index)?.as_ref()).collect();
        let joined = match parts.len() {
            0 => None,
            n if n == jobs.len() => Some(concatenate(&parts).ok_or_else(uneven)?),
            _ => return Err(uneven()),
        };
        inputs.push(joined);
    }
    let inputs: Vec<_> = inputs.iter().map(Option::as_ref).collect();
    // Every output that anybody wants, once.
    let mut wanted: Vec<usize> = jobs.iter().flat_map(|job| job.outputs.iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();

    let joined = Instant::now();
    let outputs = run(session, &inputs, &wanted)?;
    let ran = Instant::now();

    let rows: Vec<usize> = jobs.iter().map(|job| job.rows).collect();
    let parts: Vec<Vec<Tensor>> = outputs
        .iter()
        .map(|output| split(output, &rows))
        .collect::<Option<_>>()
        .ok_or_else(uneven)?;
    let answers = jobs
        .iter()
        .enumerate()
        .map(|(position, job)| {
            job.outputs
                .iter()
                .map(|output| {
                    let column = wanted.binary_search(output).ok()?;
                    parts.get(column)?.get(position).cloned()
                })
                .collect::<Option<Vec<_>>>()
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(uneven)?;
    let phases = Phases { input: joined - started, infer: ran - joined, output: ran.elapsed() };
    Ok((answers, phases))
}

/// Runs a session; one that panics fails the one execution and not the thread, which is everybody's.
pub(crate) fn run(
    session: &dyn Session,
    inputs: &[Option<&Tensor>],
    outputs: &[usize],
) -> Result<Vec<Tensor>, InferError> {
    let ran = catch_unwind(AssertUnwindSafe(|| session.run(inputs, outputs)));
    let tensors = ran
        .unwrap_or_else(|_| Err(EngineError::Run("the engine panicked".to_owned())))
        .map_err(|error| match error {
        EngineError::Input(_) => InferError::Invalid(error.to_string()),
        _ => InferError::Internal(error.to_string()),
    })?;
    if tensors.len() != outputs.len() {
        let (got, wanted) = (tensors.len(), outputs.len());
        return Err(InferError::Internal(format!(
            "inference failed: {wanted} outputs were asked for, got {got}"
        )));
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Fake, ints, job, job_of};
    use super::*;

    #[test]
    fn each_job_gets_its_rows_and_its_outputs() {
        let fake = Fake::new();
        let jobs = [
            Job { outputs: vec![1], ..job(&[1]) },
            Job { outputs: vec![0, 1], ..job(&[2, 3]) },
            Job { outputs: vec![0, 0], ..job(&[4]) },
        ];
        let (answers, _) =
            execute_batch(&fake, &jobs.iter().collect::<Vec<_>>()).expect("no bad row");
        let (double, negative) = (
            |rows: &[i32]| ints(&[rows.len(), 1], &rows.iter().map(|x| x * 2).collect::<Vec<_>>()),
            |rows: &[i32]| ints(&[rows.len(), 1], &rows.iter().map(|x| -x).collect::<Vec<_>>()),
        );
        assert_eq!(answers[0], [negative(&[1])]);
        assert_eq!(answers[1], [double(&[2, 3]), negative(&[2, 3])]);
        assert_eq!(answers[2], [double(&[4]), double(&[4])]);
        assert_eq!(fake.batches(), [4]);
    }

    #[test]
    fn a_panic_is_an_error() {
        let failed = execute_one(&Fake::new().panicking(), &job(&[1]));
        assert!(matches!(failed, Err(InferError::Internal(_))), "{failed:?}");
    }

    #[test]
    fn inputs_that_only_some_have_do_not_join() {
        let (with, without) = (job(&[1]), job_of(vec![None], 1));
        assert!(execute_batch(&Fake::new(), &[&with, &without]).is_err());
    }
}
