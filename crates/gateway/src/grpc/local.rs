//! Calls that concern no single model, answered by the gateway for all services.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::upload::Upload;
use crate::call::{Asked, Peer};
use crate::front::FrontBody;
use crate::gateway::Gateway;
use crate::peek::{Peek, message as message_peek};
use crate::refusal::{Reason, Refusal};
use crate::rest::models_are_managed;
use crate::revision::Code;
use crate::route::{Target, Union};
use crate::scope::Scope;
use crate::union::{PATIENCE, field, framed, index_message, passes, unframed};

/// The services that `grpc.health.v1` can be asked for; the empty name is the server as a whole.
const HEALTH_SERVICES: [&str; 5] = [
    "",
    "inference.GRPCInferenceService",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "grpc.health.v1.Health",
];

impl Gateway {
    pub(super) async fn grpc_local(
        self: &Arc<Self>,
        target: Target<'_>,
        scope: &Scope,
        upload: &Upload,
        asked: &Asked,
        peer: &Peer,
    ) -> Response<FrontBody> {
        match target {
            Target::Live => self.message(&[0x08, 1]),
            Target::Ready if asked.path.path().starts_with("/grpc.health.") => {
                self.health(upload).await
            }
            // `bool` false is the default, which is not written.
            Target::Ready => self.message(if self.is_ready() { &[0x08, 1] } else { &[] }),
            Target::Union(union) => self.grpc_union(union, scope, asked, peer).await,
            Target::ModelControl => self.refused_call(&models_are_managed(), None),
            _ => {
                let refusal = Refusal::new(Reason::Unimplemented, "there is no such method");
                self.refused_call(&refusal, None)
            }
        }
    }

    async fn health(&self, upload: &Upload) -> Response<FrontBody> {
        let look = |seen: &[u8]| match message_peek::model_name(seen, None, &[1], 4_096) {
            Peek::NeedMore => None,
            peek => Some(peek),
        };
        let name = match upload.read_ahead(4_096, look).await {
            Ok(Some(Peek::Found(name))) => name,
            Ok(Some(Peek::Missing)) => String::new(),
            _ => {
                let refusal = Refusal::new(Reason::BadRequest, "the message cannot be read");
                return self.refused_call(&refusal, None);
            }
        };
        if !HEALTH_SERVICES.contains(&name.as_str()) {
            let message = format!("there is no service '{name}'");
            return self.refused_call(&Refusal::new(Reason::NotFound, message), None);
        }
        // SERVING and NOT_SERVING.
        self.message(if self.is_ready() { &[0x08, 1] } else { &[0x08, 2] })
    }

    pub(super) async fn grpc_union(
        self: &Arc<Self>,
        union: Union,
        scope: &Scope,
        asked: &Asked,
        peer: &Peer,
    ) -> Response<FrontBody> {
        let services = self.visible(scope, &asked.headers);
        let answers = services.iter().map(|service| async move {
            let mut headers = asked.headers.clone();
            headers.remove("grpc-encoding");
            headers.remove("grpc-accept-encoding");
            self.prepare_headers(&mut headers, peer);
            let asked = Asked {
                method: asked.method.clone(),
                path: asked.path.clone(),
                headers,
                repeatable: true,
                started: asked.started,
                deadline: asked.deadline.min(Instant::now() + PATIENCE),
            };
            // Each of these requests may be empty: all models, all states.
            self.ask_call(service, asked, framed(&[]), peer).await
        });
        let answers = futures_util::future::join_all(answers).await;
        let mut merged = Vec::new();
        match union {
            Union::Metadata => {
                merged.extend(field(1, b"trainyard"));
                merged.extend(field(2, env!("CARGO_PKG_VERSION").as_bytes()));
                let extensions: std::collections::BTreeSet<Vec<u8>> =
                    answers.iter().flatten().flat_map(|answer| strings(answer, 3)).collect();
                for extension in extensions {
                    if std::str::from_utf8(&extension).is_ok_and(passes) {
                        merged.extend(field(3, &extension));
                    }
                }
            }
            // The fields are lists, and messages that follow each other are lists that are joined.
            _ => {
                for (service, answer) in services.iter().zip(answers) {
                    match answer {
                        Some(answer) => merged.extend(answer),
                        None if union == Union::Index => merged.extend(index_message(service)),
                        None => {}
                    }
                }
            }
        }
        self.message(&merged)
    }

    fn message(&self, message: &[u8]) -> Response<FrontBody> {
        self.own_codes.note(Code::Grpc(0));
        let mut response = Response::new(FrontBody::message(framed(message)));
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

/// The message in the body of a unary answer.
pub(super) fn message(body: &Bytes) -> Option<Vec<u8>> {
    unframed(body).map(<[u8]>::to_vec)
}

/// The values of a repeated string in a message that holds only fields with a length.
fn strings(message: &[u8], number: u8) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = message;
    while let Some((tag, after)) = rest.split_first() {
        let mut length = 0usize;
        let mut after = after;
        for shift in (0..28).step_by(7) {
            let Some((byte, next)) = after.split_first() else { return found };
            after = next;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let Some((value, next)) = after.split_at_checked(length) else { return found };
        if *tag == number << 3 | 2 {
            found.push(value.to_vec());
        } else if tag & 7 != 2 {
            return found;
        }
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_of_a_message() {
        let message = [field(1, b"name"), field(3, b"a"), field(2, b"1"), field(3, &[b'b'; 200])];
        assert_eq!(strings(&message.concat(), 3), [b"a".to_vec(), vec![b'b'; 200]]);
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            strings(&bytes, 3);
        }
    }
}
