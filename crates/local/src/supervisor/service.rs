//! What a supervisor holds of one service.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;
use trainyard_api::ModelService;
use trainyard_api::scalar::ModelUri;
use trainyard_control::autoscale::{self, Autoscaler, Windows};
use trainyard_control::rollout::{self, Decision};
use trainyard_gateway::Gateway;
use trainyard_gateway::table::{self, ApiKey};
use trainyard_plan::{Plan, RevisionName, Rollout, Scaling, Workload};

use super::evidence::Observations;
use super::fetching::Fetching;
use crate::fleet::{self, Endpoints, Phase};
use crate::history::{Override, ReplicaRecord, RevisionRecord, ServiceRecord, unix_ms};
use crate::replica::Run;
use crate::status::{
    AutoscalerStatus, Example, Recent, ReplicaStatus, RevisionStatus, ServiceStatus,
};
use crate::target::{Declared, Origin};

/// A service that was asked for; what runs of it is in `running`.
pub(super) struct Service {
    pub(super) name: String,
    /// As it was last declared.
    pub(super) declared: Declared,
    /// The latest attempt to prepare it: only what came of that is installed.
    pub(super) generation: u64,
    /// A declaration is being prepared.
    pub(super) preparing: bool,
    pub(super) fetching: Fetching,
    /// Who may call it once it runs; none if that cannot be told.
    pub(super) keys: Option<Vec<ApiKey>>,
    pub(super) running: Option<Running>,
    pub(super) last_error: Option<String>,
    /// What happened lately, oldest first.
    pub(super) events: VecDeque<Recent>,
    /// It was taken down, and goes once its replicas have.
    pub(super) leaving: bool,
    /// As it was last saved.
    pub(super) saved: Option<ServiceRecord>,
}

/// A service that has a plan.
pub(super) struct Running {
    pub(super) target: RevisionName,
    /// The target's, whose policies hold for all revisions.
    pub(super) plan: Plan,
    /// What the plan was compiled from.
    pub(super) manifest: ModelService,
    /// The manifest file's fingerprint when that was read.
    pub(super) stamp: Option<String>,
    pub(super) revisions: BTreeMap<RevisionName, Revision>,
    pub(super) state: rollout::State,
    pub(super) decision: Option<Decision>,
    /// Go to the target without steps and evidence, since a person said so.
    pub(super) straight: bool,
    pub(super) scaler: Autoscaler,
    pub(super) wanted: u32,
    pub(super) scale: Option<Override>,
    pub(super) replicas: BTreeMap<Arc<str>, Held>,
    pub(super) observations: Observations,
    pub(super) keys: Vec<ApiKey>,
    /// Of the target.
    pub(super) example: Option<Example>,
    pub(super) example_asked: bool,
    /// It was made, or cannot be.
    pub(super) example_known: bool,
    /// How a replica of a revision last ended by itself.
    pub(super) last_ending: Option<(RevisionName, String)>,
    /// What the autoscaler decided last.
    pub(super) scaled: Option<autoscale::Decision>,
}

/// A revision that has replicas or is the target.
#[derive(Clone)]
pub(super) struct Revision {
    pub(super) workload: Arc<Workload>,
    pub(super) folder: Arc<Path>,
}

/// A slot and what its task has told.
pub(super) struct Held {
    pub(super) replica: fleet::Replica,
    pub(super) run: Option<Run>,
    /// Processes that it had.
    pub(super) starts: u32,
    pub(super) since: SystemTime,
    pub(super) message: Option<String>,
    pub(super) stop: CancellationToken,
}

impl Held {
    pub(super) fn enter(&mut self, phase: Phase, message: Option<String>) {
        if self.replica.phase != phase {
            self.since = SystemTime::now();
        }
        self.replica.phase = phase;
        self.message = message;
    }

    /// [`Held::enter`], unless it was told to end: that is final.
    pub(super) fn enter_if_staying(&mut self, phase: Phase, message: Option<String>) {
        if self.replica.phase != Phase::Draining {
            self.enter(phase, message);
        }
    }

    fn endpoint(&self) -> Option<(Arc<str>, SocketAddr)> {
        let run = self.run.as_ref()?;
        Some((run.endpoint(&self.replica.id), run.address?))
    }
}

impl Running {
    pub(super) fn new(plan: Plan, declared: &Declared, state: rollout::State) -> Self {
        Self {
            target: plan.revision.clone(),
            // A service that may go to zero starts once, so that its first request does not meet a
            // model that cannot load.
            wanted: plan.scaling.min.max(1),
            plan,
            manifest: declared.manifest.clone(),
            stamp: declared.stamp.clone(),
            revisions: BTreeMap::new(),
            state,
            decision: None,
            straight: false,
            scaler: Autoscaler::new(Windows::default()),
            scale: None,
            replicas: BTreeMap::new(),
            observations: Observations::default(),
            keys: Vec::new(),
            example: None,
            example_asked: false,
            example_known: false,
            last_ending: None,
            scaled: None,
        }
    }

