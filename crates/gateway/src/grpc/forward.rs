//! Forwards one call, to another replica where the first fails in time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use smallvec::SmallVec;

use super::answer::{GrpcBody, code_of, ending_of};
use super::upload::{CallBody, Upload};
use super::{deadline, local};
use crate::call::{Asked, Call, Peer, X_HELD, deadline_exceeded};
use crate::forward::{back_off_until, broken_gateway, has_other};
use crate::front::FrontBody;
use crate::gateway::Gateway;
use crate::mirror::{MIRROR_LIMIT, MirrorVisit};
use crate::peek::{Peek, message};
use crate::record::Record;
use crate::refusal::{Reason, Refusal};
use crate::revision::Code;
use crate::route::{self, InBody, Target};
use crate::scope::{NotFound, Scope};
use crate::state::{EndpointState, ServiceState};
use crate::upstream::GrpcLease;
use crate::visit::{Ending, Visit};

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Whether a request is a gRPC call.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        kind.strip_prefix(b"application/grpc").is_some_and(|rest| {
            // `application/grpc-web` is another protocol.
            matches!(rest.first(), None | Some(b'+' | b';'))
        })
    })
}

impl Gateway {
    pub(crate) async fn grpc(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: &Peer,
        record: Option<&mut Record>,
    ) -> Response<FrontBody> {
        let started = Instant::now();
        let (head, incoming) = request.into_parts();
        if head.method != Method::POST {
            let refusal = Refusal::new(Reason::BadRequest, "a gRPC call is a POST");
            return self.refused_call(&refusal, None);
        }
        let Some(path) = head.uri.path_and_query().cloned() else {
            let refusal = Refusal::new(Reason::BadRequest, "the call names no method");
            return self.refused_call(&refusal, None);
        };
        let upload = Upload::new(incoming, self.keeps());
        let scope = self.scope(&head.headers, head.uri.authority());
        let timeout = head.headers.get(GRPC_TIMEOUT).and_then(|value| value.to_str().ok());
        let timeout = timeout.and_then(deadline::parse);
        let mut asked = Asked {
            method: Method::POST,
            path,
            headers: head.headers,
            repeatable: false,
            started,
            deadline: started + timeout.unwrap_or(self.settings.response_timeout),
        };
        let mut endless = false;
        let found = match route::grpc(asked.path.path()) {
            Target::InBody(InBody::Message { path, repeatable, stream }) => {
                asked.repeatable = repeatable;
                endless = stream && timeout.is_none();
                let by = asked.deadline.min(started + self.settings.stall_timeout);
                let named = self.find_by_message(&scope, &upload, &asked.headers, path);
                match tokio::time::timeout_at(by.into(), named).await {
                    Ok(Ok(Some(service))) => Ok(service),
                    // `ModelStatistics` of all models has no name.
                    Ok(Ok(None)) if asked.path.path().ends_with("/ModelStatistics") => {
                        return self
                            .grpc_union(route::Union::Statistics, &scope, &asked, peer)
                            .await;
                    }
                    Ok(Ok(None)) => scope.only().cloned().ok_or_else(|| {
                        Refusal::new(Reason::BadRequest, "the call's message names no model")
                    }),
                    Ok(Err(refusal)) => Err(refusal),
                    Err(_) => Err(deadline_exceeded()),
                }
            }
            Target::Unnamed { .. } => scope.only().cloned().ok_or_else(|| {
                let message = format!("no service has the method {}", asked.path.path());
                Refusal::new(Reason::Unimplemented, message)
            }),
            target => return self.grpc_local(target, &scope, &upload, &asked, peer).await,
        };
        drop(scope);
        let service = match found {
            Ok(service) => service,
            Err(refusal) => return self.refused_call(&refusal, None),
        };
        self.prepare_headers(&mut asked.headers, peer);
        let with_timeout = timeout.is_some();
        match self.let_in(&service, asked, peer) {
            Ok(call) => match self.forward_call(call, &upload, with_timeout, endless).await {
                Ok(response) => {
                    if let Some(record) = record {
                        record.served_by(response.body().call());
                    }
                    response.map(|body| FrontBody::Grpc(Box::new(body)))
                }
                Err(refusal) => self.refused_call(&refusal, Some(&service)),
            },
            Err(refusal) => self.refused_call(&refusal, Some(&service)),
        }
    }

    pub(super) fn refused_call(
        &self,
        refusal: &Refusal,
        service: Option<&Arc<ServiceState>>,
    ) -> Response<FrontBody> {
        let codes = service.map_or(&*self.own_codes, |service| &service.refused);
        codes.note(Code::Grpc(refusal.reason.grpc_code()));
        refusal.trailers()
    }

