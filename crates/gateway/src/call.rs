//! A request that was let in: what it asks for, by when, and who is counted for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

use crate::choose;
use crate::gateway::Gateway;
use crate::keys;
use crate::refusal::{Reason, Refusal};
use crate::revision::Code;
use crate::state::{Caller, EndpointState, ServiceConfig, ServiceState};
use crate::visit::{Pick, Visit, pick};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Milliseconds that a request waited for a replica, on its answer.
pub(crate) const X_HELD: HeaderName = HeaderName::from_static("x-trainyard-held-ms");

/// Told to callers where nothing better is known.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// After a hold that led to nothing: a replica may still be loading its model.
const RETRY_LATER: Duration = Duration::from_secs(5);

/// One client connection, as requests on it see it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    /// The same as a header value.
    pub(crate) forwarded_for: HeaderValue,
}

impl Peer {
    pub(crate) fn new(ip: IpAddr) -> Self {
        // `::ffff:1.2.3.4` is how a dual-stack socket shows an IPv4 client.
        let ip = ip.to_canonical();
        let text = HeaderValue::from_str(&ip.to_string());
        Self { ip, forwarded_for: text.unwrap_or(HeaderValue::from_static("unknown")) }
    }
}

/// Counts a request in flight at a service, until dropped.
#[derive(Debug)]
struct Active(Arc<ServiceState>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.meter.leave(Instant::now());
    }
}

/// A request to one service.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) service: Arc<ServiceState>,
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// Doing it twice is the same as doing it once.
    pub(crate) repeatable: bool,
    /// When the head of the answer must be there.
    pub(crate) deadline: Instant,
    /// How long it waited for replicas, if it did.
    pub(crate) held: Option<Duration>,
    /// The replica that it was sent to last.
    pub(crate) replica: Option<SocketAddr>,
    sticky: Option<u32>,
    /// None for copies of requests.
    _active: Option<Active>,
}

/// What is needed to let a request in.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) repeatable: bool,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
}

impl Gateway {
    /// Lets a request to a service in, or says why not: keys, then the caller's rate.
    pub(crate) fn let_in(
        &self,
        service: &Arc<ServiceState>,
        mut asked: Asked,
        peer: &Peer,
    ) -> Result<Call, Refusal> {
        let config = service.config.load();
        self.authorize(service, &config, &mut asked, peer)?;
        let sticky = config.sticky_header.as_ref().and_then(|name| asked.headers.get(name));
        let sticky = sticky.map(|value| choose::sticky_position(value.as_bytes()));
        service.meter.enter(asked.started);
        service.budget.deposit();
        Ok(Call {
            service: service.clone(),
            method: asked.method,
            path: asked.path,
            headers: asked.headers,
            repeatable: asked.repeatable,
            deadline: asked.deadline,
            held: None,
            replica: None,
            sticky,
            _active: Some(Active(service.clone())),
        })
    }

    fn authorize(
        &self,
        service: &Arc<ServiceState>,
        config: &ServiceConfig,
        asked: &mut Asked,
        peer: &Peer,
    ) -> Result<(), Refusal> {
        let mut caller = None;
        if !config.access.api_keys.is_empty() {
            let Some(key) = keys::owner(&config.access, &asked.headers) else {
                let message =
                    "an API key of this service is needed: send `authorization: Bearer KEY`";
                return Err(Refusal::new(Reason::Unauthenticated, message));
            };
            caller = Some(Caller::Key(key.sha256));
            keys::strip(&mut asked.headers);
        }
        if let Some(rate) = &config.limits.rate {
            let caller = caller.unwrap_or_else(|| Caller::Address(self.client(asked, peer)));
            let mut callers = service.callers.lock().unwrap_or_else(PoisonError::into_inner);
            callers.admit(caller, rate, asked.started).map_err(|wait| {
                let message =
                    format!("at most {} requests per second are allowed", rate.per_second);
                Refusal::new(Reason::RateLimited, message).after(wait)
            })?;
        }
        Ok(())
    }

    /// Who sent the request: the last address that a trusted proxy wrote, else the peer.
    fn client(&self, asked: &Asked, peer: &Peer) -> IpAddr {
        let written = || {
            let value = asked.headers.get_all(&X_FORWARDED_FOR).iter().next_back()?;
            value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
        };
        let trusted = self.settings.trust_forwarded.then(written).flatten();
        trusted.unwrap_or(peer.ip)
    }

    /// Takes headers off that end here, and adds what a proxy adds.
    pub(crate) fn prepare_headers(&self, headers: &mut HeaderMap, peer: &Peer) {
        drop_nominated(headers);
        let before = if self.settings.trust_forwarded { joined(headers) } else { None };
        let forwarded_for = match before {
            Some(mut before) => {
                before.extend_from_slice(b", ");
                before.extend_from_slice(peer.forwarded_for.as_bytes());
                HeaderValue::from_bytes(&before).unwrap_or_else(|_| peer.forwarded_for.clone())
            }
            None => peer.forwarded_for.clone(),
        };
        headers.insert(X_FORWARDED_FOR, forwarded_for);
        if !self.settings.trust_forwarded || !headers.contains_key(&X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        }
        if !headers.contains_key(&X_REQUEST_ID) {
            headers.insert(X_REQUEST_ID, request_id());
        }
    }

