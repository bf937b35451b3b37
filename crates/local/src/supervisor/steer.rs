//! From decisions to replicas and routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use trainyard_api::model_service::path_segment;
use trainyard_control::autoscale::Sample;
use trainyard_control::restart::{Ending, Reason as RestartReason};
use trainyard_control::rollout::{Observed, Phase as RolloutPhase};
use trainyard_gateway::Table;
use trainyard_plan::RevisionName;

use super::actor::{Actor, Errand};
use super::service::{Held, Running};
use crate::fleet::{Phase, Replica, changes, observe};
use crate::history::Severity;
use crate::replica::{self, Event, Slot, Start};

/// Metadata is a few kilobytes; a program that answers more is no model server of ours.
const METADATA: u64 = 1 << 20;

pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl Actor {
    pub(super) async fn steer_all(&mut self) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            self.steer(&name).await;
        }
    }

    /// Decides what a service should have, and orders it.
    ///
    /// The order matters: what was decided is saved before anything is done; new replicas start;
    /// those that go leave the gateway's table; then they are told to end.
    pub(super) async fn steer(&mut self, name: &str) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(running) = &mut service.running else {
            if service.leaving {
                self.forget(name).await;
            }
            return;
        };
        let mut decided: BTreeMap<RevisionName, u32> = BTreeMap::new();
        let mut told = None;
        if !service.leaving {
            let observations = &running.observations;
            let replicas = running.replicas.values().map(|held| &held.replica);
            let revisions = observe(replicas, |revision| observations.of(revision));
            let rollout = running.rollout();
            let observed = Observed {
                rollout: &rollout,
                target: &running.target,
                wanted: running.wanted,
                stable_stays: false,
                revisions: &revisions,
                now: since_epoch(),
            };
            let decision = running.state.decide(&observed);
            let before = running.decision.as_ref().map(|decision| decision.reason);
            if before != Some(decision.reason) {
                told = Some((decision.phase, decision.reason));
            }
            let allotments = decision.revisions.iter();
            decided.extend(
                allotments.map(|(revision, allotment)| (revision.clone(), allotment.replicas)),
            );
            running.decision = Some(decision);
        }
        if let Some((phase, reason)) = told {
            let (target, wanted) = (running.target.to_string(), running.wanted);
            let severity = match phase {
                RolloutPhase::Aborted | RolloutPhase::Stalled => Severity::Warning,
                _ => Severity::Normal,
            };
            let message = format!("{}, {wanted} replicas wanted", phase.as_str());
            self.note(severity, Some(name), &target, reason.as_str(), &message).await;
        }
        self.save(name).await;

        let Some(running) = self.running(name) else { return };
        let have: Vec<Replica> = running.replicas().cloned().collect();
        let changes = changes(&decided, &have);
        for (revision, index) in changes.start {
            self.start(name, &revision, index, Start::Launch);
        }
        let Some(running) = self.running(name) else { return };
        let mut stops = Vec::new();
        for id in &changes.stop {
            if let Some(held) = running.replicas.get_mut(id) {
                held.enter(Phase::Draining, None);
                stops.push(held.stop.clone());
            }
        }
        let stable = running.state.stable().cloned();
        let Running { revisions, replicas, target, .. } = running;
        revisions.retain(|revision, _| {
            revision == target
                || Some(revision) == stable.as_ref()
                || replicas.values().any(|held| held.replica.revision == *revision)
        });
        self.route();
        for stop in stops {
            stop.cancel();
        }
        let is_gone = self.services.get(name).is_some_and(|service| {
            let none = service.running.as_ref().is_none_or(|running| running.replicas.is_empty());
            service.leaving && none
        });
        if is_gone {
            self.forget(name).await;
        }
    }

    pub(super) fn running(&mut self, name: &str) -> Option<&mut Running> {
        self.services.get_mut(name)?.running.as_mut()
    }

    /// Saves what has changed of a service.
    pub(super) async fn save(&mut self, name: &str) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(record) = service.record() else { return };
        if service.saved.as_ref() != Some(&record) {
            service.saved = Some(record.clone());
            self.writer.service(record).await;
        }
    }

    /// Gives the gateway its table, if it differs from what it has.
    pub(super) fn route(&mut self) {
        let mut table = Table::default();
        for service in self.services.values().filter(|service| !service.leaving) {
            let routes = match &service.running {
                None => service.waiting_routes(),
                Some(running) => running.routes(),
            };
            table.services.extend(routes.map(|routes| (service.name.as_str().into(), routes)));
        }
        // Before anything is decided about what was taken over, there is nothing to tell.
        let knows_nothing = self.routed.is_none() && table.services.is_empty();
        if !knows_nothing && self.routed.as_ref() != Some(&table) {
            self.shared.gateway.update(&table);
            self.routed = Some(table);
        }
    }

    /// Starts the task of one slot.
    pub(super) fn start(
        &mut self,
        service: &str,
        revision: &RevisionName,
        index: u32,
        start: Start,
    ) {
        let (tell, shared) = (self.tell.clone(), self.shared.clone());
        let (stop, hurry) = (CancellationToken::new(), self.hurry.clone());
        let Some(running) = self.running(service) else { return };
        let Some(of) = running.revisions.get(revision).cloned() else { return };
        let id: Arc<str> = format!("{revision}-{index}").into();
        let slot = Slot {
            id: id.clone(),
            service: service.into(),
            workload: of.workload,
            folder: of.folder,
        };
        let run = match &start {
            Start::Launch => None,
            Start::Adopt { run, .. } => Some(run.clone()),
        };
        let replica = Replica {
            id: id.clone(),
            revision: revision.clone(),
            phase: Phase::Starting,
            crash_looping: false,
            outdated: false,
            index,
        };
        let since = SystemTime::now();
        let held = Held { replica, run, starts: 0, since, message: None, stop: stop.clone() };
        running.replicas.insert(id, held);
        self.replicas.spawn(replica::run(slot, start, shared, tell, stop, hurry));
    }

    /// A service is gone: its replicas have ended, or it had none.
    async fn forget(&mut self, name: &str) {
        if self.services.remove(name).is_some() {
            self.note(Severity::Normal, Some(name), name, "Down", "all of it has ended").await;
            self.route();
        }
        self.answer_downs();
    }

    /// Tells those who wait for the end of what has ended by now.
    pub(super) fn answer_downs(&mut self) {
        let is_gone = |actor: &Self, name: &String| {
            let job = actor.jobs.get(name);
            !actor.services.contains_key(name)
                && job.is_none_or(|job| job.state.is_over() && !job.forget)
        };
        let waiting = std::mem::take(&mut self.downs);
        for (names, reply) in waiting {
            if names.iter().all(|name| is_gone(self, name)) {
                let message = format!("{} ended", names.join(", "));
                let _ = reply.send(crate::socket::Reply::Done { message });
            } else {
                self.downs.push((names, reply));
            }
        }
    }

    pub(super) async fn leave(&mut self, name: &str) {
        if let Some(service) = self.services.get_mut(name) {
            service.leaving = true;
            let declared = &self.services;
            self.watch.keep(|path| {
                declared.values().any(|service| !service.leaving && service.is_watched_at(path))
            });
            self.steer(name).await;
        }
    }

    pub(super) async fn leave_all(&mut self) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            self.leave(&name).await;
        }
        self.folders.keep(|_| false);
        self.writer.folders(self.folders.saved()).await;
    }

    pub(super) async fn on_event(&mut self, id: &Arc<str>, event: Event) {
        let found = self.services.values().find(|service| {
            service.running.as_ref().is_some_and(|running| running.replicas.contains_key(id))
        });
        let Some(name) = found.map(|service| service.name.clone()) else { return };
        let Some(running) = self.running(&name) else { return };
        let Some(held) = running.replicas.get_mut(id) else { return };
        match event {
            Event::Started { run, adopted, notes } => {
                held.starts = held.starts.saturating_add(1);
                let pid = run.identity.pid;
                held.run = Some(run);
                held.enter_if_staying(Phase::Starting, None);
                self.save_replica(&name, id).await;
                let (reason, message) = match adopted {
                    false => ("Started", format!("pid {pid}")),
                    true => ("Adopted", format!("pid {pid} goes on from an earlier supervisor")),
                };
                self.note(Severity::Normal, Some(&name), id, reason, &message).await;
                for note in notes {
                    self.note(Severity::Warning, Some(&name), id, "NotAsAsked", &note).await;
                }
            }
            Event::Listening(address) => {
                if let Some(run) = &mut held.run {
                    run.address = Some(address);
                }
                self.save_replica(&name, id).await;
            }
            Event::Ready => {
                held.enter_if_staying(Phase::Ready, None);
                held.replica.crash_looping = false;
                self.steer(&name).await;
                self.note(Severity::Normal, Some(&name), id, "Ready", "it gets requests").await;
                self.ask_for_example(&name, id);
            }
            Event::Unready { because } => {
                held.enter_if_staying(Phase::Starting, Some(because.clone()));
                self.steer(&name).await;
                self.note(Severity::Warning, Some(&name), id, "Unready", &because).await;
            }
            Event::Leaving { done } => {
                held.enter_if_staying(Phase::Starting, Some("it is ended".to_owned()));
                self.steer(&name).await;
                // The task that asked may have been stopped meanwhile.
                let _ = done.send(());
            }
            Event::Ended { ending, message, restart } => {
                held.enter_if_staying(Phase::Failed, Some(message.clone()));
                held.replica.crash_looping = restart.reason == RestartReason::CrashLoop;
                held.run = None;
                running.last_ending = Some((held.replica.revision.clone(), message.clone()));
                self.steer(&name).await;
                self.writer.forget_replica(id).await;
                self.note(Severity::Warning, Some(&name), id, reason_of(ending), &message).await;
                if restart.reason == RestartReason::CrashLoop {
                    let wait = restart.at.saturating_sub(self.shared.now());
                    let message = format!(
                        "failure {} in a row; it starts again in {} s",
                        restart.failures,
                        wait.as_secs().max(1)
                    );
                    let reason = restart.reason.as_str();
                    self.note(Severity::Warning, Some(&name), id, reason, &message).await;
                }
            }
            Event::Stopped { forced } => {
                running.replicas.remove(id);
                self.writer.forget_replica(id).await;
                let (severity, message) = match forced {
                    false => (Severity::Normal, "it has drained and ended"),
                    true => (Severity::Warning, "it did not end in time, and was killed"),
                };
                self.note(severity, Some(&name), id, "Stopped", message).await;
                self.steer(&name).await;
            }
        }
    }

    async fn save_replica(&mut self, name: &str, id: &str) {
        let Some(service) = self.services.get(name) else { return };
        let held = service.running.as_ref().and_then(|running| running.replicas.get(id));
        if let Some(record) = held.and_then(|held| service.replica_record(held)) {
            self.writer.replica(record).await;
        }
    }

    /// Asks a replica of the target for its model's metadata, once.
    fn ask_for_example(&mut self, name: &str, id: &str) {
        let Some(running) = self.running(name) else { return };
        let Some(held) = running.replicas.get(id) else { return };
        let Some(address) = held.run.as_ref().and_then(|run| run.address) else { return };
        if running.example_asked || held.replica.revision != running.target {
            return;
        }
        running.example_asked = true;
        let Some(model) = running.plan.service.models.first() else { return };
        let path = format!("/v2/models/{}", path_segment(model));
        let (service, revision) = (name.to_owned(), running.target.to_string());
        self.errands.spawn(async move {
            let limit = Duration::from_secs(5);
            let body = replica::get(address, &path, METADATA, limit).await;
            // A custom server need not speak this protocol.
            let example = body.ok().and_then(|body| crate::example::example(&body));
            Errand::Example { service, revision, example }
        });
    }

    pub(super) async fn on_tick(&mut self) {
        if self.stopping {
            return;
        }
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            self.autoscale(&name).await;
            let gateway = self.shared.gateway.clone();
            if let Some(running) = self.running(&name) {
                running.observe(&gateway, &name);
            }
            self.steer(&name).await;
        }
        self.steer_jobs().await;
    }

    async fn autoscale(&mut self, name: &str) {
        let now = self.shared.now();
        let load = self.shared.gateway.observe(name);
        let Some(service) = self.services.get_mut(name).filter(|service| !service.leaving) else {
            return;
        };
        let Some(running) = &mut service.running else { return };
        if let Some(load) = load {
            let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            running.scaler.observe(Sample {
                at: now,
                request_seconds: load.request_seconds,
                arrivals: load.arrivals,
                held: small(load.held),
                in_flight: small(load.in_flight),
            });
        }
        let rollout = running.rollout();
        let revisions = observe(running.replicas(), |_| Default::default());
        let have = running.state.replicas(&Observed {
            rollout: &rollout,
            target: &running.target,
            wanted: running.wanted,
            stable_stays: false,
            revisions: &revisions,
            now: since_epoch(),
        });
        let scaling = running.scaling();
        let decision = running.scaler.decide(&scaling, have, now);
        running.scaled = Some(decision);
        let before = std::mem::replace(&mut running.wanted, decision.replicas);
        if before != decision.replicas {
            let message = format!("from {before} to {} replicas", decision.replicas);
            self.note(Severity::Normal, Some(name), name, decision.reason.as_str(), &message).await;
        }
    }

    /// Requests are held for a service: it starts at once.
    pub(super) async fn wake(&mut self, name: &str) {
        self.autoscale(name).await;
        let Some(running) = self.running(name) else { return };
        if running.wanted == 0 {
            // The counters may not show yet what the gateway has told.
            running.wanted = 1;
        }
        self.steer(name).await;
    }

    /// When a rollout's pause or deadline ends, if that is before the next tick anyway.
    pub(super) fn look_again_in(&self) -> Duration {
        const LATEST: Duration = Duration::from_secs(60);
        const SOONEST: Duration = Duration::from_millis(10);
        let next = self
            .services
            .values()
            .filter_map(|service| service.running.as_ref()?.decision.as_ref()?.look_again_at)
            .chain(self.next_job_at());
        let now = since_epoch();
        next.map(|at| at.saturating_sub(now)).min().unwrap_or(LATEST).clamp(SOONEST, LATEST)
    }
}

fn reason_of(ending: Ending) -> &'static str {
    match ending {
        Ending::Exited(_) => "Exited",
        Ending::Signalled(_) => "Killed",
        Ending::OutOfMemory => "OutOfMemory",
        Ending::NeverReady => "NeverReady",
        Ending::Unresponsive => "Unresponsive",
        Ending::NotStarted => "NotStarted",
    }
}
