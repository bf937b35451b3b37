//! A model that can be watched and held up, for tests.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::job::Job;
use super::options::{QueuePolicy, SchedulerOptions};
use crate::engine::{EngineError, Session};
use crate::signature::{Signature, TensorSpec};
use crate::tensor::{Data, DataType, Tensor};

/// One row makes the whole run fail.
pub(crate) const BAD: i32 = 666;

pub(crate) fn ints(shape: &[usize], elements: &[i32]) -> Tensor {
    let shape = shape.iter().copied().collect();
    Tensor::from_vec(DataType::Int32, shape, elements.to_vec()).expect("consistent")
}

pub(crate) fn strings(shape: &[usize], elements: &[&str]) -> Tensor {
    let elements = elements.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
    let shape = shape.iter().copied().collect();
    Tensor::new(DataType::Bytes, shape, Data::Bytes(elements)).expect("consistent")
}

pub(crate) fn elements(tensor: &Tensor) -> Vec<i32> {
    let bytes = tensor.fixed().expect("integers");
    bytes.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four"))).collect()
}

/// A job with one input of one column.
pub(crate) fn job(rows: &[i32]) -> Job {
    job_of(vec![Some(ints(&[rows.len(), 1], rows))], rows.len())
}

pub(crate) fn job_of(inputs: Vec<Option<Tensor>>, rows: usize) -> Job {
    Job { inputs, outputs: vec![0], rows, priority: 0, queue_timeout: None, deadline: None }
}

/// One instance, no batching, no limits.
pub(crate) fn options(max_batch_size: usize) -> SchedulerOptions {
    SchedulerOptions {
        max_batch_size,
        batching: None,
        instances: 1,
        queue: QueuePolicy::default(),
        priority_levels: 0,
        default_priority: 0,
        priority_queues: std::collections::BTreeMap::new(),
        single_run: None,
    }
}

/// Answers twice its input, and its negative.
pub(crate) struct Fake {
    signature: Signature,
    panics: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether runs are held until they are let go.
    gated: bool,
    /// Like `gated`, for runs with this row.
    gated_row: Option<i32>,
    /// Runs that may go on.
    permits: usize,
    inside: usize,
    most_inside: usize,
    /// First column of each run.
    runs: Vec<Vec<i32>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            data_type: DataType::Int32,
            dims: vec![None, None],
            optional: false,
            labels: Vec::new(),
        };
        Self {
            signature: Signature {
                inputs: vec![spec("x")],
                outputs: vec![spec("double"), spec("negative")],
            },
            panics: false,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Each run waits to be let go.
    pub(crate) fn gated(self) -> Self {
        self.state.lock().expect("no panic").gated = true;
        self
    }

    /// Each run with this row waits to be let go.
    pub(crate) fn gated_for(self, row: i32) -> Self {
        self.state.lock().expect("no panic").gated_row = Some(row);
        self
    }

    pub(crate) fn panicking(self) -> Self {
        Self { panics: true, ..self }
    }

    pub(crate) fn let_go(&self, runs: usize) {
        self.state.lock().expect("no panic").permits += runs;
        self.changed.notify_all();
    }

    /// Waits until that many runs are held.
    #[track_caller]
    pub(crate) fn wait_inside(&self, runs: usize) {
        let state = self.state.lock().expect("no panic");
        let (state, _) = self
            .changed
            .wait_timeout_while(state, Duration::from_secs(10), |state| state.inside < runs)
            .expect("no panic");
        assert!(state.inside >= runs, "only {} runs began", state.inside);
    }

    pub(crate) fn runs(&self) -> Vec<Vec<i32>> {
        self.state.lock().expect("no panic").runs.clone()
    }

    /// Rows of each run.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.runs().iter().map(Vec::len).collect()
    }

    pub(crate) fn most_inside(&self) -> usize {
        self.state.lock().expect("no panic").most_inside
    }
}

impl Session for Fake {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(
        &self,
        inputs: &[Option<&Tensor>],
        outputs: &[usize],
    ) -> Result<Vec<Tensor>, EngineError> {
        assert!(!self.panics, "asked to");
        let input = inputs[0].expect("given");
        let rows = elements(input);
        {
            let mut state = self.state.lock().expect("no panic");
            state.runs.push(rows.clone());
            state.inside += 1;
            state.most_inside = state.most_inside.max(state.inside);
            self.changed.notify_all();
            if state.gated || state.gated_row.is_some_and(|row| rows.contains(&row)) {
                state =
                    self.changed.wait_while(state, |state| state.permits == 0).expect("no panic");
                state.permits -= 1;
            }
        }
        self.state.lock().expect("no panic").inside -= 1;
        if rows.contains(&BAD) {
            return Err(EngineError::Input("a bad row".to_owned()));
        }
        let answer = |output: &usize| {
            let factor = if *output == 0 { 2 } else { -1 };
            let elements: Vec<i32> = rows.iter().map(|row| row * factor).collect();
            ints(input.shape(), &elements)
        };
        Ok(outputs.iter().map(answer).collect())
    }
}
