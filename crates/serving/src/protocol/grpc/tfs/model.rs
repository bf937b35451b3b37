//! `tensorflow.serving.ModelService`: states of models, and which are served.

use tonic::{Code, Request};

use super::super::status::{Answer, answer};
use super::super::tensorflow::serving::model_service_server;
use super::super::tensorflow::serving::{
    GetModelStatusRequest, GetModelStatusResponse, ReloadConfigRequest, ReloadConfigResponse,
    StatusProto,
};
use crate::Server;
use crate::protocol::tfs::model_spec::Target;
use crate::protocol::tfs::{model_status, reload};

#[derive(Clone)]
pub(in super::super) struct ModelService {
    pub(in super::super) server: Server,
}

#[tonic::async_trait]
impl model_service_server::ModelService for ModelService {
    async fn get_model_status(
        &self,
        request: Request<GetModelStatusRequest>,
    ) -> Answer<GetModelStatusResponse> {
        let target = Target::of(request.into_inner().model_spec);
        let versions = target.and_then(|target| model_status::model_status(&self.server, &target));
        answer(versions.map(|model_version_status| GetModelStatusResponse { model_version_status }))
    }

    async fn handle_reload_config_request(
        &self,
        request: Request<ReloadConfigRequest>,
    ) -> Answer<ReloadConfigResponse> {
        // No metric is counted by the names of TensorFlow Serving, so none of them has increased.
        answer(reload::reload(&self.server, request.into_inner()).await.map(|()| {
            let status = StatusProto { error_code: Code::Ok.into(), error_message: String::new() };
            ReloadConfigResponse { status: Some(status), metric: Vec::new() }
        }))
    }
}
