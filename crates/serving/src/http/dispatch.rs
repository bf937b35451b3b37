//! From a request to its answer: finds the route, reads the body, calls the handler, and adds what
//! every answer has.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{HeaderName, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::access::Access;
use super::activity::InFlight;
use super::body::{self, BodyError};
use super::metrics::{HttpMetrics, RouteIndex};
use super::payload::{Answer, Payload};
use super::request_id::{REQUEST_ID, request_id};
use super::route::{Call, Found, Protocol};
use super::{App, HttpOptions, PROTOCOLS, compression, deadline};
use crate::Server;
use crate::error::InferError;
use crate::protocol::grpc::{Grpc, GrpcOptions};
use crate::shared_memory::SharedMemory;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What all connections of a listener share.
pub(super) struct Dispatch {
    pub(super) app: Arc<App>,
    pub(super) metrics: HttpMetrics,
    grpc: Grpc,
}

/// What came of a request, for metrics and the log.
struct Outcome {
    answer: Answer,
    protocol: usize,
    /// The route, if one matched.
    route: Option<usize>,
    request_bytes: usize,
}

impl Dispatch {
    pub(super) fn new(server: Server, options: HttpOptions, stop: CancellationToken) -> Self {
        let shared_memory = SharedMemory::default();
        let grpc_options = GrpcOptions {
            server_name: options.server_name.clone(),
            max_message_bytes: options.max_body_bytes,
            shared_memory: shared_memory.clone(),
            stop: stop.clone(),
        };
        Self {
            metrics: HttpMetrics::new(server.metrics(), &PROTOCOLS),
            grpc: Grpc::new(&server, &grpc_options),
            app: Arc::new(App { server, options: Arc::new(options), shared_memory, stop }),
        }
    }

