//! One attempt at one replica: who was chosen, and what its end means.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::choose::{GOLDEN_STEP, random, revision_at, two_of};
use crate::eject::{Health, Outcome};
use crate::revision::RevisionState;
use crate::state::{EndpointState, Entry, RevisionConfig, ServiceConfig, ServiceState};

/// A request on its way through a replica. Dropped without an [`Ending`], the client went away.
#[derive(Debug)]
pub(crate) struct Visit {
    service: Arc<ServiceState>,
    pub(crate) revision: Arc<RevisionState>,
    entry: Option<Entry>,
    pub(crate) endpoint: Arc<EndpointState>,
    pub(crate) started: Instant,
    latency: Option<Duration>,
    ending: Ending,
    /// A copy that nobody waits for: its failures are evidence, but take no replica out, or the
    /// evidence would end with them.
    mirrored: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Answered,
    /// The replica failed: no connection, no or a broken answer, a status that says so.
    Failed,
    /// The replica said that it is full, and when to come back.
    Refused,
    /// No answer came by the deadline. That counts against the revision; but the deadline may be
    /// the client's, so it takes no replica out.
    Late,
    /// Nothing can be said: the client went away, or a kept connection had been closed meanwhile.
    Unknown,
}

impl Visit {
    fn new(
        service: &Arc<ServiceState>,
        revision: &RevisionConfig,
        entry: Entry,
        now: Instant,
    ) -> Self {
        revision.state.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            service: service.clone(),
            revision: revision.state.clone(),
            endpoint: entry.endpoint.clone(),
            entry: Some(entry),
            started: now,
            latency: None,
            ending: Ending::Unknown,
            mirrored: false,
        }
    }

    /// Notes that the head of the answer has come.
    pub(crate) fn head_came(&mut self, now: Instant) {
        self.latency = Some(now.saturating_duration_since(self.started));
    }

    pub(crate) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }

    /// Says how the attempt will have ended if nothing else is noted.
    pub(crate) fn expect(&mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.revision.in_flight.fetch_sub(1, Ordering::Relaxed);
        let (outcome, failed) = match self.ending {
            Ending::Answered => (Outcome::Success, Some(false)),
            Ending::Failed => (Outcome::Failure, Some(true)),
            Ending::Refused | Ending::Late => (Outcome::Neutral, Some(true)),
            // A client that left in the middle of an answer has had its answer.
            Ending::Unknown => (Outcome::Neutral, self.latency.map(|_| false)),
        };
        if let Some(failed) = failed {
            self.revision.note(failed, self.latency);
        }
        let ejection = &self.service.ejection;
        let others = || others_out(&self.service.config.load(), &self.endpoint);
        if outcome != Outcome::Neutral
            && !self.mirrored
            && self.endpoint.note(outcome, ejection, others)
        {
            self.service.counts.ejections.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                service = %self.service.name, endpoint = %self.endpoint.address,
                "a replica that keeps failing gets no requests for a while"
            );
        }
        // Leave first: who is woken must find the place free.
        self.entry = None;
        self.service.queue.wake();
    }
}

/// How many other replicas are out, and how many there are.
fn others_out(config: &ServiceConfig, endpoint: &Arc<EndpointState>) -> (usize, usize) {
    let now = Instant::now();
    let out = config.endpoints().filter(|other| {
        !Arc::ptr_eq(other, endpoint) && matches!(other.health(now), Health::Ejected(_))
    });
    (out.count(), config.endpoints().count())
}

/// What a look for a replica found.
#[derive(Debug)]
pub(crate) enum Pick {
    Visit(Visit),
    /// Every replica has as many requests as it may have.
    Busy,
    /// There is no replica.
    Empty,
}

/// Chooses a replica: a revision by weight, then the less busy of two of its replicas.
///
/// Replicas in `avoid` come last. `sticky` fixes the place on the circle of weights.
pub(crate) fn pick(
    service: &Arc<ServiceState>,
    config: &ServiceConfig,
    sticky: Option<u32>,
    avoid: &[Arc<EndpointState>],
) -> Pick {
    let now = Instant::now();
    // Without any weight all revisions are equal.
    let weightless = config.revisions.iter().all(|revision| revision.weight == 0);
    let share = |revision: &RevisionConfig| match revision.endpoints.is_empty() {
        true => 0,
        false => revision.weight.max(u32::from(weightless)),
    };
    let limit = config.limits.concurrency_per_endpoint;
    let step = || service.position.fetch_add(GOLDEN_STEP, Ordering::Relaxed);
    let position = sticky.unwrap_or_else(step);
    let Some(first) = revision_at(config.revisions.iter().map(share), position) else {
        return Pick::Empty;
    };
    let weighted = || {
        let chosen = config.revisions.get(first).into_iter();
        let others = config.revisions.iter().enumerate();
        chosen.chain(others.filter_map(move |(i, r)| (i != first && share(r) > 0).then_some(r)))
    };
    for mind_health in [true, false] {
        for avoid in [avoid, &[]] {
            for revision in weighted() {
                let entry = less_busy(&revision.endpoints, limit, avoid, mind_health, now);
                if let Some(entry) = entry {
                    return Pick::Visit(Visit::new(service, revision, entry, now));
                }
            }
        }
        // A replica that is out is better than none, but not better than a short wait.
        let all_out = weighted()
            .flat_map(|revision| &revision.endpoints)
            .all(|endpoint| endpoint.health(now) != Health::Healthy);
        if !all_out {
            break;
        }
    }
    Pick::Busy
}

/// Chooses a replica of one revision for a mirrored request.
pub(crate) fn pick_of(service: &Arc<ServiceState>, revision: &RevisionConfig) -> Option<Visit> {
    let now = Instant::now();
    let entry = less_busy(&revision.endpoints, None, &[], false, now)?;
    let mut visit = Visit::new(service, revision, entry, now);
    visit.mirrored = true;
    Some(visit)
}

fn less_busy(
    endpoints: &[Arc<EndpointState>],
    limit: Option<u32>,
    avoid: &[Arc<EndpointState>],
    mind_health: bool,
    now: Instant,
) -> Option<Entry> {
    let avoided = |endpoint| avoid.iter().any(|avoided| Arc::ptr_eq(avoided, endpoint));
    let (a, b) = two_of(endpoints.len(), random())?;
    let (a, b) = (endpoints.get(a)?, endpoints.get(b)?);
    // The draw is in random order, so a tie is broken at random.
    let best = if b.in_flight() < a.in_flight() { [b, a] } else { [a, b] };
    for endpoint in best {
        if !avoided(endpoint)
            && let Some(entry) = endpoint.enter(limit, mind_health, now)
        {
            return Some(entry);
        }
    }
    // Neither of the two will do: look at all of them.
    let mut rest: Vec<_> = endpoints.iter().filter(|endpoint| !avoided(endpoint)).collect();
    rest.sort_by_key(|endpoint| endpoint.in_flight());
    rest.into_iter().find_map(|endpoint| endpoint.enter(limit, mind_health, now))
}
