//! What all services answer together: server metadata, the repository's index, statistics, lists.
//!
//! One replica of each service is asked, none is started for it. A service without a replica
//! stands in the lists with what the table knows.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::{Asked, Peer};
use crate::gateway::Gateway;
use crate::http1::Timer;
use crate::mirror::Canned;
use crate::refusal::{Reason, Refusal};
use crate::rest::{RestHead, json_response};
use crate::route::Union;
use crate::scope::Scope;
use crate::state::ServiceState;

/// A replica that does not answer within this is left out: one bad service must not hide others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// An index or statistics longer than this is left out.
pub(crate) const MAX_ANSWER: usize = 16 << 20;

impl Gateway {
    /// Services that the caller may see.
    pub(crate) fn visible(&self, scope: &Scope, headers: &HeaderMap) -> Vec<Arc<ServiceState>> {
        let mut services = scope.services();
        services.retain(|service| {
            let access = &service.config.load().access;
            access.api_keys.is_empty() || crate::keys::owner(access, headers).is_some()
        });
        services
    }

    pub(crate) async fn rest_union(
        self: &Arc<Self>,
        union: Union,
        scope: &Scope,
        head: &RestHead,
        peer: &Peer,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        let expected = if union == Union::Index { Method::POST } else { Method::GET };
        let is_head = head.method == Method::HEAD && expected == Method::GET;
        if head.method != expected && !is_head {
            return Err(Refusal::new(Reason::MethodNotAllowed, "Method Not Allowed"));
        }
        let services = self.visible(scope, &head.headers);
        let body = match union {
            Union::V1Models => v1_models(&services),
            Union::V2Models => json!({ "models": names(&services) }),
            Union::Metadata => {
                let answers = self.ask_all(&services, head, peer).await;
                metadata(answers.iter().filter_map(|(_, answer)| answer.as_ref()))
            }
            Union::Index => index(self.ask_all(&services, head, peer).await),
            Union::Statistics => {
                let answers = self.ask_all(&services, head, peer).await;
                let lists = answers.into_iter().filter_map(|(_, answer)| {
                    match answer?.get_mut("model_stats")? {
                        Value::Array(list) => Some(std::mem::take(list)),
                        _ => None,
                    }
                });
                json!({ "model_stats": lists.flatten().collect::<Vec<_>>() })
            }
        };
        Ok(json_response(StatusCode::OK, &body))
    }

    /// The JSON that one replica of each service answers, all asked at once.
    async fn ask_all(
        self: &Arc<Self>,
        services: &[Arc<ServiceState>],
        head: &RestHead,
        peer: &Peer,
    ) -> Vec<(Arc<ServiceState>, Option<Value>)> {
        let asked = services.iter().map(|service| async move {
            let answer = self.ask(service, head, peer).await;
            (service.clone(), answer.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
        });
        futures_util::future::join_all(asked).await
    }

    async fn ask(
        self: &Arc<Self>,
        service: &Arc<ServiceState>,
        head: &RestHead,
        peer: &Peer,
    ) -> Option<Vec<u8>> {
        service.config.load().endpoints().next()?;
        let mut headers = head.headers.clone();
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, CONTENT_ENCODING, ACCEPT_ENCODING] {
            headers.remove(name);
        }
        self.prepare_headers(&mut headers, peer);
        let deadline = Instant::now() + PATIENCE;
        let method = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        let asked = Asked {
            method,
            path: head.target.clone(),
            headers,
            repeatable: true,
            started: head.started,
            deadline,
        };
        let mut call = self.let_in(service, asked, peer).ok()?;
        let mut body = Body::new(Canned::new(Vec::new(), deadline), self.keeps());
        let mut answer = self.forward(&mut call, &mut body).await.ok()?;
        let mut timer = Timer::new(deadline);
        let mut bytes = Vec::new();
        let whole = poll_fn(|cx| {
            loop {
                match answer.rest.poll_data(cx) {
                    Poll::Ready(Ok(Some(length))) => {
                        bytes.extend_from_slice(&answer.rest.bytes().split_to(length));
                        if bytes.len() > MAX_ANSWER {
                            return Poll::Ready(false);
                        }
                    }
                    Poll::Ready(end) => return Poll::Ready(end.is_ok()),
                    Poll::Pending => return timer.poll_due(cx, deadline).map(|()| false),
                }
            }
        });
        let whole = whole.await && answer.head.status.is_success();
        answer.rest.finish(self);
        whole.then_some(bytes)
    }
}