    /// The service of the model that the first message names; `None` if it names none.
    async fn find_by_message(
        &self,
        scope: &Scope,
        upload: &Upload,
        headers: &HeaderMap,
        path: &[u32],
    ) -> Result<Option<Arc<ServiceState>>, Refusal> {
        let encoding = headers.get("grpc-encoding").and_then(|value| value.to_str().ok());
        let limit = self.settings.peek_limit;
        let look = |seen: &[u8]| match message::model_name(seen, encoding, path, limit) {
            Peek::NeedMore => None,
            peek => Some(peek),
        };
        let peek = upload
            .read_ahead(limit, look)
            .await
            .map_err(|error| Refusal::new(Reason::BadRequest, error.to_string()))?;
        match peek {
            Some(Peek::Found(name)) => scope.find(&name).map(Some).map_err(|why| match why {
                NotFound::Unknown => Refusal::new(Reason::NotFound, unknown(&name, path)),
                NotFound::Ambiguous(cure) => Refusal::new(Reason::NotFound, cure),
            }),
            Some(Peek::Broken) => {
                // The only service says best what is wrong with the message.
                let message = "the first message cannot be read";
                let only = scope.only().cloned();
                only.map(Some).ok_or_else(|| Refusal::new(Reason::BadRequest, message))
            }
            _ => Ok(None),
        }
    }

