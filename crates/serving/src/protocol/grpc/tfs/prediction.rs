//! `tensorflow.serving.PredictionService`: inference on tensors and on examples.

use std::collections::BTreeMap;
use std::time::Instant;

use prost::Message;
use tonic::{Request, Response};

use super::super::status::{Answer, answer, status};
use super::super::tensorflow::serving::prediction_service_server;
use super::super::tensorflow::serving::*;
use super::super::{deadline::deadline, execution};
use crate::Server;
use crate::error::InferError;
use crate::protocol::call;
use crate::protocol::tfs::classify::Classifier;
use crate::protocol::tfs::expansion::Expansion;
use crate::protocol::tfs::methods::{self, Answered, ExampleRequest, Reader, Tasks};
use crate::protocol::tfs::model_spec::{Target, resolved};
use crate::protocol::tfs::regress::Regressor;
use crate::protocol::tfs::{signature, tensor_proto};
use crate::request::{Execution, InferRequest};
use crate::signature::Signature;

/// The one field of the metadata that there is.
const SIGNATURE_DEF: &str = "signature_def";

const SIGNATURE_DEF_TYPE: &str = "type.googleapis.com/tensorflow.serving.SignatureDefMap";

#[derive(Clone)]
pub(in super::super) struct PredictionService {
    pub(in super::super) server: Server,
    /// What one request may expand to, in bytes.
    pub(in super::super) max_bytes: usize,
}

impl PredictionService {
    async fn infer(
        &self,
        message: PredictRequest,
        deadline: Option<Instant>,
    ) -> Result<(PredictResponse, Execution), InferError> {
        let target = Target::of(message.model_spec)?;
        let mut expansion = Expansion::new(self.max_bytes);
        let mut inputs = Vec::with_capacity(message.inputs.len());
        for (name, tensor) in message.inputs {
            let tensor = tensor_proto::decode(&name, tensor, &mut expansion)?;
            inputs.push((name, tensor));
        }
        let request = InferRequest {
            model: target.model.clone(),
            version: target.version.clone(),
            inputs,
            outputs: message.output_filter,
            deadline,
            ..InferRequest::default()
        };
        let response =
            call::infer(&self.server, request).await.map_err(|error| target.reword(error))?;
        let outputs = response.outputs.iter();
        let outputs: BTreeMap<_, _> = outputs
            .map(|(name, tensor)| (name.as_ref().to_owned(), tensor_proto::encode(tensor)))
            .collect();
        let model_spec = Some(resolved(&response.model, response.version));
        Ok((PredictResponse { outputs, model_spec }, response.execution))
    }

    /// Runs a method that takes examples.
    async fn run<R: Reader>(
        &self,
        spec: Option<ModelSpec>,
        input: Option<Input>,
        deadline: Option<Instant>,
        reader: impl FnOnce(&Signature) -> Result<R, InferError>,
    ) -> Result<(Answered<R::Result>, ModelSpec), InferError> {
        let target = Target::of(spec)?;
        let model = target.model.clone();
        let request = ExampleRequest { target, input, max_bytes: self.max_bytes, deadline };
        let answered = methods::run(&self.server, request, reader).await?;
        let spec = resolved(&model, answered.version);
        Ok((answered, spec))
    }

    fn metadata(
        &self,
        request: GetModelMetadataRequest,
    ) -> Result<GetModelMetadataResponse, InferError> {
        if request.metadata_field.is_empty() {
            return Err(InferError::Invalid(format!(
                "GetModelMetadataRequest must specify at least one metadata_field, expected \
                 '{SIGNATURE_DEF}'"
            )));
        }
        if let Some(field) = request.metadata_field.iter().find(|field| *field != SIGNATURE_DEF) {
            return Err(InferError::Invalid(format!(
                "Metadata field {field} is not supported, expected '{SIGNATURE_DEF}'"
            )));
        }
        let target = Target::of(request.model_spec)?;
        let metadata = self.server.metadata(&target.model, &target.version);
        let metadata = metadata.map_err(|error| target.reword(error))?;
        let packed = prost_types::Any {
            type_url: SIGNATURE_DEF_TYPE.to_owned(),
            value: signature::signature_defs(&metadata.signature).encode_to_vec(),
        };
        // The signature is what is asked for, so none is named, as in TensorFlow Serving.
        let spec = resolved(&metadata.name, metadata.version);
        Ok(GetModelMetadataResponse {
            model_spec: Some(ModelSpec { signature_name: String::new(), ..spec }),
            metadata: BTreeMap::from([(SIGNATURE_DEF.to_owned(), packed)]),
        })
    }
}

