//! The service's methods: each translates, calls the server and translates back.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use tonic::{Request, Response, Streaming};

use super::super::inference::grpc_inference_service_server::GrpcInferenceService;
use super::super::inference::model_metadata_response::TensorMetadata;
use super::super::inference::model_repository_parameter::ParameterChoice;
use super::super::inference::repository_index_response::ModelIndex;
use super::super::inference::system_shared_memory_status_response::RegionStatus;
use super::super::inference::*;
use super::super::status::{Answer, answer, status};
use super::super::{GrpcOptions, config, deadline::deadline, execution};
use super::decode::{self, Decoded};
use super::{encode, settings, stream};
use crate::Server;
use crate::error::InferError;
use crate::protocol::call;
use crate::protocol::oip::load::{self, LoadParameter};
use crate::protocol::oip::settings::EXTENSIONS;
use crate::protocol::oip::{one_repository, state_name};
use crate::request::Execution;
use crate::server::{DurationStat, LoadOptions, VersionState};
use crate::shared_memory::RegionInfo;
use crate::signature::TensorSpec;

#[derive(Clone)]
pub(in super::super) struct InferenceService {
    pub(in super::super) server: Server,
    pub(in super::super) options: GrpcOptions,
}

impl InferenceService {
    /// Decodes, runs and encodes one request.
    pub(super) async fn infer(
        &self,
        message: ModelInferRequest,
        deadline: Option<Instant>,
    ) -> Result<(ModelInferResponse, Execution), InferError> {
        let mut message = message;
        let id = std::mem::take(&mut message.id);
        let shared_memory = &self.options.shared_memory;
        let Decoded { request, outputs } = decode::decode(message, shared_memory, deadline)?;
        let response = call::infer(&self.server, request).await?;
        let execution = response.execution;
        let answer = encode::encode(response, id, &outputs, &self.server, shared_memory)?;
        Ok((answer, execution))
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        answer(Ok(ServerLiveResponse { live: self.server.is_live() }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        // As `/v2/health/ready` and `grpc.health.v1` say it: not while the server drains.
        let ready = self.server.is_ready() && !self.options.stop.is_cancelled();
        answer(Ok(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        // A model that is not known is not ready, as Triton has it, rather than an error.
        let ready = self.server.metadata(&name, &decode::version(&version)).is_ok();
        answer(Ok(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        answer(Ok(ServerMetadataResponse {
            name: self.options.server_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        answer(self.server.metadata(&name, &decode::version(&version)).map(|metadata| {
            ModelMetadataResponse {
                name: metadata.name.as_ref().to_owned(),
                versions: metadata.versions.iter().map(u64::to_string).collect(),
                platform: metadata.platform.to_owned(),
                inputs: metadata.signature.inputs.iter().map(tensor_metadata).collect(),
                outputs: metadata.signature.outputs.iter().map(tensor_metadata).collect(),
            }
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let deadline = deadline(request.metadata(), Instant::now());
        let result = self.infer(request.into_inner(), deadline).await;
        let (message, execution) = result.map_err(|error| status(&error))?;
        let mut response = Response::new(message);
        execution::describe(&execution, response.metadata_mut());
        Ok(response)
    }

    type ModelStreamInferStream = stream::ResponseStream;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let deadline = deadline(request.metadata(), Instant::now());
        let responses = stream::responses(self.clone(), request.into_inner(), deadline);
        Ok(Response::new(responses))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answer<ModelConfigResponse> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let read = || {
            if !version.is_empty() {
                self.server.metadata(&name, &decode::version(&version))?;
            }
            config::from_json(self.server.config(&name)?)
        };
        answer(read().map(|config| ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let read = || {
            let version = match version.as_str() {
                "" | "-1" => None,
                text => Some(text.parse().map_err(|_| {
                    InferError::Invalid(format!("version '{text}' is not a whole number"))
                })?),
            };
            self.server.statistics((!name.is_empty()).then_some(name.as_str()), version)
        };
        answer(read().map(|models| ModelStatisticsResponse {
            model_stats: models.into_iter().map(statistics).collect(),
        }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let request = request.into_inner();
        answer(one_repository(&request.repository_name).map(|()| {
            let entries = self.server.index().into_iter();
            let wanted = entries
                .filter(|entry| !request.ready || entry.state == VersionState::Ready)
                .map(|entry| ModelIndex {
                    name: entry.name,
                    version: entry.version.map(|version| version.to_string()).unwrap_or_default(),
                    state: state_name(entry.state).to_owned(),
                    reason: entry.reason,
                });
            RepositoryIndexResponse { models: wanted.collect() }
        }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        let request = request.into_inner();
        let load = async {
            one_repository(&request.repository_name)?;
            let options = load_options(request.parameters)?;
            self.server.load(&request.model_name, options).await?;
            Ok(RepositoryModelLoadResponse {})
        };
        answer(load.await)
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        let request = request.into_inner();
        let unload = async {
            one_repository(&request.repository_name)?;
            // `unload_dependents` concerns ensembles, which are models of other servers.
            self.server.unload(&request.model_name).await?;
            Ok(RepositoryModelUnloadResponse {})
        };
        answer(unload.await)
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Answer<SystemSharedMemoryStatusResponse> {
        let name = request.into_inner().name;
        let regions = self.options.shared_memory.status(region_name(&name));
        answer(regions.map(|regions| SystemSharedMemoryStatusResponse {
            regions: regions.into_iter().map(region_status).collect(),
        }))
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Answer<SystemSharedMemoryRegisterResponse> {
        let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } =
            request.into_inner();
        let region = RegionInfo { name, key, offset, byte_size };
        let registered = self.options.shared_memory.register(region);
        answer(registered.map(|()| SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<SystemSharedMemoryUnregisterResponse> {
        self.options.shared_memory.unregister(region_name(&request.into_inner().name));
        answer(Ok(SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        request: Request<CudaSharedMemoryStatusRequest>,
    ) -> Answer<CudaSharedMemoryStatusResponse> {
        let name = request.into_inner().name;
        if !name.is_empty() {
            return answer(Err(InferError::NotFound(format!(
                "Unable to find cuda shared memory region: '{name}'"
            ))));
        }
        answer(Ok(CudaSharedMemoryStatusResponse { regions: BTreeMap::new() }))
    }

    async fn cuda_shared_memory_register(
        &self,
        request: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Answer<CudaSharedMemoryRegisterResponse> {
        let name = request.into_inner().name;
        answer(Err(InferError::Unsupported(format!(
            "failed to register CUDA shared memory region: '{name}', this server shares system \
             memory only"
        ))))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<CudaSharedMemoryUnregisterResponse> {
        // None can be registered, so all are unregistered already; clients call this to clean up.
        answer(Ok(CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(
        &self,
        request: Request<TraceSettingRequest>,
    ) -> Answer<TraceSettingResponse> {
        answer(settings::trace(request.into_inner()))
    }

    async fn log_settings(
        &self,
        request: Request<LogSettingsRequest>,
    ) -> Answer<LogSettingsResponse> {
        answer(settings::log(request.into_inner()))
    }
}

fn tensor_metadata(spec: &TensorSpec) -> TensorMetadata {
    let extent = |extent: &Option<usize>| extent.and_then(|extent| i64::try_from(extent).ok());
    TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.data_type.oip_name().to_owned(),
        shape: spec.dims.iter().map(|dim| extent(dim).unwrap_or(-1)).collect(),
    }
}

fn statistics(model: crate::server::ModelStatistics) -> ModelStatistics {
    let duration =
        |stat: DurationStat| Some(StatisticDuration { count: stat.count, ns: stat.nanoseconds });
    let batches = model.batches.into_iter().map(|(batch_size, (input, infer, output))| {
        InferBatchStatistics {
            batch_size,
            compute_input: duration(input),
            compute_infer: duration(infer),
            compute_output: duration(output),
        }
    });
    ModelStatistics {
        name: model.name,
        version: model.version.to_string(),
        last_inference: model.last_inference_ms,
        inference_count: model.inference_count,
        execution_count: model.execution_count,
        inference_stats: Some(InferStatistics {
            success: duration(model.success),
            fail: duration(model.fail),
            queue: duration(model.queue),
            compute_input: duration(model.compute_input),
            compute_infer: duration(model.compute_infer),
            compute_output: duration(model.compute_output),
            // There is no response cache, so these stay at zero; clients expect them to be there.
            cache_hit: duration(DurationStat::default()),
            cache_miss: duration(DurationStat::default()),
        }),
        batch_stats: batches.collect(),
        memory_usage: Vec::new(),
        response_stats: BTreeMap::new(),
    }
}

fn load_options(
    parameters: BTreeMap<String, ModelRepositoryParameter>,
) -> Result<LoadOptions, InferError> {
    let parameters = parameters.into_iter().map(|(key, parameter)| {
        let value = match parameter.parameter_choice {
            Some(ParameterChoice::StringParam(text)) => LoadParameter::Text(text),
            Some(ParameterChoice::BytesParam(content)) => LoadParameter::Bytes(content),
            _ => LoadParameter::Other,
        };
        (key, value)
    });
    load::options(parameters, |parameter| match parameter {
        LoadParameter::Bytes(content) => Some(content),
        LoadParameter::Text(text) => Some(Bytes::from(text)),
        LoadParameter::Other => None,
    })
}

fn region_name(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

fn region_status(region: RegionInfo) -> (String, RegionStatus) {
    let RegionInfo { name, key, offset, byte_size } = region;
    (name.clone(), RegionStatus { name, key, offset, byte_size })
}