    /// The plan's scaling with a person's limits.
    pub(super) fn scaling(&self) -> Scaling {
        let mut scaling = self.plan.scaling.clone();
        if let Some(Override { min, max }) = self.scale {
            (scaling.min, scaling.max) = (min, max);
        }
        scaling
    }

    /// How the target takes over.
    pub(super) fn rollout(&self) -> Rollout {
        if self.straight { Rollout::straight() } else { self.plan.rollout.clone() }
    }

    pub(super) fn replicas(&self) -> impl Iterator<Item = &fleet::Replica> {
        self.replicas.values().map(|held| &held.replica)
    }

    /// Ready endpoints by revision, and every revision that has replicas.
    pub(super) fn endpoints(&self) -> Endpoints {
        let mut endpoints = Endpoints::new();
        for held in self.replicas.values() {
            let of_revision = endpoints.entry(held.replica.revision.clone()).or_default();
            if held.replica.phase == Phase::Ready {
                of_revision.extend(held.endpoint());
            }
        }
        endpoints
    }

    /// What the gateway has of it; none before the first decision.
    pub(super) fn routes(&self) -> Option<table::Service> {
        let decision = self.decision.as_ref()?;
        let mut routes = fleet::routes(&self.plan, &self.keys, decision, self.endpoints());
        routes.scales_to_zero = self.scaling().min == 0;
        Some(routes)
    }

    /// Reads how well its revisions answer.
    pub(super) fn observe(&mut self, gateway: &Gateway, service: &str) {
        let revisions = self.replicas.values().map(|held| &held.replica.revision);
        let revisions: BTreeSet<RevisionName> = revisions.cloned().collect();
        self.observations.read(gateway, service, &revisions);
    }

    pub(super) fn ready(&self) -> u32 {
        let ready = self.replicas().filter(|replica| replica.phase == Phase::Ready).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// Why the target does not serve, if it was given up or does not get ready.
    fn failure(&self) -> Option<String> {
        let decision = self.decision.as_ref()?;
        if !matches!(decision.phase, rollout::Phase::Aborted | rollout::Phase::Stalled) {
            return None;
        }
        let (target, reason) = (&self.target, decision.reason.as_str());
        let ending = self.last_ending.as_ref().filter(|(revision, _)| revision == target);
        let because = ending.map(|(_, message)| format!(": {message}")).unwrap_or_default();
        Some(match self.state.stable().filter(|stable| *stable != target) {
            Some(stable) => {
                format!("`{target}` was given up ({reason}), `{stable}` serves{because}")
            }
            None => format!("`{target}` does not become ready ({reason}){because}"),
        })
    }

    fn autoscaler_status(&self, decision: autoscale::Decision) -> AutoscalerStatus {
        let seen = self.scaler.observed();
        AutoscalerStatus {
            desired: decision.wanted,
            stable_concurrency: rounded(seen.stable_concurrency),
            panic_concurrency: rounded(seen.panic_concurrency),
            panicking: seen.panicking,
            reason: decision.reason.as_str().to_owned(),
        }
    }

    fn status(&self, service: &Service) -> ServiceStatus {
        let scaling = self.scaling();
        let (phase, reason) = match &self.decision {
            Some(decision) => (decision.phase.as_str(), decision.reason.as_str()),
            None => ("Progressing", "Starting"),
        };
        let mut revisions: BTreeMap<&RevisionName, RevisionStatus> = BTreeMap::new();
        for replica in self.replicas() {
            let weight = self.decision.as_ref().and_then(|d| d.revisions.get(&replica.revision));
            let status = revisions.entry(&replica.revision).or_insert_with(|| RevisionStatus {
                name: replica.revision.to_string(),
                weight: weight.map_or(0, |allotment| allotment.weight),
                replicas: 0,
                ready: 0,
            });
            status.replicas = status.replicas.saturating_add(1);
            status.ready = status.ready.saturating_add(u32::from(replica.phase == Phase::Ready));
        }
        ServiceStatus {
            name: service.name.clone(),
            phase: phase.to_owned(),
            reason: reason.to_owned(),
            preparing: service.preparing,
            fetch: service.fetching.status(service.preparing),
            target: self.target.to_string(),
            wanted: self.wanted,
            min: scaling.min,
            max: scaling.max,
            ready: self.ready(),
            autoscaler: self.scaled.map(|decision| self.autoscaler_status(decision)),
            revisions: revisions.into_values().collect(),
            replicas: self.replicas.values().map(replica_status).collect(),
            events: service.events.iter().cloned().collect(),
            last_error: service.last_error.clone().or_else(|| self.failure()),
            notes: self.plan.notes.clone(),
            models: self.plan.service.models.clone(),
            source: service.declared.origin.path().to_owned(),
            needs_key: self.plan.access.api_keys_secret.is_some(),
            example: self.example.clone(),
            example_known: self.example_known,
        }
    }
}

/// A mean with as many digits as people look at; more would make every status another one.
fn rounded(mean: f64) -> f64 {
    (mean * 1000.0).round() / 1000.0
}

fn replica_status(held: &Held) -> ReplicaStatus {
    ReplicaStatus {
        id: held.replica.id.to_string(),
        revision: held.replica.revision.to_string(),
        phase: held.replica.phase,
        pid: held.run.as_ref().map(|run| run.identity.pid),
        address: held.run.as_ref().and_then(|run| run.address),
        restarts: held.starts.saturating_sub(1),
        since_ms: unix_ms(held.since),
        message: held.message.clone(),
    }
}

impl Service {
    pub(super) fn new(declared: Declared) -> Self {
        Self {
            name: declared.name().to_owned(),
            declared,
            generation: 0,
            preparing: false,
            fetching: Fetching::default(),
            keys: None,
            running: None,
            last_error: None,
            events: VecDeque::new(),
            leaving: false,
            saved: None,
        }
    }

