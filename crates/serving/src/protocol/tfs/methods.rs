//! Classify, Regress and MultiInference, which take examples instead of tensors.

use std::time::Instant;

use super::classify::Classifier;
use super::examples::{self, Stacked};
use super::expansion::Expansion;
use super::model_spec::Target;
use super::regress::Regressor;
use crate::Server;
use crate::error::InferError;
use crate::protocol::call;
use crate::protocol::grpc::tensorflow::serving::{Input, inference_result::Result as Outcome};
use crate::request::{Execution, InferRequest, InferResponse};
use crate::signature::Signature;

/// Reads the result of a method from the outputs of a model.
pub(crate) trait Reader {
    type Result;

    /// Names of the outputs to ask for.
    fn outputs(&self) -> Vec<String>;

    /// Reads the result, which has one entry for each example.
    fn read(&self, response: &InferResponse, examples: usize) -> Result<Self::Result, InferError>;
}

/// A request that is given as examples.
#[derive(Debug)]
pub(crate) struct ExampleRequest {
    pub(crate) target: Target,
    pub(crate) input: Option<Input>,
    /// What examples may expand to, in bytes.
    pub(crate) max_bytes: usize,
    pub(crate) deadline: Option<Instant>,
}

/// A result, and which version gave it.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    pub(crate) result: T,
    pub(crate) version: u64,
    pub(crate) execution: Execution,
}

/// Runs the model once, with the reader that suits its signature.
pub(crate) async fn run<R: Reader>(
    server: &Server,
    request: ExampleRequest,
    reader: impl FnOnce(&Signature) -> Result<R, InferError>,
) -> Result<Answered<R::Result>, InferError> {
    let ExampleRequest { target, input, max_bytes, deadline } = request;
    let signature = server.signature(&target.model, &target.version);
    let signature = signature.map_err(|error| target.reword(error))?;
    let reader = reader(&signature)?;
    let stacked = examples::stack(&signature, input, &mut Expansion::new(max_bytes))?;
    let Stacked { examples, inputs } = stacked;
    let request = InferRequest {
        model: target.model.clone(),
        version: target.version.clone(),
        inputs,
        outputs: reader.outputs(),
        deadline,
        ..InferRequest::default()
    };
    let response = call::infer(server, request).await.map_err(|error| target.reword(error))?;
    Ok(Answered {
        result: reader.read(&response, examples)?,
        version: response.version,
        execution: response.execution,
    })
}

/// The reader of several results at once, for MultiInference.
#[derive(Debug)]
pub(crate) struct Tasks(Vec<Task>);

#[derive(Debug)]
enum Task {
    Classify(Classifier),
    Regress(Regressor),
}

impl Tasks {
    /// Finds the readers of methods by TensorFlow's names for them.
    pub(crate) fn of(methods: &[String], signature: &Signature) -> Result<Self, InferError> {
        let task = |method: &String| match method.as_str() {
            "tensorflow/serving/classify" => Classifier::of(signature).map(Task::Classify),
            "tensorflow/serving/regress" => Regressor::of(signature).map(Task::Regress),
            other => Err(InferError::Unsupported(format!(
                "Unsupported signature method_name: {other}; expected tensorflow/serving/classify \
                 or tensorflow/serving/regress"
            ))),
        };
        methods.iter().map(task).collect::<Result<_, _>>().map(Self)
    }
}

impl Reader for Tasks {
    type Result = Vec<Outcome>;

    fn outputs(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for task in &self.0 {
            let wanted = match task {
                Task::Classify(classifier) => classifier.outputs(),
                Task::Regress(regressor) => regressor.outputs(),
            };
            for name in wanted {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    fn read(&self, response: &InferResponse, examples: usize) -> Result<Vec<Outcome>, InferError> {
        let outcome = |task: &Task| {
            Ok(match task {
                Task::Classify(classifier) => {
                    Outcome::ClassificationResult(classifier.read(response, examples)?)
                }
                Task::Regress(regressor) => {
                    Outcome::RegressionResult(regressor.read(response, examples)?)
                }
            })
        };
        self.0.iter().map(outcome).collect()
    }
}
