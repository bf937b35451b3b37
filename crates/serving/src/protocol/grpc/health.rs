//! `grpc.health.v1.Health`, which kubelet and load balancers probe.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::health_v1::health_check_response::ServingStatus;
use super::health_v1::health_server::Health;
use super::health_v1::{HealthCheckRequest, HealthCheckResponse};
use super::{health_v1, inference, tensorflow};
use crate::Server;

/// How often a watched state is looked at: well under the period of any prober.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The services that can be asked for; the empty name is the server as a whole.
const SERVICES: [&str; 5] = [
    "",
    inference::grpc_inference_service_server::SERVICE_NAME,
    tensorflow::serving::prediction_service_server::SERVICE_NAME,
    tensorflow::serving::model_service_server::SERVICE_NAME,
    health_v1::health_server::SERVICE_NAME,
];

#[derive(Clone)]
pub(super) struct HealthService {
    pub(super) server: Server,
    pub(super) stop: CancellationToken,
}

impl HealthService {
    fn state(&self) -> ServingStatus {
        let is_ready = self.server.is_ready() && !self.stop.is_cancelled();
        if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !SERVICES.contains(&service.as_str()) {
            return Err(Status::not_found(format!("there is no service '{service}'")));
        }
        Ok(Response::new(HealthCheckResponse { status: self.state().into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = SERVICES.contains(&request.into_inner().service.as_str());
        let watched = Watched { service: self.clone(), known, last: None };
        let states = stream::unfold(watched, |mut watched| async move {
            let state = watched.next().await?;
            Some((Ok(HealthCheckResponse { status: state.into() }), watched))
        });
        Ok(Response::new(states.boxed()))
    }
}

/// One watching client.
struct Watched {
    service: HealthService,
    known: bool,
    last: Option<ServingStatus>,
}

impl Watched {
    /// The state, once it differs from the one sent last. Ends when the server shuts down, so that
    /// a watching client does not hold up the drain.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let state =
                if self.known { self.service.state() } else { ServingStatus::ServiceUnknown };
            if self.last != Some(state) {
                self.last = Some(state);
                return Some(state);
            }
            if self.service.stop.is_cancelled() {
                return None;
            }
            tokio::select! {
                () = self.service.stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_AGAIN_AFTER) => {}
            }
        }
    }
}