fn names(services: &[Arc<ServiceState>]) -> BTreeSet<String> {
    services.iter().flat_map(|service| service.config.load().models.clone()).collect()
}

/// One object that serves the clients of both protocols that have this path: each reads only its
/// own members.
fn v1_models(services: &[Arc<ServiceState>]) -> Value {
    let names = names(services);
    let data = names.iter().map(
        |name| json!({ "id": name, "object": "model", "created": 0, "owned_by": "trainyard" }),
    );
    json!({ "object": "list", "data": data.collect::<Vec<_>>(), "models": names })
}

/// Extensions that a replica has and that the gateway lets through.
fn metadata<'a>(answers: impl Iterator<Item = &'a Value>) -> Value {
    let extensions: BTreeSet<&str> = answers
        .filter_map(|answer| answer.get("extensions")?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    json!({
        "name": "trainyard",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": extensions.into_iter().filter(|name| passes(name)).collect::<Vec<_>>(),
    })
}

/// Shared memory is registered at one process, and models are not loaded through the gateway.
pub(crate) fn passes(extension: &str) -> bool {
    !extension.contains("shared_memory") && !extension.starts_with("model_repository")
}

fn index(answers: Vec<(Arc<ServiceState>, Option<Value>)>) -> Value {
    let mut entries = Vec::new();
    for (service, answer) in answers {
        match answer {
            Some(Value::Array(list)) => entries.extend(list),
            _ => {
                let config = service.config.load();
                let reason = config.why_not().unwrap_or(NO_REPLICA);
                entries.extend(
                    config.models.iter().map(
                        |name| json!({ "name": name, "state": "UNAVAILABLE", "reason": reason }),
                    ),
                )
            }
        }
    }
    Value::Array(entries)
}

pub(crate) const NO_REPLICA: &str = "no replica of the service answers";

/// Bytes of one field of a protobuf message whose payload has a length (wire type 2).
pub(crate) fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = payload.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(payload);
    bytes
}

/// `RepositoryIndexResponse` for models whose service has no replica.
pub(crate) fn index_message(service: &ServiceState) -> Vec<u8> {
    let config = service.config.load();
    let reason = config.why_not().unwrap_or(NO_REPLICA);
    let entries = config.models.iter().map(|name| {
        let entry =
            [field(1, name.as_bytes()), field(3, b"UNAVAILABLE"), field(4, reason.as_bytes())];
        field(1, &entry.concat())
    });
    entries.flatten().collect()
}

/// A message with its gRPC frame.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    // Messages made here are at most a few times MAX_ANSWER.
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}

/// The message in a gRPC body that holds one, if it is whole and not compressed.
pub(crate) fn unframed(body: &[u8]) -> Option<&[u8]> {
    let (header, message) = body.split_first_chunk::<5>()?;
    let [compressed, length @ ..] = *header;
    let whole = u32::from_be_bytes(length) as usize == message.len();
    (compressed == 0 && whole).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peek::{Peek, message};

    #[test]
    fn fields_are_protobuf() {
        assert_eq!(field(1, b"ab"), b"\x0a\x02ab");
        let long = field(3, &[b'x'; 300]);
        assert_eq!(long.get(..3), Some(&[0x1a, 0xac, 0x02][..]));
        let body = framed(&field(1, b"name"));
        assert_eq!(message::model_name(&body, None, &[1], 100), Peek::Found("name".to_owned()));
        assert_eq!(unframed(&body), Some(&b"\x0a\x04name"[..]));
        assert_eq!(unframed(&body[..8]), None);
    }

    #[test]
    fn extensions_that_end_at_one_process_are_left_out() {
        let answers = [
            json!({ "extensions": ["binary_tensor_data", "system_shared_memory"] }),
            json!({ "extensions": ["statistics", "model_repository", 7] }),
            json!([]),
        ];
        let merged = metadata(answers.iter());
        assert_eq!(merged["extensions"], json!(["binary_tensor_data", "statistics"]));
    }
}
