//! A REST request from its head to the head of its answer, whichever HTTP version it came by.

use std::sync::Arc;
use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::body::{Body, Source, Stop};
use crate::call::{Asked, Call, Peer};
use crate::forward::Answer;
use crate::gateway::Gateway;
use crate::peek::{Peek, json};
use crate::refusal::{Reason, Refusal, Shape};
use crate::revision::Code;
use crate::route::{self, Target, Union};
use crate::scope::{NotFound, Scope};
use crate::state::ServiceState;

/// A request's head, without what belongs to one connection.
#[derive(Debug)]
pub(crate) struct RestHead {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) started: Instant,
}

/// What the client gets.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large variant is the one on the hot path")]
pub(crate) enum Reply {
    Forwarded(Call, Answer),
    Own(Response<Vec<u8>>),
    /// Nothing: it has gone.
    Gone,
}

impl Gateway {
    pub(crate) async fn rest<S: Source>(
        self: &Arc<Self>,
        mut head: RestHead,
        peer: &Peer,
        body: &mut Body<S>,
    ) -> Reply {
        if let Some(prefix) = self.settings.path_prefix.as_deref() {
            let stripped = route::strip_prefix(head.target.as_str(), prefix);
            match stripped.and_then(|path| with_slash(path).parse().ok()) {
                Some(target) => head.target = target,
                None => return self.own(Err(not_found()), Shape::Rest, None),
            }
        }
        let shape = Shape::of(head.target.path());
        let path = head.target.path();
        let scope = self.scope(&head.headers, None);
        let found = match route::rest(&head.method, path) {
            Target::Live => return self.own(self.live(&head.method), shape, None),
            Target::Ready => return self.own(self.ready(&head), shape, None),
            Target::Metrics => return self.own(self.metrics(&head.method), shape, None),
            Target::ModelControl => return self.own(Err(models_are_managed()), shape, None),
            Target::Malformed => {
                let refusal = Refusal::new(Reason::NotFound, "the path names no valid model");
                return self.own(Err(refusal), shape, None);
            }
            Target::Union(union) => match scope.only() {
                // Its own answer is exact, and there is nothing to put together. Metadata says what
                // the gateway lets through, which is less than what the replica has.
                Some(only)
                    if union != Union::Metadata
                        && only.config.load().endpoints().next().is_some() =>
                {
                    Ok((only.clone(), true))
                }
                _ => {
                    return self.own(
                        self.rest_union(union, &scope, &head, peer).await,
                        shape,
                        None,
                    );
                }
            },
            Target::Model { name, repeatable } => {
                find(&scope, &name, path).map(|service| (service, repeatable))
            }
            Target::InBody(_) => {
                let due = head.started + self.settings.stall_timeout;
                let limit = self.settings.peek_limit;
                let look = |seen: &[u8], end| match json::model_name(seen, end) {
                    Peek::NeedMore => None,
                    peek => Some(peek),
                };
                match body.read_ahead(limit, due, look).await {
                    Err(Stop::ClientGone) => return Reply::Gone,
                    Err(Stop::Refused(refusal)) => return self.own(Err(refusal), shape, None),
                    Ok(Some(Peek::Found(name))) => find(&scope, &name, path),
                    Ok(_) => scope.only().cloned().ok_or_else(|| {
                        Refusal::new(Reason::BadRequest, "the request body names no `model`")
                    }),
                }
                .map(|service| (service, false))
            }
            Target::Unnamed { repeatable } => {
                let only = scope.only().cloned();
                only.map(|service| (service, repeatable)).ok_or_else(not_found)
            }
        };
        drop(scope);
        let (service, repeatable) = match found {
            Ok(found) => found,
            Err(refusal) => return self.own(Err(refusal), shape, None),
        };
        let RestHead { method, target: path, mut headers, started } = head;
        self.prepare_headers(&mut headers, peer);
        let deadline = started + self.settings.response_timeout;
        let asked = Asked { method, path, headers, repeatable, started, deadline };
        let mut call = match self.let_in(&service, asked, peer) {
            Ok(call) => call,
            Err(refusal) => return self.own(Err(refusal), shape, Some(&service)),
        };
        match self.forward(&mut call, body).await {
            Ok(answer) => {
                call.answered(&answer.rest.visit, Code::Http(answer.head.status));
                Reply::Forwarded(call, answer)
            }
            Err(Stop::ClientGone) => Reply::Gone,
            Err(Stop::Refused(refusal)) => self.own(Err(refusal), shape, Some(&service)),
        }
    }