    pub(super) fn status(&self) -> ServiceStatus {
        if let Some(running) = &self.running {
            return running.status(self);
        }
        // Nothing of it has run yet: its model is being fetched, or it cannot be prepared.
        let fetch = self.fetching.status(self.preparing);
        let (phase, reason) = match (self.preparing, &fetch) {
            (true, Some(_)) => ("Progressing", "Fetching"),
            (true, None) => ("Progressing", "Preparing"),
            (false, Some(_)) => ("Stalled", "FetchFailed"),
            (false, None) => ("Stalled", "NotPrepared"),
        };
        ServiceStatus {
            name: self.name.clone(),
            phase: phase.to_owned(),
            reason: reason.to_owned(),
            preparing: self.preparing,
            fetch,
            target: String::new(),
            wanted: 0,
            min: 0,
            max: 0,
            ready: 0,
            autoscaler: None,
            revisions: Vec::new(),
            replicas: Vec::new(),
            events: self.events.iter().cloned().collect(),
            last_error: self.last_error.clone(),
            notes: Vec::new(),
            models: vec![self.declared.manifest.model_name().to_owned()],
            source: self.declared.origin.path().to_owned(),
            needs_key: self.keys.as_ref().is_none_or(|keys| !keys.is_empty()),
            example: None,
            example_known: false,
        }
    }

    /// What the gateway has of it while nothing of it has run yet: requests are held while it is
    /// prepared, and refused once that has failed. None if it is not known who may call.
    pub(super) fn waiting_routes(&self) -> Option<table::Service> {
        let unavailable = self.last_error.as_ref().map(|problem| table::Unavailable {
            reason: match self.fetching.has_failed() {
                true => problem.clone(),
                // It may name places of this machine.
                false => format!("`{}` cannot be prepared; `trainyard status` says why", self.name),
            },
            until: self.fetching.retry.map(|retry| retry.at),
        });
        Some(table::Service {
            models: vec![self.declared.manifest.model_name().to_owned()],
            access: table::Access { api_keys: self.keys.clone()? },
            unavailable,
            ..table::Service::default()
        })
    }

    /// Remembers what happened to it.
    pub(super) fn remember(&mut self, recent: Recent) {
        /// A status is for a look; the history has the rest.
        const KEPT: usize = 20;
        while self.events.len() >= KEPT {
            self.events.pop_front();
        }
        self.events.push_back(recent);
    }

    /// Whether a change of that file concerns it.
    pub(super) fn is_watched_at(&self, path: &Path) -> bool {
        self.declared.origin.path() == path || self.model_file() == Some(path)
    }

    /// Its model's place, if that is on this machine.
    pub(super) fn model_file(&self) -> Option<&Path> {
        match &self.declared.manifest.spec.model.uri {
            ModelUri::File(path) => Some(path),
            _ => None,
        }
    }

    /// What is saved of it; none before it has a plan.
    pub(super) fn record(&self) -> Option<ServiceRecord> {
        let running = self.running.as_ref()?;
        Some(ServiceRecord {
            name: self.name.clone(),
            active: !self.leaving,
            origin: self.declared.origin.clone(),
            target: running.target.clone(),
            wanted: running.wanted,
            scale: running.scale,
            rollout: running.state.clone(),
            last_error: self.last_error.clone(),
            manifest: Some(running.manifest.clone()),
            stamp: running.stamp.clone(),
            straight: running.straight,
        })
    }

    pub(super) fn replica_record(&self, held: &Held) -> Option<ReplicaRecord> {
        Some(ReplicaRecord {
            id: held.replica.id.to_string(),
            service: self.name.clone(),
            revision: held.replica.revision.clone(),
            run: held.run.clone()?,
        })
    }
}

/// What a saved revision declares under the policies that hold now.
pub(super) fn declared(
    record: &RevisionRecord,
    policies: Option<&ModelService>,
    origin: &Origin,
    stamp: Option<String>,
) -> Declared {
    Declared {
        manifest: policies.map_or_else(|| record.manifest.clone(), |now| record.under(now)),
        origin: origin.clone(),
        folder: record.folder.clone(),
        stamp,
    }
}
