//! Takes over what an earlier supervisor left: what can be used goes on, what cannot is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::actor::{Actor, Errand};
use super::prepare::{self, Prepared};
use super::ration::Rations;
use super::service::{Held, Revision, Running, Service, declared};
use super::steer::since_epoch;
use crate::fleet::Phase;
use crate::history::{JobRecord, ReplicaRecord, RevisionRecord, Saved, ServiceRecord, Severity};
use crate::replica::{self, Process, Start};
use crate::target::{Declared, Origin, fingerprint, secrets_of};

/// What cannot be used any more gets so long to end.
const GRACE: Duration = Duration::from_secs(10);
/// A replica that answered before answers again within milliseconds.
const BACK: Duration = Duration::from_secs(5);

impl Actor {
    pub(super) async fn take_over(&mut self, saved: Saved) {
        if !saved.existed {
            return;
        }
        let marker = self.shared.marker.clone();
        let marked = tokio::task::spawn_blocking(move || replica::marked(&marker)).await;
        let marked = marked.unwrap_or_default();
        // A run that was started and never written down has used its number too.
        let highest = marked.iter().map(|(run, _)| *run).max().unwrap_or(0);
        self.shared.runs.fetch_max(highest, Ordering::Relaxed);
        self.read_secrets(&saved.services, &saved.jobs);

        for (folder, members) in saved.folders {
            self.folders.acted(&folder, members);
        }

        self.rations = Rations::new(saved.queues);
        let mut revisions: BTreeMap<String, Vec<RevisionRecord>> = BTreeMap::new();
        for revision in saved.revisions {
            revisions.entry(revision.service.clone()).or_default().push(revision);
        }
        let mut replicas: BTreeMap<String, Vec<ReplicaRecord>> = BTreeMap::new();
        for replica in saved.replicas {
            replicas.entry(replica.service.clone()).or_default().push(replica);
        }
        let mut adopted = BTreeSet::new();
        for service in saved.services {
            let revisions = revisions.remove(&service.name).unwrap_or_default();
            let replicas = replicas.remove(&service.name).unwrap_or_default();
            adopted.extend(self.adopt_service(service, &revisions, replicas).await);
        }
        for replica in replicas.into_values().flatten() {
            self.writer.forget_replica(&replica.id).await;
        }
        for job in saved.jobs {
            adopted.extend(self.adopt_job(job).await);
        }
        for (run, identity) in marked {
            if !adopted.contains(&run) {
                self.errands.spawn(async move {
                    replica::end(&identity, GRACE).await;
                    Errand::Swept
                });
            }
        }
        self.ration().await;
        self.publish();
    }

    /// Secrets that stand among manifests are saved nowhere, so their files are read again.
    fn read_secrets(&mut self, services: &[ServiceRecord], jobs: &[JobRecord]) {
        let running = jobs.iter().filter(|job| !job.state.is_over());
        let folders: BTreeSet<&Path> = services
            .iter()
            .map(|service| &service.origin)
            .chain(running.map(|job| &job.origin))
            .filter(|origin| matches!(origin, Origin::Manifest { .. }))
            .filter_map(|origin| origin.path().parent())
            .collect();
        for folder in folders {
            self.declare_secrets(secrets_of(folder));
        }
    }