    /// Answers one request. The answer holds `in_flight` until it was sent.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        in_flight: InFlight,
    ) -> Response<ResponseBody> {
        let started = Instant::now();
        let _counted = self.metrics.count_in_flight();
        if is_grpc(request.headers()) {
            return self.answer_grpc(request, peer, in_flight, started).await;
        }
        let (head, body) = request.into_parts();
        let id = request_id(&head.headers);
        let wanted = compression::wanted(&head.headers);
        // The head goes to the handler, the log needs it afterwards.
        let logged = self.app.options.access_log.then(|| Logged::new(&head));

        let span = self.span(&head.method, head.uri.path(), &head.headers, &id);
        let run = self.run(head, body, started);
        let Outcome { answer, protocol, route, request_bytes } = match &span {
            None => run.await,
            Some(span) => run.instrument(span.clone()).await,
        };
        let mut answer = compression::compress(wanted, answer).await;
        let status = answer.status();
        if self.app.stop.is_cancelled() {
            answer.headers_mut().insert(CONNECTION, CLOSE);
        }

        let duration = started.elapsed();
        let name = PROTOCOLS.get(protocol).map_or("", |protocol| protocol.name);
        let template = route.and_then(|route| PROTOCOLS.get(protocol)?.routes.get(route));
        let template = template.map_or("", |route| route.template);
        if let Some(span) = span {
            span.record("http.route", template);
            span.record("http.response.status_code", status.as_u16());
        }
        match route {
            Some(route) => {
                self.metrics.count(&PROTOCOLS, RouteIndex { protocol, route }, status, duration);
            }
            None => self.metrics.count_unmatched(name, status),
        }
        if let Some(logged) = logged {
            let response_bytes = answer.body().len();
            Access {
                peer,
                version: logged.version,
                method: &logged.method,
                path: &logged.path,
                route: template,
                status,
                duration,
                request_bytes,
                response_bytes,
                id: &id,
            }
            .log();
        }
        answer.headers_mut().insert(REQUEST_ID, id);
        answer.map(|payload| ResponseBody::new(Kind::Rest(payload), in_flight))
    }

    /// The span of a request, if somebody traces.
    fn span(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        id: &HeaderValue,
    ) -> Option<Span> {
        let hook = self.app.options.trace?;
        let span = tracing::info_span!(
            "request",
            otel.kind = "server",
            http.request.method = %method,
            url.path = path,
            http.route = Empty,
            http.response.status_code = Empty,
            request.id = id.to_str().unwrap_or_default(),
        );
        hook(&span, headers);
        Some(span)
    }

    /// Finds the route, reads the body and calls the handler.
    async fn run(&self, head: Parts, body: Incoming, started: Instant) -> Outcome {
        let path = head.uri.path();
        let (index, protocol) = protocol_of(path);
        let found = match protocol.find(&head.method, path) {
            Ok(found) => found,
            Err(unmatched) => {
                let answer = (protocol.unmatched)(&head, unmatched);
                return Outcome { answer, protocol: index, route: None, request_bytes: 0 };
            }
        };
        let route = Some(found.index);
        match self.read(&head, body).await {
            Ok(body) => {
                let request_bytes = body.len();
                let Found { route: operation, parameters, .. } = found;
                let deadline = deadline::deadline(&head.headers, started);
                let call = Call { app: self.app.clone(), head, body, parameters, deadline };
                let answer = (operation.handler)(call).await;
                Outcome { answer, protocol: index, route, request_bytes }
            }
            Err(error) => {
                let answer = refuse(protocol, error);
                Outcome { answer, protocol: index, route, request_bytes: 0 }
            }
        }
    }

    /// The whole body, decompressed.
    async fn read(&self, head: &Parts, body: Incoming) -> Result<Bytes, BodyError> {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        let options = &self.app.options;
        let coding = compression::of_request(&head.headers).map_err(BodyError::Refused)?;
        let limit = options.max_body_bytes;
        let body = body::read(body, &head.headers, limit, options.body_timeout).await?;
        match coding {
            None => Ok(body),
            Some(coding) => {
                compression::decompress(coding, body, limit).await.map_err(BodyError::Refused)
            }
        }
    }

    async fn answer_grpc(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        in_flight: InFlight,
        started: Instant,
    ) -> Response<ResponseBody> {
        let id = request_id(request.headers());
        let path = request.uri().path().to_owned();
        let version = request.version();
        let span = self.span(request.method(), &path, request.headers(), &id);
        let call = self.grpc.clone().call(request);
        let Ok(response) = match &span {
            None => call.await,
            Some(span) => call.instrument(span.clone()).await,
        };
        let status = response.status();
        let code = response.headers().get(GRPC_STATUS);
        let duration = started.elapsed();
        let known = code.is_none_or(|code| code != UNIMPLEMENTED);
        if let Some(span) = span {
            span.record("http.route", &path);
            span.record("http.response.status_code", status.as_u16());
        }
        self.metrics.count_grpc(&path, known, status, duration);
        if self.app.options.access_log {
            Access {
                peer,
                version,
                method: &Method::POST,
                path: &path,
                route: &path,
                status,
                duration,
                request_bytes: 0,
                response_bytes: 0,
                id: &id,
            }
            .log();
        }
        let mut response = response.map(|body| ResponseBody::new(Kind::Grpc(body), in_flight));
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The code for a method that does not exist.
const UNIMPLEMENTED: &str = "12";
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The parts of a head that the log needs.
struct Logged {
    version: Version,
    method: Method,
    path: String,
}

impl Logged {
    fn new(head: &Parts) -> Self {
        let path = head.uri.path().to_owned();
        Self { version: head.version, method: head.method.clone(), path }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

const LAST: usize = PROTOCOLS.len() - 1;

/// The protocol that a path belongs to; the last has all that no other has.
fn protocol_of(path: &str) -> (usize, &'static Protocol) {
    let has = |protocol: &Protocol| match path.get(..protocol.prefix.len()) {
        Some(start) if protocol.ignores_case => start.eq_ignore_ascii_case(protocol.prefix),
        Some(start) => start == protocol.prefix,
        None => false,
    };
    let found = PROTOCOLS.iter().copied().enumerate().find(|(_, protocol)| has(protocol));
    found.unwrap_or((LAST, PROTOCOLS[LAST]))
}

/// The answer to a request whose body was not read.
fn refuse(protocol: &Protocol, error: BodyError) -> Answer {
    let (error, status) = match error {
        BodyError::Refused(error) => (error, None),
        BodyError::Slow { waited } => {
            let error = InferError::Invalid(format!("no byte of the body came for {waited:?}"));
            (error, Some(StatusCode::REQUEST_TIMEOUT))
        }
        BodyError::Broken(reason) => {
            (InferError::Invalid(format!("the request body cannot be read: {reason}")), None)
        }
    };
    let mut answer = (protocol.refusal)(&error);
    if let Some(status) = status {
        *answer.status_mut() = status;
    }
    if answer.status() == StatusCode::NOT_IMPLEMENTED {
        answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
    }
    // What is left of the body would be taken for the next request.
    answer.headers_mut().insert(CONNECTION, CLOSE);
    answer
}

/// The body of any answer.
pub(super) struct ResponseBody {
    kind: Kind,
    _in_flight: InFlight,
}

enum Kind {
    Rest(Payload),
    Grpc(tonic::body::Body),
}

impl ResponseBody {
    fn new(kind: Kind, in_flight: InFlight) -> Self {
        Self { kind, _in_flight: in_flight }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.kind {
            Kind::Rest(payload) => Pin::new(payload)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Kind::Grpc(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Error::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Rest(payload) => payload.is_end_stream(),
            Kind::Grpc(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Rest(payload) => payload.size_hint(),
            Kind::Grpc(body) => body.size_hint(),
        }
    }
}