    /// `with_timeout`: the client gave one, and what is left of it goes on. `endless`: the answer
    /// may begin at any time, as that of a stream on which the client is silent.
    pub(super) async fn forward_call(
        self: &Arc<Self>,
        mut call: Call,
        upload: &Upload,
        with_timeout: bool,
        endless: bool,
    ) -> Result<Response<GrpcBody>, Refusal> {
        let mut avoid: SmallVec<[Arc<EndpointState>; 2]> = SmallVec::new();
        let mut attempts = 1;
        loop {
            let mut visit = self.acquire(&mut call, &avoid).await?;
            let endpoint = visit.endpoint.clone();
            let other = has_other(&call, &avoid, &endpoint);
            let more = attempts < self.settings.max_attempts;
            let sent = match self.lease(&call, &endpoint).await {
                Ok(lease) => {
                    let body = upload.body();
                    let answer = self.send(&call, &lease, body, with_timeout);
                    let answer = until((!endless).then_some(call.deadline), answer).await;
                    answer.map(|answer| answer.map(|answer| (answer, lease)))
                }
                Err(error) => {
                    tracing::debug!(%error, address = %endpoint.address, "cannot connect");
                    call.service.counts.connect_errors.fetch_add(1, Ordering::Relaxed);
                    visit.end(Ending::Failed);
                    if !more || !self.may_retry(&call) {
                        return Err(broken_gateway());
                    }
                    attempts += 1;
                    self.next_attempt(&call, &mut avoid, endpoint, other, attempts).await;
                    continue;
                }
            };
            match sent {
                None => {
                    visit.end(Ending::Late);
                    return Err(deadline_exceeded());
                }
                Some(Ok((response, lease))) => {
                    visit.head_came(Instant::now());
                    let code = status_of(&response);
                    let busy = code == Some(14) && other && more;
                    if busy && upload.is_repeatable() && self.may_retry(&call) {
                        visit.end(Ending::Failed);
                        attempts += 1;
                        avoid.push(endpoint);
                        continue;
                    }
                    return self.begin_answer(call, visit, lease, response, code, upload);
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, address = %endpoint.address, "a call failed");
                    visit.expect(Ending::Failed);
                    drop(visit);
                    let again = more && call.repeatable && upload.is_repeatable();
                    if !again || !self.may_retry(&call) {
                        return Err(broken_gateway());
                    }
                    attempts += 1;
                    self.next_attempt(&call, &mut avoid, endpoint, other, attempts).await;
                }
            }
        }
    }

    async fn next_attempt(
        &self,
        call: &Call,
        avoid: &mut SmallVec<[Arc<EndpointState>; 2]>,
        failed: Arc<EndpointState>,
        other: bool,
        attempts: u32,
    ) {
        avoid.push(failed);
        if !other {
            tokio::time::sleep_until(back_off_until(call, attempts).into()).await;
        }
    }

    async fn lease(&self, call: &Call, endpoint: &EndpointState) -> std::io::Result<GrpcLease> {
        let by = call.deadline.saturating_duration_since(Instant::now());
        let timeout = self.settings.connect_timeout.min(by);
        endpoint.grpc.lease(endpoint.address, timeout, &self.tasks).await
    }

    /// Sends a call and waits for the head of its answer.
    pub(super) fn send(
        &self,
        call: &Call,
        lease: &GrpcLease,
        body: CallBody,
        with_timeout: bool,
    ) -> impl Future<Output = Result<Response<Incoming>, hyper::Error>> + use<> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        let mut headers = call.headers.clone();
        let authority = headers.remove(http::header::HOST);
        let authority = authority.as_ref().and_then(|value| value.to_str().ok());
        let uri = Uri::builder().scheme("http").path_and_query(call.path.clone());
        // A URI of parts that were each parsed before; else hyper refuses the request.
        *request.uri_mut() =
            uri.authority(authority.unwrap_or("localhost")).build().unwrap_or_default();
        for name in ["connection", "keep-alive", "proxy-connection", "upgrade", "expect"] {
            headers.remove(name);
        }
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if with_timeout {
            let left = call.deadline.saturating_duration_since(Instant::now());
            if let Ok(left) = HeaderValue::from_str(&deadline::format(left)) {
                headers.insert(GRPC_TIMEOUT, left);
            }
        }
        *request.headers_mut() = headers;
        let mut sender = lease.sender();
        async move {
            sender.ready().await?;
            sender.send_request(request).await
        }
    }

    fn begin_answer(
        self: &Arc<Self>,
        call: Call,
        mut visit: Visit,
        lease: GrpcLease,
        response: Response<Incoming>,
        code: Option<u8>,
        upload: &Upload,
    ) -> Result<Response<GrpcBody>, Refusal> {
        self.mirror_call(&call, &visit, upload);
        upload.settle();
        let (mut head, incoming) = response.into_parts();
        if !is_grpc(&head.headers) && !head.headers.contains_key("grpc-status") {
            // Something that speaks HTTP, but no gRPC. Its bare status would mean nothing.
            let message = format!("the replica answered {} instead of gRPC", head.status);
            call.refused(Code::Grpc(14));
            visit.expect(Ending::Failed);
            return Err(Refusal::new(Reason::BadGateway, message));
        }
        if let Some(held) = call.held {
            let millis = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
            head.headers.insert(X_HELD, HeaderValue::from(millis));
        }
        if let Some(code) = code {
            visit.expect(ending_of(code));
            call.answered(&visit, Code::Grpc(code));
            drop(visit);
            let body = GrpcBody::ended(incoming, call, lease);
            return Ok(Response::from_parts(head, body));
        }
        Ok(Response::from_parts(head, GrpcBody::new(incoming, visit, call, lease)))
    }

    fn mirror_call(self: &Arc<Self>, call: &Call, primary: &Visit, upload: &Upload) {
        if call.service.config.load().mirror.is_none() || !call.repeatable {
            return;
        }
        let Some(chunks) = upload.whole(MIRROR_LIMIT) else { return };
        let Some(MirrorVisit { mut visit, permit }) = self.mirror_visit(call, primary) else {
            return;
        };
        let copy = call.copy(Instant::now() + self.settings.response_timeout);
        let gateway = self.clone();
        self.tasks.spawn(async move {
            let endpoint = visit.endpoint.clone();
            let sent = async {
                let lease = gateway.lease(&copy, &endpoint).await.ok()?;
                let body = CallBody::canned(chunks);
                let response = gateway.send(&copy, &lease, body, false).await.ok()?;
                visit.head_came(Instant::now());
                let code = code_of(response.headers());
                let trailers = response.into_body().collect().await.ok()?;
                code.or_else(|| trailers.trailers().and_then(code_of))
            };
            let code = until(Some(copy.deadline), sent).await;
            visit.end(match code {
                Some(code) => ending_of(code.unwrap_or(14)),
                None => Ending::Late,
            });
            drop(permit);
        });
    }

    /// A call without a client, to one replica of a service: the message that it answers.
    pub(super) async fn ask_call(
        self: &Arc<Self>,
        service: &Arc<ServiceState>,
        asked: Asked,
        message: bytes::Bytes,
        peer: &Peer,
    ) -> Option<Vec<u8>> {
        service.config.load().endpoints().next()?;
        let mut call = self.let_in(service, asked, peer).ok()?;
        let mut visit = self.acquire(&mut call, &[]).await.ok()?;
        let lease = self.lease(&call, &visit.endpoint).await;
        let asked = async {
            let body = CallBody::canned(vec![message]);
            let response = self.send(&call, &lease.ok()?, body, true).await.ok()?;
            visit.head_came(Instant::now());
            let limited =
                http_body_util::Limited::new(response.into_body(), crate::union::MAX_ANSWER);
            let body = limited.collect().await.ok()?.to_bytes();
            local::message(&body)
        };
        let answer = until(Some(call.deadline), asked).await.flatten();
        visit.end(if answer.is_some() { Ending::Answered } else { Ending::Unknown });
        answer
    }
}

/// The future's output, unless the deadline comes first.
async fn until<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
    }
}

/// The code of an answer that consists of trailers only, also of one that is no gRPC.
fn status_of(response: &Response<Incoming>) -> Option<u8> {
    code_of(response.headers()).or_else(|| response.status().is_server_error().then_some(14))
}

fn unknown(name: &str, path: &[u32]) -> String {
    // Only the Open Inference Protocol has the name at the top of its messages.
    if path.len() == 1 {
        format!("Request for unknown model: '{name}' is not found")
    } else {
        format!("Servable not found for request: Latest({name})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_by_content_type() {
        let is = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            is_grpc(&headers)
        };
        assert!(is("application/grpc") && is("application/grpc+proto"));
        assert!(!is("application/grpc-web") && !is("application/json"));
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