    /// Takes over one service. Gives the runs of the replicas that go on.
    async fn adopt_service(
        &mut self,
        saved: ServiceRecord,
        revisions: &[RevisionRecord],
        replicas: Vec<ReplicaRecord>,
    ) -> Vec<u64> {
        let name = saved.name.clone();
        let record = |revision: &trainyard_plan::RevisionName| {
            revisions.iter().find(|record| record.name == *revision)
        };
        let Some(target) = record(&saved.target) else {
            let problem = format!("its revision `{}` is not in the history", saved.target);
            self.note(Severity::Warning, Some(&name), &name, "NotTakenOver", &problem).await;
            return Vec::new();
        };
        let policies = saved.manifest.as_ref();
        let declared = declared(target, policies, &saved.origin, saved.stamp.clone());
        let mut service = Service::new(declared.clone());
        let prepared = self.prepare_saved(target, declared.clone());
        let Prepared { mut plan, keys, .. } = match prepared {
            Ok(prepared) => prepared,
            Err(problem) => {
                service.last_error = Some(problem.clone());
                self.services.insert(name.clone(), service);
                self.note(Severity::Warning, Some(&name), &name, "NotTakenOver", &problem).await;
                return Vec::new();
            }
        };
        // A newer program may compile the same manifest to another plan. What runs keeps its name
        // until the new plan is rolled out.
        plan.revision = saved.target.clone();
        let mut running = Running::new(plan, &declared, saved.rollout.clone());
        // Nobody has looked meanwhile: that time is no pause that has passed, and no delay either.
        running.state.resume(since_epoch());
        running.straight = saved.straight;
        running.keys = keys;
        running.wanted = saved.wanted;
        running.scale = saved.scale;
        let mut names: BTreeSet<_> =
            replicas.iter().map(|replica| replica.revision.clone()).collect();
        names.insert(saved.target.clone());
        names.extend(saved.rollout.stable().cloned());
        for record in names.iter().filter_map(record) {
            let Ok(plan) = prepare::plan(&record.manifest, &record.model) else { continue };
            let (workload, folder) = (Arc::new(plan.workload), record.folder.clone().into());
            running.revisions.insert(record.name.clone(), Revision { workload, folder });
        }
        service.last_error = saved.last_error;
        service.running = Some(running);
        self.services.insert(name.clone(), service);

        let mut adopted = Vec::new();
        for replica in replicas {
            let number = replica.run.number;
            if self.adopt_replica(&name, replica).await {
                adopted.push(number);
            }
        }
        self.route();
        // The files may have changed while nobody looked, and the program too.
        let manifest = saved.origin.path().to_owned();
        let is_changed = matches!(saved.origin, Origin::Manifest { .. })
            && fingerprint(&manifest).ok() != saved.stamp;
        self.watch_files(&name);
        if is_changed {
            self.watch.acted(&manifest, fingerprint(&manifest).ok());
            self.resolve(vec![manifest], false, None);
        } else if !saved.straight {
            self.declare(declared, false);
        }
        adopted
    }

    fn prepare_saved(
        &self,
        record: &RevisionRecord,
        declared: Declared,
    ) -> Result<Prepared, String> {
        let secrets = self.shared.secrets.read().unwrap_or_else(PoisonError::into_inner).clone();
        prepare::again(declared, record.model.clone(), &secrets).map_err(|error| error.to_string())
    }

    async fn adopt_replica(&mut self, service: &str, saved: ReplicaRecord) -> bool {
        let ReplicaRecord { id, revision, run, .. } = saved;
        let index = id.rsplit_once('-').and_then(|(_, index)| index.parse().ok());
        let is_known =
            self.running(service).is_some_and(|running| running.revisions.contains_key(&revision));
        let process = match Process::adopt(run.identity.clone()) {
            Ok(process) => process,
            Err(_) => {
                self.writer.forget_replica(&id).await;
                let message = "it ended while no supervisor ran";
                self.note(Severity::Warning, Some(service), &id, "Ended", message).await;
                return false;
            }
        };
        let (true, Some(index)) = (is_known, index) else {
            self.writer.forget_replica(&id).await;
            return false;
        };
        self.start(service, &revision, index, Start::Adopt { process, run });
        true
    }

    /// Completes once every replica that was taken over and had listened is ready, or has failed.
    pub(super) fn adopted_are_back(&self) -> impl Future<Output = ()> + Send + 'static {
        let listened: BTreeSet<String> = self
            .services
            .values()
            .filter_map(|service| service.running.as_ref())
            .flat_map(|running| running.replicas.values())
            .filter(|held| held.run.as_ref().is_some_and(|run| run.address.is_some()))
            .map(|held| held.replica.id.to_string())
            .collect();
        let mut status = self.watch_status();
        async move {
            let back = status.wait_for(|status| {
                let mut replicas = status.services.iter().flat_map(|service| &service.replicas);
                replicas.all(|replica| {
                    replica.phase != Phase::Starting || !listened.contains(&replica.id)
                })
            });
            // Whatever is not back by then is not waited for.
            let _ = tokio::time::timeout(BACK, back).await;
        }
    }

    /// Goes on with the replicas that it had let go of.
    pub(super) async fn adopt_again(&mut self) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            let Some(running) = self.running(&name) else { continue };
            for (id, held) in std::mem::take(&mut running.replicas) {
                let Held { replica, run, starts, .. } = held;
                let process = run.as_ref().map(|run| Process::adopt(run.identity.clone()));
                let start = match (process, run) {
                    (Some(Ok(process)), Some(run)) => Start::Adopt { process, run },
                    _ if replica.phase == Phase::Draining => continue,
                    _ => Start::Launch,
                };
                self.start(&name, &replica.revision, replica.index, start);
                let Some(held) = self.running(&name).and_then(|r| r.replicas.get_mut(&id)) else {
                    continue;
                };
                held.starts = starts;
                if replica.phase == Phase::Draining {
                    held.enter(Phase::Draining, None);
                    held.stop.cancel();
                } else if replica.phase == Phase::Ready {
                    // It has not been away for its clients.
                    held.enter(Phase::Ready, None);
                }
            }
        }
        self.adopt_jobs_again().await;
        self.steer_all().await;
    }
}
