//! Models that may be batched, and those that only look like it.

use std::sync::Mutex;

use super::super::fixtures::{Fake, elements, ints};
use super::*;
use crate::engine::EngineError;
use crate::signature::TensorSpec;
use crate::tensor::DataType;

type Model = dyn Fn(&Tensor) -> Result<Tensor, EngineError> + Send + Sync;

/// A model of one input `x` and one output `y`.
struct Function {
    signature: Signature,
    model: Box<Model>,
}

impl Session for Function {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Option<&Tensor>], _: &[usize]) -> Result<Vec<Tensor>, EngineError> {
        Ok(vec![(self.model)(inputs[0].expect("required"))?])
    }
}

fn spec(name: &str, data_type: DataType, dims: &[Option<usize>]) -> TensorSpec {
    let (name, dims) = (name.to_owned(), dims.to_vec());
    TensorSpec { name, data_type, dims, optional: false, labels: Vec::new() }
}

/// Runs integers of `[batch, n]`.
fn verify(
    model: impl Fn(&Tensor) -> Result<Tensor, EngineError> + Send + Sync + 'static,
) -> Verification {
    let two = [None, None];
    verify_batching(&Function {
        signature: Signature {
            inputs: vec![spec("x", DataType::Int32, &two)],
            outputs: vec![spec("y", DataType::Int32, &two)],
        },
        model: Box::new(model),
    })
}

#[track_caller]
fn assert_unsafe(verification: &Verification, word: &str) {
    match &verification.batching {
        BatchingVerdict::Unsafe(reason) => assert!(reason.contains(word), "{reason}"),
        BatchingVerdict::Safe => panic!("should not be batched"),
    }
}

#[test]
fn rows_that_do_not_meet_may_be_batched() {
    let verification = verify_batching(&Fake::new());
    assert_eq!(verification.batching, BatchingVerdict::Safe);
    assert!(verification.single_run.is_some());
}

#[test]
fn a_sum_over_rows_is_found() {
    let verification = verify(|x| {
        let all: i32 = elements(x).iter().sum();
        Ok(ints(x.shape(), &elements(x).iter().map(|_| all).collect::<Vec<_>>()))
    });
    assert_unsafe(&verification, "'y' of a row depends on the others");
    assert!(verification.single_run.is_some());
}

#[test]
fn an_output_of_another_length_is_found() {
    let verification = verify(|x| Ok(ints(&[1, 1], &[elements(x).iter().sum()])));
    assert_unsafe(&verification, "[1, 1]");
}

#[test]
fn a_model_that_takes_one_row_only_is_found() {
    let verification = verify(|x| match x.shape() {
        [1, _] => Ok(x.clone()),
        _ => Err(EngineError::Input("want 1".to_owned())),
    });
    assert_unsafe(&verification, "one row and not two");
}

#[test]
fn chance_is_found() {
    let count = Mutex::new(0);
    let verification = verify(move |x| {
        let mut count = count.lock().expect("no panic");
        *count += 1;
        Ok(ints(x.shape(), &vec![*count; x.len()]))
    });
    assert_unsafe(&verification, "two equal requests");
}

#[test]
fn other_extents_are_tried() {
    let verification = verify(|x| match x.shape() {
        [_, 16] => Ok(x.clone()),
        shape => Err(EngineError::Input(format!("want 16, got {shape:?}"))),
    });
    assert_eq!(verification.batching, BatchingVerdict::Safe);
    let verification = verify(|_| Err(EngineError::Input("never content".to_owned())));
    assert_unsafe(&verification, "never content");
    assert_eq!(verification.single_run, None);
}

#[test]
fn the_signature_alone_may_forbid_it() {
    let echo = |inputs: &[Option<usize>], outputs: &[Option<usize>]| {
        verify_batching(&Function {
            signature: Signature {
                inputs: vec![spec("x", DataType::Int32, inputs)],
                outputs: vec![spec("y", DataType::Int32, outputs)],
            },
            model: Box::new(|x| Ok(x.clone())),
        })
    };
    let fixed = echo(&[Some(2), Some(3)], &[None, Some(3)]);
    assert_unsafe(&fixed, "input 'x' is fixed to 2");
    assert!(fixed.single_run.is_some());
    assert_unsafe(&echo(&[None, Some(3)], &[]), "output 'y' is a scalar");
}

#[test]
fn panics_and_missing_outputs_are_verdicts() {
    assert_unsafe(&verify_batching(&Fake::new().panicking()), "panicked");
}
