//! One request as the scheduler sees it, and its answer.

use std::time::{Duration, Instant};

use crate::request::Execution;
use crate::tensor::Tensor;

/// One request, checked against the signature.
#[derive(Debug)]
pub struct Job {
    /// One entry per declared input, in order.
    pub inputs: Vec<Option<Tensor>>,
    /// Indices of the outputs wanted, in order.
    pub outputs: Vec<usize>,
    /// Batch elements; 1 for a model without batch dimension.
    pub rows: usize,
    /// 0 means the default level.
    pub priority: u64,
    pub queue_timeout: Option<Duration>,
    pub deadline: Option<Instant>,
}

/// The answer to a [`Job`].
#[derive(Debug)]
pub struct Done {
    /// As asked for by [`Job::outputs`].
    pub outputs: Vec<Tensor>,
    pub execution: Execution,
}

impl Job {
    /// Whether every input given has `rows` as its first dimension, so that others can be put
    /// behind it.
    pub(crate) fn can_share(&self) -> bool {
        let mut given = self.inputs.iter().flatten().peekable();
        self.rows > 0
            && given.peek().is_some()
            && given.all(|tensor| tensor.shape().first() == Some(&self.rows))
    }

    /// Whether both fit one batch: the same inputs given, equal in type and in every dimension but
    /// the first.
    pub(crate) fn joins(&self, other: &Self) -> bool {
        self.can_share()
            && other.can_share()
            && self.inputs.len() == other.inputs.len()
            && self.inputs.iter().zip(&other.inputs).all(|pair| match pair {
                (Some(one), Some(two)) => {
                    one.data_type() == two.data_type()
                        && one.shape().get(1..) == two.shape().get(1..)
                }
                (None, None) => true,
                _ => false,
            })
    }

    /// Elements of all inputs, as a measure of the work.
    pub(crate) fn size(&self) -> usize {
        self.inputs.iter().flatten().map(Tensor::len).fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ints, job, job_of};

    #[test]
    fn jobs_join_when_all_but_the_first_dimension_agree() {
        assert!(job(&[1]).joins(&job(&[2, 3])));
        let wide = job_of(vec![Some(ints(&[1, 2], &[1, 2]))], 1);
        assert!(!job(&[1]).joins(&wide));
        let two = |second| job_of(vec![Some(ints(&[1, 1], &[5])), second], 1);
        assert!(two(None).joins(&two(None)));
        assert!(!two(None).joins(&two(Some(ints(&[1, 1], &[5])))));
    }

    #[test]
    fn jobs_without_rows_run_alone() {
        assert!(!job(&[]).can_share());
        assert!(!job_of(vec![Some(ints(&[], &[5]))], 1).can_share());
        assert!(!job_of(vec![None], 1).can_share());
        assert!(!job_of(vec![Some(ints(&[2, 1], &[5, 6]))], 1).can_share());
    }
}
