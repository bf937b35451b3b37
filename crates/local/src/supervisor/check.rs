//! Data of jobs is looked for before they ask for room: what is not there would hold it in vain.

use std::time::Duration;

use trainyard_api::scalar::ModelUri;
use trainyard_plan::JobPlan;

use super::actor::{Actor, Errand};
use super::job::Job;
use super::steer::since_epoch;
use crate::history::Severity;
use crate::job::{Look, Looked, Wanted, look};

/// A store that did not answer is asked again after this, then twice as long each time.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);

/// Whether a job's data was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// It was, or there is none to look for.
    Done,
    UnderWay,
    /// So often in a row the store did not answer; it is asked again.
    Unavailable(u32),
}

impl Actor {
    /// Begins to look for the data of a job that waits, unless that was done.
    pub(super) fn check_data(&mut self, name: &str) {
        let Some(job) = self.jobs.get(name).filter(|job| job.is_queued()) else { return };
        let Some(plan) = job.plan.as_ref().filter(|_| job.check != Check::Done) else { return };
        let wanted = Look {
            job: job.name.as_str().into(),
            run: job.run,
            env: plan.env.clone(),
            folder: job.declared.folder.clone(),
            sets: wanted(job, plan),
        };
        let (shared, hurry) = (self.shared.clone(), self.hurry.clone());
        let (job, run) = (job.name.clone(), job.run);
        self.errands.spawn(async move {
            let result = look(wanted, shared, hurry).await;
            Errand::DataLooked { job, run, result }
        });
    }

    pub(super) async fn on_data_looked(&mut self, name: &str, run: u32, result: Looked) {
        let is_meant = |job: &&mut Job| job.run == run && job.is_queued() && !job.state.is_over();
        let Some(job) = self.jobs.get_mut(name).filter(is_meant) else { return };
        match result {
            Looked::AllThere => {
                job.check = Check::Done;
                job.last_error = None;
            }
            Looked::Wrong(problem) => {
                job.check = Check::Done;
                job.last_error = Some(problem.clone());
                self.note(Severity::Warning, Some(name), name, "DataNotThere", &problem).await;
                let Some(job) = self.jobs.get(name) else { return };
                let (before, now) = (job.state, since_epoch());
                self.enter(name, before, before.refused(now), now).await;
                self.steer_job(name).await;
            }
            Looked::Unavailable(problem) => {
                let failures = match job.check {
                    Check::Unavailable(failures) => failures.saturating_add(1),
                    _ => 1,
                };
                job.check = Check::Unavailable(failures);
                job.last_error = Some(problem.clone());
                self.note(Severity::Warning, Some(name), name, "DataUnavailable", &problem).await;
                let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
                let pause = PAUSE.saturating_mul(factor).min(LONGEST);
                let job = name.to_owned();
                self.errands.spawn(async move {
                    tokio::time::sleep(pause).await;
                    Errand::LookAgain { job, run }
                });
            }
        }
    }

    pub(super) fn look_again(&mut self, name: &str, run: u32) {
        if !self.stopping && self.jobs.get(name).is_some_and(|job| job.run == run) {
            self.check_data(name);
        }
    }
}

/// Each data set with its whole address, as the agent gets it.
fn wanted(job: &Job, plan: &JobPlan) -> Vec<Wanted> {
    let sets = plan.data.iter().map(|set| Wanted {
        name: set.name.clone(),
        uri: address(job, &set.uri),
        sha256: set.sha256.clone(),
    });
    sets.collect()
}

/// Relative paths begin in the manifest's folder.
pub(super) fn address(job: &Job, uri: &ModelUri) -> String {
    match uri {
        ModelUri::File(path) => job.declared.folder.join(path).display().to_string(),
        uri => uri.to_string(),
    }
}