    /// Waits for a replica to send the request to; at once if one has room.
    ///
    /// Replicas in `avoid` come last. Dropping the future leaves the queue.
    pub(crate) async fn acquire(
        &self,
        call: &mut Call,
        avoid: &[Arc<EndpointState>],
    ) -> Result<Visit, Refusal> {
        let service = call.service.clone();
        // Whoever comes while others wait stands behind them.
        if service.queue.len() == 0
            && let Pick::Visit(visit) = pick(&service, &service.config.load(), call.sticky, avoid)
        {
            call.replica = Some(visit.endpoint.address);
            return Ok(visit);
        }
        let config = service.config.load_full();
        let begun = Instant::now();
        unless_unavailable(&config, begun)?;
        let hold = config.limits.hold_timeout.unwrap_or(self.settings.hold_timeout);
        let until = call.deadline.min(begun + hold);
        let max = config.limits.max_held.unwrap_or(self.settings.max_held);
        drop(config);
        let Some(place) = service.queue.join(max) else {
            let message = "all replicas are busy and the queue is full";
            return Err(Refusal::new(Reason::Overloaded, message).after(RETRY_SOON));
        };
        service.counts.held.fetch_add(1, Ordering::Relaxed);
        if service.config.load().endpoints().next().is_none() {
            self.want(&service.name);
        }
        let timer = tokio::time::sleep_until(until.into());
        tokio::pin!(timer);
        loop {
            if place.is_head() {
                let config = service.config.load();
                if config.gone {
                    return Err(Refusal::new(Reason::NotFound, "the service has been removed"));
                }
                unless_unavailable(&config, Instant::now())?;
                match pick(&service, &config, call.sticky, avoid) {
                    Pick::Visit(visit) => {
                        call.held = Some(call.held.unwrap_or_default() + begun.elapsed());
                        call.replica = Some(visit.endpoint.address);
                        return Ok(visit);
                    }
                    Pick::Busy => {}
                    Pick::Empty => self.want(&service.name),
                }
            }
            tokio::select! {
                () = place.turn() => {}
                () = timer.as_mut() => {
                    return Err(if call.deadline <= until {
                        deadline_exceeded()
                    } else if service.config.load().endpoints().next().is_none() {
                        let message = "no replica of the service became ready in time";
                        Refusal::new(Reason::NoReplica, message).after(RETRY_LATER)
                    } else {
                        let message = "all replicas stayed busy";
                        Refusal::new(Reason::Overloaded, message).after(RETRY_SOON)
                    });
                }
            }
        }
    }
}

impl Call {
    /// The same request for a mirror, which is counted as no request of the service.
    pub(crate) fn copy(&self, deadline: Instant) -> Self {
        Self {
            service: self.service.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            headers: self.headers.clone(),
            repeatable: false,
            deadline,
            held: None,
            replica: None,
            sticky: None,
            _active: None,
        }
    }

    /// Counts the answer that goes to the client.
    pub(crate) fn answered(&self, visit: &Visit, code: Code) {
        visit.revision.codes.note(code);
    }

    /// Counts an answer of the gateway itself.
    pub(crate) fn refused(&self, code: Code) {
        self.service.refused.note(code);
    }
}

/// Refuses a request to a service that will have no replica for now.
fn unless_unavailable(config: &ServiceConfig, now: Instant) -> Result<(), Refusal> {
    let Some(unavailable) = &config.unavailable else { return Ok(()) };
    if config.endpoints().next().is_some() {
        return Ok(());
    }
    let after = unavailable.until.map(|until| until.saturating_duration_since(now));
    let refusal = Refusal::new(Reason::NoReplica, unavailable.reason.clone());
    Err(refusal.after(after.unwrap_or(RETRY_LATER)))
}

pub(crate) fn deadline_exceeded() -> Refusal {
    Refusal::new(Reason::DeadlineExceeded, "the deadline passed before the model answered")
}

/// Removes the headers that `Connection` names.
fn drop_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let tokens = value.as_bytes().split(|byte| *byte == b',');
        named.extend(tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok()));
    }
    for name in named {
        // Nobody may have the message's target or key taken off by this.
        if name != http::header::HOST && name != http::header::AUTHORIZATION {
            headers.remove(name);
        }
    }
}

fn joined(headers: &HeaderMap) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> =
        headers.get_all(&X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    (!values.is_empty()).then(|| values.join(&b", "[..]))
}

/// 128 random bits in hexadecimal, as W3C trace ids are.
pub(crate) fn request_id() -> HeaderValue {
    let mut text = [0; 32];
    let bits = u128::from(choose::random()) << 64 | u128::from(choose::random());
    for (index, digit) in text.iter_mut().enumerate() {
        let nibble = (bits >> (4 * index)) as usize & 0xf;
        *digit = b"0123456789abcdef".get(nibble).copied().unwrap_or_default();
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nominated_headers_end_here() {
        let mut headers = HeaderMap::new();
        headers.append("connection", "x-a, close".parse().unwrap());
        headers.append("connection", "X-B, host, authorization,,".parse().unwrap());
        for name in ["x-a", "x-b", "x-c", "host", "authorization"] {
            headers.insert(name, "1".parse().unwrap());
        }
        drop_nominated(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        left.dedup();
        assert_eq!(left, ["authorization", "connection", "host", "x-c"]);
    }

    #[test]
    fn request_ids_are_hexadecimal_and_differ() {
        let (a, b) = (request_id(), request_id());
        assert_ne!(a, b);
        assert!(a.len() == 32 && a.as_bytes().iter().all(u8::is_ascii_hexdigit));
    }
}
