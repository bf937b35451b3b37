//! Which of several operators acts: the one that holds a Lease.
//!
//! The rules are client-go's. Clocks of two machines are not compared: a Lease counts as abandoned
//! once *we* have seen it unchanged for its duration. Who holds it stops acting when it could not
//! renew for the renew deadline, which is shorter, so that it has stopped before another may begin.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube_client::api::PostParams;
use kube_client::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::backoff::jitter;
use crate::cluster::Chain;
use crate::settings::Election;

/// Takes part in an election.
pub(crate) struct Candidate {
    api: Api<Lease>,
    election: Election,
    /// The Lease as it was when it last changed, and when we saw that.
    seen: Option<(LeaseSpec, Instant)>,
    leads: watch::Sender<bool>,
}

/// What to do about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is ours: renew it.
    Renew,
    /// Nobody has it, or its holder is gone.
    Take,
    /// Somebody else has it.
    Wait,
}

impl Candidate {
    /// A candidate, and whether it leads: true from when it may act to when it must have stopped.
    pub(crate) fn new(client: Client, election: Election) -> (Self, watch::Receiver<bool>) {
        let api = Api::namespaced(client, &election.namespace);
        let (leads, watched) = watch::channel(false);
        (Self { api, election, seen: None, leads }, watched)
    }

    /// Takes part for ever. Between two requests it can be stopped at any time.
    pub(crate) async fn campaign(&mut self) {
        let mut renewed_at: Option<Instant> = None;
        loop {
            // The time before the request: our hold counts from when we asked, not from the answer.
            let asked_at = Instant::now();
            let deadline = renewed_at.unwrap_or(asked_at) + self.election.renew_deadline;
            match timeout_at(deadline, self.try_once(asked_at)).await {
                Ok(Ok(true)) => {
                    renewed_at = Some(asked_at);
                    self.say(true);
                }
                // Somebody else has it: whatever we believed is over.
                Ok(Ok(false)) => {
                    renewed_at = None;
                    self.say(false);
                }
                Ok(Err(error)) => {
                    let error = tracing::field::display(Chain(&error));
                    tracing::warn!(lease = self.election.lease, error, "no lease for now");
                }
                Err(_) => tracing::warn!(lease = self.election.lease, "no answer about the lease"),
            }
            // Rivals that started together should not ask together.
            let pause = self.election.retry_period.mul_f64(1.0 + jitter() * 0.2);
            let Some(held_since) = renewed_at else {
                sleep(pause).await;
                continue;
            };
            let must_stop_at = held_since + self.election.renew_deadline;
            sleep_until(must_stop_at.min(Instant::now() + pause)).await;
            if Instant::now() >= must_stop_at {
                renewed_at = None;
                self.say(false);
            }
        }
    }

    /// Gives the Lease back, so that another can take it at once. To be called once nothing acts
    /// any more.
    pub(crate) async fn release(&mut self) {
        if !*self.leads.borrow() {
            return;
        }
        self.say(false);
        let released = timeout(self.election.renew_deadline, async {
            let Some(mut lease) = self.api.get_opt(&self.election.lease).await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(self.election.identity.as_str()) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            let params = PostParams::default();
            self.api.replace(&self.election.lease, &params, &lease).await.map(|_| ())
        });
        match released.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = tracing::field::display(Chain(&error));
                tracing::warn!(error, "the lease was not given back; it runs out by itself");
            }
            Err(_) => tracing::warn!("the lease was not given back in time; it runs out by itself"),
        }
    }

    /// One try to get or keep the Lease; whether we hold it now.
    async fn try_once(&mut self, now: Instant) -> kube_client::Result<bool> {
        let name = &self.election.lease;
        let Some(mut lease) = self.api.get_opt(name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
                spec: Some(self.held(None)),
            };
            return accepted(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), now));
        }
        let since = self.seen.as_ref().map_or(Duration::ZERO, |(_, at)| now.duration_since(*at));
        match step(&spec, &self.election.identity, since) {
            Step::Wait => Ok(false),
            Step::Renew | Step::Take => {
                lease.spec = Some(self.held(Some(&spec)));
                // With the resource version that was read: of two rivals one is refused.
                accepted(self.api.replace(name, &PostParams::default(), &lease).await)
            }
        }
    }

    /// The Lease as we hold it.
    fn held(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_ours = before.is_some_and(|spec| {
            spec.holder_identity.as_deref() == Some(self.election.identity.as_str())
        });
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let acquired = before.filter(|_| is_ours).and_then(|spec| spec.acquire_time.clone());
        let seconds = self.election.lease_duration.as_secs();
        LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if is_ours {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before.cloned().unwrap_or_default()
        }
    }

    fn say(&self, leads: bool) {
        let changed = self.leads.send_if_modified(|now| std::mem::replace(now, leads) != leads);
        if changed && leads {
            tracing::info!(identity = self.election.identity, "this operator leads");
        } else if changed {
            tracing::info!(
                identity = self.election.identity,
                "this operator does not lead any more"
            );
        }
    }
}

/// Whether the write was ours; a conflict means that a rival was faster.
fn accepted(written: kube_client::Result<Lease>) -> kube_client::Result<bool> {
    match written {
        Ok(_) => Ok(true),
        Err(kube_client::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Decides by a Lease that was seen unchanged for `since`.
fn step(spec: &LeaseSpec, me: &str, since: Duration) -> Step {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    if holder == me {
        Step::Renew
    } else if holder.is_empty() || since >= Duration::from_secs(seconds) {
        Step::Take
    } else {
        Step::Wait
    }
}

#[test]
fn table() {
    let held_by = |holder: &str| LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        ..LeaseSpec::default()
    };
    let at = |holder: &str, seconds| step(&held_by(holder), "me", Duration::from_secs(seconds));
    assert_eq!(at("me", 0), Step::Renew);
    assert_eq!(at("me", 100), Step::Renew);
    assert_eq!(at("other", 0), Step::Wait);
    assert_eq!(at("other", 14), Step::Wait);
    assert_eq!(at("other", 15), Step::Take);
    assert_eq!(at("", 0), Step::Take);
    assert_eq!(step(&LeaseSpec::default(), "me", Duration::ZERO), Step::Take);
}
