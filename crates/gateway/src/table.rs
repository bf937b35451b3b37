//! What the gateway routes by. Replaced as a whole: a request sees one table from start to end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// All services, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    pub services: BTreeMap<Arc<str>, Service>,
}

/// One service and how requests to it are treated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// Model names that route here, as they stand in request paths and messages.
    ///
    /// Where several services have one name, requests must say which by their host.
    pub models: Vec<String>,
    /// Hosts whose requests see this service only, in lower case and without a port. A host also
    /// stands for names that go on after it: `iris.team` is `iris.team.svc.cluster.local` too.
    pub hosts: Vec<String>,
    pub revisions: Vec<Revision>,
    pub limits: Limits,
    pub access: Access,
    /// A copy of this share of requests goes to the revision, and its answer is dropped.
    pub mirror: Option<Mirror>,
    /// Requests with equal values of this header go to the same revision while weights stay.
    pub sticky_header: Option<String>,
    /// Having no endpoint is a normal state, so it does not make the gateway unready.
    pub scales_to_zero: bool,
    /// No endpoint will come for now, so that requests are refused with the reason, not held. Means
    /// nothing while there is an endpoint.
    pub unavailable: Option<Unavailable>,
}

/// Why a service that is known cannot answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// For callers; it may be shown to whoever may call the service.
    pub reason: String,
    /// When that may have changed, if that is known.
    pub until: Option<Instant>,
}

/// One revision; its share of requests is its weight over the sum of weights.
///
/// While it has no endpoint, or none with room, its requests go to the other revisions that have a
/// weight. With weight 0 it gets no requests but mirrored ones, unless all weights are 0: then all
/// are equal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Revision {
    pub name: String,
    pub weight: u32,
    /// Ready endpoints only. Empty everywhere means the service is at zero: requests are held.
    pub endpoints: Vec<Endpoint>,
}

/// One ready replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Unique for the life of the replica; a restarted replica is another endpoint.
    pub id: Arc<str>,
    pub address: SocketAddr,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Requests in flight per endpoint; beyond it they wait, then get 503.
    pub concurrency_per_endpoint: Option<u32>,
    /// Requests that may wait for an endpoint (also while the service is at zero).
    pub max_held: Option<usize>,
    /// How long a request is held before 503.
    pub hold_timeout: Option<Duration>,
    /// Sustained requests per second per caller (API key, else client address), and burst.
    pub rate: Option<Rate>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    pub burst: u32,
}

/// Who may call. Keys are SHA-256 digests; an empty list lets everybody in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    pub api_keys: Vec<ApiKey>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({} keys)", self.api_keys.len())
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Who it belongs to, for metrics and logs.
    pub name: String,
    pub sha256: [u8; 32],
}

/// Without the digest, which a guess could be tried against.
impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({})", self.name)
    }
}

impl ApiKey {
    /// Keeps a key's digest. Editors and `echo` end a file with white space that is no part of it.
    pub fn of(name: String, key: &[u8]) -> Self {
        Self { name, sha256: Sha256::digest(key.trim_ascii_end()).into() }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    pub revision: String,
    /// 0.0 to 1.0.
    pub share: f64,
}