    fn own(
        &self,
        answer: Result<Response<Vec<u8>>, Refusal>,
        shape: Shape,
        service: Option<&Arc<ServiceState>>,
    ) -> Reply {
        let response = answer.unwrap_or_else(|refusal| refusal.response(shape));
        service
            .map_or(&*self.own_codes, |service| &service.refused)
            .note(Code::Http(response.status()));
        Reply::Own(response)
    }

    fn live(&self, method: &Method) -> Result<Response<Vec<u8>>, Refusal> {
        only_get(method)?;
        Ok(json_response(StatusCode::OK, &serde_json::json!({ "live": true })))
    }

    /// Whether it is ready, and which of the services that the caller may see are not, and why.
    fn ready(&self, head: &RestHead) -> Result<Response<Vec<u8>>, Refusal> {
        only_get(&head.method)?;
        if self.is_ready() {
            return Ok(json_response(StatusCode::OK, &serde_json::json!({ "ready": true })));
        }
        let mut unready = serde_json::Map::new();
        let scope = self.scope(&head.headers, None);
        for service in self.visible(&scope, &head.headers) {
            let config = service.config.load();
            if let Some(reason) = config.why_not().filter(|_| !config.is_ready()) {
                unready.insert(service.name.to_string(), reason.into());
            }
        }
        let body = serde_json::json!({ "ready": false, "unready": unready });
        Ok(json_response(StatusCode::SERVICE_UNAVAILABLE, &body))
    }

    fn metrics(&self, method: &Method) -> Result<Response<Vec<u8>>, Refusal> {
        only_get(method)?;
        let mut text = String::new();
        let encoded = self.with_registry(|registry| {
            prometheus_client::encoding::text::encode(&mut text, registry)
        });
        // Writing to a String does not fail; a broken collector of the owner's may.
        encoded
            .map_err(|_| Refusal::new(Reason::Unimplemented, "the metrics cannot be written"))?;
        let mut response = Response::new(text.into_bytes());
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(response)
    }
}

/// The service of a model, or the refusal that clients of the path's protocol know.
fn find(scope: &Scope, name: &str, path: &str) -> Result<Arc<ServiceState>, Refusal> {
    scope.find(name).map_err(|why| match why {
        NotFound::Unknown => unknown_model(name, path),
        NotFound::Ambiguous(cure) => Refusal::new(Reason::NotFound, cure),
    })
}

fn unknown_model(name: &str, path: &str) -> Refusal {
    let message = match Shape::of(path) {
        Shape::OpenAi => format!("The model '{name}' does not exist"),
        Shape::Rest if path.starts_with("/v2") => {
            format!("Request for unknown model: '{name}' is not found")
        }
        Shape::Rest => format!("Servable not found for request: Latest({name})"),
    };
    Refusal::new(Reason::NotFound, message)
}

pub(crate) fn models_are_managed() -> Refusal {
    let message = "models behind the gateway come and go with their manifests: change the \
                   manifest, or load and unload at a model server directly";
    Refusal::new(Reason::ModelsAreManaged, message)
}

pub(crate) fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<Vec<u8>> {
    let mut response = Response::new(body.to_string().into_bytes());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn not_found() -> Refusal {
    Refusal::new(Reason::NotFound, "Not Found")
}

fn only_get(method: &Method) -> Result<(), Refusal> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(Refusal::new(Reason::MethodNotAllowed, "Method Not Allowed"))
}

/// A path may have been stripped down to its query.
fn with_slash(path: &str) -> std::borrow::Cow<'_, str> {
    if path.starts_with('?') { format!("/{path}").into() } else { path.into() }
}
