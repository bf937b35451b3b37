//! What is decided again and again while a service runs: how many replicas, how a new revision
//! takes over, who may call, where replicas may run.
//!
//! None of it is part of the revision: changing it restarts nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use trainyard_api::model_service::{Spot, Spread, Toleration, Topology};
use trainyard_api::scalar::Percent;

/// How many replicas there are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaling {
    /// Never fewer; 0 lets the service go to zero.
    pub min: u32,
    /// Never more; at least `min`, and at least 1 unless the service is stopped (`replicas: 0`).
    pub max: u32,
    /// Requests in flight that one replica should have.
    pub concurrency: Option<f64>,
    /// Most requests in flight at one replica; the gateway holds back those beyond.
    pub max_concurrency: Option<u32>,
    /// Requests per second that one replica should answer.
    pub rps: Option<f64>,
    /// Share of the requested CPU that replicas should use. Kubernetes only.
    pub cpu: Option<Percent>,
    /// Share of the requested memory that replicas should use. Kubernetes only.
    pub memory: Option<Percent>,
    /// Share of the GPU that replicas should use. Kubernetes only.
    pub gpu: Option<Percent>,
    /// How long a service has no request before its last replica stops. Only with `min` 0.
    pub scale_to_zero_after: Duration,
}

/// How a new revision takes over from the one before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rollout {
    pub strategy: Strategy,
    /// Evidence on which the new revision is given up.
    pub abort: Abort,
    /// A copy of this share of the requests goes to the new revision before it gets any of its own.
    pub mirror: Option<Percent>,
    /// Requests with equal values of this header go to the same revision while the shares stay.
    pub sticky_header: Option<String>,
    /// A new revision that makes no progress for so long is given up.
    pub progress_deadline: Duration,
}

impl Rollout {
    /// A Deployment's `progressDeadlineSeconds`.
    pub const PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

    /// The rollout of a rollback, or of a person who is in a hurry: replica by replica, with no
    /// steps, pauses or evidence.
    pub fn straight() -> Self {
        Self {
            strategy: Strategy::ROLLING,
            abort: Abort::default(),
            mirror: None,
            sticky_header: None,
            progress_deadline: Self::PROGRESS_DEADLINE,
        }
    }
}

/// The order of steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// Replica by replica: a new one is ready before an old one drains.
    Rolling {
        /// Replicas above the wanted number, while it lasts; at least 1 if `max_unavailable` is 0.
        max_surge: u32,
        /// Ready replicas that may be missing of the wanted number, while it lasts.
        max_unavailable: u32,
    },
    /// The new revision gets a growing share of the requests.
    Canary {
        /// Percent of the requests at each step, strictly growing, below 100.
        steps: Vec<u8>,
        /// How long each step lasts at least.
        pause: Duration,
    },
    /// The new revision comes up whole beside the old one, then takes all requests at once.
    BlueGreen {
        /// How long the old revision stays, ready to take over again, after the switch.
        pause: Duration,
    },
}

impl Strategy {
    /// One more while it lasts, and none missing: on one machine a second replica at once would
    /// take memory that nobody planned for.
    pub const ROLLING: Self = Self::Rolling { max_surge: 1, max_unavailable: 0 };
}

/// When a new revision is given up, beside never becoming ready.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Abort {
    /// Its share of failed requests is above this, and above that of the old revision.
    pub error_rate: Option<Percent>,
    /// Its 99th percentile of latency is above this.
    pub p99: Option<Duration>,
}

/// Who may call the service, and how much.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Access {
    /// A secret whose entries are callers (key) and their API keys (value). None: everybody.
    pub api_keys_secret: Option<String>,
    /// Workspaces whose pods may connect. Kubernetes only; none: all of them.
    pub from_workspaces: Vec<String>,
    /// How much one caller may ask.
    pub rate_limit: Option<RateLimit>,
}

/// Requests of one caller over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// Sustained.
    pub per_second: u32,
    /// At once after a quiet time.
    pub burst: u32,
}

/// Where replicas may run. Kubernetes only.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Placement {
    pub spot: Spot,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    pub spread: Spread,
    pub topology: Topology,
}
