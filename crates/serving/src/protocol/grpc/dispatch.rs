//! All services behind one entry point, which the HTTP shell calls.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::{Deflate, Gzip};
use tonic::service::Routes;
use tower::Service;

use super::health::HealthService;
use super::health_v1::health_server::HealthServer;
use super::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use super::oip::InferenceService;
use super::tensorflow::serving::model_service_server::ModelServiceServer;
use super::tensorflow::serving::prediction_service_server::PredictionServiceServer;
use super::tfs::{ModelService, PredictionService};
use crate::Server;
use crate::shared_memory::SharedMemory;

/// Settings of the gRPC services.
#[derive(Debug, Clone)]
pub struct GrpcOptions {
    /// What `ServerMetadata` answers as name.
    pub server_name: String,
    /// The largest message taken, in bytes, after decompression.
    pub max_message_bytes: usize,
    /// The regions that clients register, shared with the REST protocol.
    pub shared_memory: SharedMemory,
    /// Cancelled when the server is told to stop: it is not ready from then on.
    pub stop: CancellationToken,
}

/// The gRPC services of one server. Cheap to clone.
#[derive(Clone)]
pub struct Grpc {
    plain: Routes,
    compressing: Routes,
}

impl Grpc {
    /// Prepares the services.
    pub fn new(server: &Server, options: &GrpcOptions) -> Self {
        Self { plain: routes(server, options, false), compressing: routes(server, options, true) }
    }
}

impl<B> Service<Request<B>> for Grpc
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Routes as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The routes answer each request on a clone of their own and are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_compressed(request.headers()) {
            self.compressing.call(request)
        } else {
            self.plain.call(request)
        }
    }
}

/// Whether the client compresses its messages. Only then are answers compressed: every Python and
/// C++ client says that it accepts gzip, but compressing a tensor costs more than sending it.
fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get("grpc-encoding").is_some_and(|encoding| encoding != "identity")
}

fn routes(server: &Server, options: &GrpcOptions, compress: bool) -> Routes {
    /// The settings that every service has.
    macro_rules! configured {
        ($service:expr) => {{
            let service = $service
                .accept_compressed(Gzip)
                .accept_compressed(Deflate)
                .max_decoding_message_size(options.max_message_bytes)
                .max_encoding_message_size(usize::MAX);
            if compress { service.send_compressed(Gzip).send_compressed(Deflate) } else { service }
        }};
    }
    let inference = InferenceService { server: server.clone(), options: options.clone() };
    let prediction =
        PredictionService { server: server.clone(), max_bytes: options.max_message_bytes };
    let model = ModelService { server: server.clone() };
    let health = HealthService { server: server.clone(), stop: options.stop.clone() };
    Routes::new(configured!(GrpcInferenceServiceServer::new(inference)))
        .add_service(configured!(PredictionServiceServer::new(prediction)))
        .add_service(configured!(ModelServiceServer::new(model)))
        .add_service(configured!(HealthServer::new(health)))
        .prepare()
}