#[tonic::async_trait]
impl prediction_service_server::PredictionService for PredictionService {
    async fn predict(&self, request: Request<PredictRequest>) -> Answer<PredictResponse> {
        let deadline = deadline(request.metadata(), Instant::now());
        described(self.infer(request.into_inner(), deadline).await)
    }

    async fn classify(
        &self,
        request: Request<ClassificationRequest>,
    ) -> Answer<ClassificationResponse> {
        let deadline = deadline(request.metadata(), Instant::now());
        let ClassificationRequest { model_spec, input } = request.into_inner();
        let answered = self.run(model_spec, input, deadline, Classifier::of).await;
        described(answered.map(|(Answered { result, execution, .. }, spec)| {
            let response = ClassificationResponse { result: Some(result), model_spec: Some(spec) };
            (response, execution)
        }))
    }

    async fn regress(&self, request: Request<RegressionRequest>) -> Answer<RegressionResponse> {
        let deadline = deadline(request.metadata(), Instant::now());
        let RegressionRequest { model_spec, input } = request.into_inner();
        let answered = self.run(model_spec, input, deadline, Regressor::of).await;
        described(answered.map(|(Answered { result, execution, .. }, spec)| {
            let response = RegressionResponse { result: Some(result), model_spec: Some(spec) };
            (response, execution)
        }))
    }

    async fn multi_inference(
        &self,
        request: Request<MultiInferenceRequest>,
    ) -> Answer<MultiInferenceResponse> {
        let deadline = deadline(request.metadata(), Instant::now());
        let MultiInferenceRequest { tasks, input } = request.into_inner();
        let run = async {
            let (spec, names) = one_model(tasks)?;
            let reader = |signature: &Signature| Tasks::of(&names, signature);
            self.run(Some(spec), input, deadline, reader).await
        };
        described(run.await.map(|(Answered { result, execution, .. }, spec)| {
            let results = result.into_iter().map(|outcome| InferenceResult {
                model_spec: Some(spec.clone()),
                result: Some(outcome),
            });
            (MultiInferenceResponse { results: results.collect() }, execution)
        }))
    }

    async fn get_model_metadata(
        &self,
        request: Request<GetModelMetadataRequest>,
    ) -> Answer<GetModelMetadataResponse> {
        answer(self.metadata(request.into_inner()))
    }
}

/// An answer that says how it was executed.
fn described<T>(result: Result<(T, Execution), InferError>) -> Answer<T> {
    let (message, execution) = result.map_err(|error| status(&error))?;
    let mut response = Response::new(message);
    execution::describe(&execution, response.metadata_mut());
    Ok(response)
}

/// The model that all tasks are for, and their methods.
fn one_model(tasks: Vec<InferenceTask>) -> Result<(ModelSpec, Vec<String>), InferError> {
    let mut spec: Option<ModelSpec> = None;
    let mut methods = Vec::with_capacity(tasks.len());
    for task in tasks {
        let Some(wanted) = task.model_spec else {
            return Err(InferError::Invalid("Missing ModelSpec".to_owned()));
        };
        match &spec {
            Some(first) if *first != wanted => {
                return Err(InferError::Invalid(
                    "All ModelSpecs in a MultiInferenceRequest must access the same model name, \
                     version and signature"
                        .to_owned(),
                ));
            }
            _ => spec = Some(wanted),
        }
        if methods.contains(&task.method_name) {
            return Err(InferError::Invalid(format!(
                "Duplicate evaluation of method: {}",
                task.method_name
            )));
        }
        methods.push(task.method_name);
    }
    let spec =
        spec.ok_or_else(|| InferError::Invalid("Inference request has no tasks".to_owned()))?;
    Ok((spec, methods))
}
