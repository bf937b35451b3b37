//! Queues, who waits in them and who has what, as the statuses of queues and jobs say.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube_client::api::ListParams;
use kube_client::{Api, ResourceExt};
use serde::Serialize;
use trainyard_api::queue::QueueUse;
use trainyard_api::{Queue, TrainingJob};
use trainyard_plan::QueueSystem;
use trainyard_queue::{Assignment, Waiting};

use super::failure::ask;
use super::{Console, ConsoleError};
use crate::jobs::stand_in_queue;

/// One queue and its jobs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueSeen {
    /// Whose queue it is, if not Trainyard's: `Kueue`, `KAI` or `Volcano`. Of such a queue only
    /// Trainyard's jobs are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Of a queue that is not of the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cohort: Option<String>,
    /// What its jobs have, as the operator wrote it last.
    pub usage: Vec<QueueUse>,
    /// What it has borrowed of what its cohort lends, by its weight, in thousandths.
    pub share: u64,
    /// In their order.
    pub waiting: Vec<JobWaiting>,
    pub admitted: Vec<JobAdmitted>,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobWaiting {
    /// Namespace and name.
    pub job: String,
    pub priority: i32,
    /// Workers that it asks for.
    pub workers: u32,
    /// In one word; none before the queue has looked at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// How many are before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
    /// As things stand; none if that depends on jobs that do not say how long they run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_start: Option<String>,
}

/// A job that has what it asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobAdmitted {
    /// Namespace and name.
    pub job: String,
    pub priority: i32,
    pub workers: u32,
    /// The quota that it uses: a pool, `default`, or what another system says.
    pub pool: String,
    /// With it the queue used more than its own.
    pub borrows: bool,
    pub phase: String,
    pub since: String,
}

/// Where a job stands in its queue.
pub(crate) enum Standing {
    Waits(Option<Waiting>),
    Has {
        queue: String,
        assignment: Assignment,
        since: Duration,
    },
    /// In the queue of another system.
    Elsewhere(Elsewhere),
}

/// Where a job stands that was handed over.
pub(crate) struct Elsewhere {
    pub(crate) system: QueueSystem,
    pub(crate) queue: String,
    pub(crate) quota: Option<String>,
    /// Since it was handed over, or let in.
    pub(crate) since: Duration,
    /// That were let in; none while it waits.
    pub(crate) workers: Option<u32>,
    /// In one word, and for people.
    pub(crate) waiting: Option<(String, String)>,
}

impl Console {
    /// All queues, or the one of that name, and what could not be read and why.
    ///
    /// Who may not list the jobs of all namespaces sees those of his own.
    pub async fn queues(
        &self,
        name: Option<&str>,
    ) -> Result<(Vec<QueueSeen>, Vec<String>), ConsoleError> {
        let mut notes = Vec::new();
        let params = ListParams::default();
        let queues: Api<Queue> = Api::all(self.client.clone());
        let queues = ask("list the queues", queues.list(&params)).await?;
        let all: Api<TrainingJob> = Api::all(self.client.clone());
        let jobs = match ask("list the jobs", all.list(&params)).await {
            Ok(jobs) => jobs,
            Err(ConsoleError::Forbidden { right: Some(right), .. }) => {
                let home = self.home();
                notes.push(format!(
                    "only jobs of the namespace `{home}` are shown: you may not {} elsewhere",
                    right.words()
                ));
                let own: Api<TrainingJob> = Api::namespaced(self.client.clone(), home);
                ask("list the jobs", own.list(&params)).await?
            }
            Err(error) => return Err(error),
        };
        let wanted = queues.into_iter().filter(|it| name.is_none_or(|name| it.name_any() == name));
        let mut all: Vec<QueueSeen> = wanted.map(|queue| seen(&queue, &jobs.items)).collect();
        let others = elsewhere(&jobs.items).into_iter();
        all.extend(others.filter(|it| name.is_none_or(|name| it.name == name)));
        Ok((all, notes))
    }
}

/// The queues of other systems that jobs were handed to, in the order of their names.
fn elsewhere(jobs: &[TrainingJob]) -> Vec<QueueSeen> {
    let mut all: BTreeMap<(QueueSystem, Option<String>, String), QueueSeen> = BTreeMap::new();
    for job in jobs {
        let Some(Standing::Elsewhere(found)) = stand_in_queue(job) else { continue };
        let namespace = job.namespace().unwrap_or_default();
        let home = (found.system == QueueSystem::Kueue).then(|| namespace.clone());
        let queue =
            all.entry((found.system, home.clone(), found.queue.clone())).or_insert_with(|| {
                QueueSeen {
                    by: Some(found.system.name().to_owned()),
                    namespace: home,
                    name: found.queue.clone(),
                    cohort: None,
                    usage: Vec::new(),
                    share: 0,
                    waiting: Vec::new(),
                    admitted: Vec::new(),
                }
            });
        let full = format!("{namespace}/{}", job.name_any());
        let priority = job.spec.priority.unwrap_or(0);
        match found.workers {
            Some(workers) => queue.admitted.push(JobAdmitted {
                job: full,
                priority,
                workers,
                pool: found.quota.unwrap_or_else(|| "-".to_owned()),
                borrows: false,
                phase: job.status.as_ref().and_then(|it| it.phase.clone()).unwrap_or_default(),
                since: time(found.since).unwrap_or_default(),
            }),
            None => {
                let (reason, message) = found.waiting.unzip();
                queue.waiting.push(JobWaiting {
                    job: full,
                    priority,
                    workers: job.spec.workers.as_ref().map_or(1, |workers| workers.count),
                    reason,
                    message,
                    behind: None,
                    ahead: None,
                    expected_start: None,
                });
            }
        }
    }
    all.into_values().collect()
}

fn seen(queue: &Queue, jobs: &[TrainingJob]) -> QueueSeen {
    let name = queue.name_any();
    let status = queue.status.clone().unwrap_or_default();
    let (mut waiting, mut admitted) = (Vec::new(), Vec::new());
    for job in jobs {
        let full = format!("{}/{}", job.namespace().unwrap_or_default(), job.name_any());
        let priority = job.spec.priority.unwrap_or(0);
        match stand_in_queue(job) {
            Some(Standing::Has { queue, assignment, since }) if queue == name => {
                admitted.push(JobAdmitted {
                    job: full,
                    priority,
                    workers: assignment.count,
                    pool: assignment.flavour,
                    borrows: assignment.borrows,
                    phase: job.status.as_ref().and_then(|it| it.phase.clone()).unwrap_or_default(),
                    since: time(since).unwrap_or_default(),
                });
            }
            Some(Standing::Waits(found)) if job.spec.queue.as_deref() == Some(&name) => {
                let created = job.metadata.creation_timestamp.as_ref().map(|at| at.0.as_second());
                let found = found.as_ref();
                waiting.push((
                    created,
                    JobWaiting {
                        job: full,
                        priority,
                        workers: job.spec.workers.as_ref().map_or(1, |workers| workers.count),
                        reason: found.map(|it| it.reason.as_str().to_owned()),
                        message: found.map(|it| it.reason.to_string()),
                        behind: found.and_then(|it| it.behind.clone()),
                        ahead: found.map(|it| it.ahead),
                        expected_start: found.and_then(|it| it.expected_start).and_then(time),
                    },
                ));
            }
            _ => {}
        }
    }
    waiting.sort_by(|(at, a), (then, b)| (b.priority, at, &a.job).cmp(&(a.priority, then, &b.job)));
    admitted.sort_by(|a, b| (&a.since, &a.job).cmp(&(&b.since, &b.job)));
    QueueSeen {
        by: None,
        namespace: None,
        name,
        cohort: queue.spec.cohort.clone(),
        usage: status.usage,
        share: status.share,
        waiting: waiting.into_iter().map(|(_, job)| job).collect(),
        admitted,
    }
}

fn time(since_epoch: Duration) -> Option<String> {
    let seconds = i64::try_from(since_epoch.as_secs()).ok()?;
    Some(Timestamp::from_second(seconds).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(name: &str, priority: i32, memory: &Value) -> TrainingJob {
        serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": name, "namespace": "ml"},
            "spec": {"framework": "generic", "command": ["t"], "queue": "q", "priority": priority},
            "status": {"phase": "Waiting", "memory": memory.to_string()},
        }))
        .expect("a job")
    }

    #[test]
    fn who_waits_and_who_has_what() {
        let state = |phase: Value| {
            json!({"phase": phase, "reason": "Started", "attempts": 1, "failures": 0,
                "interruptions": 0, "row": 0, "began": null, "started": null, "ended": null})
        };
        let time = |secs| json!({"secs": secs, "nanos": 0});
        let given = json!({"queue": "q", "flavour": "t4", "count": 2, "borrows": true,
            "perWorker": {"cpu": 1, "memory": 2, "gpu": 3}, "since": time(60)});
        let waits = json!({"reason": {"is": "behindHead", "head": "ml/a"}, "behind": "ml/a",
            "ahead": 1, "expectedStart": time(120)});
        let waiting = state(json!({"waiting": {"until": time(0)}}));
        let jobs = [
            job("low", 0, &json!({"state": waiting, "waiting": waits})),
            job("high", 9, &json!({"state": waiting})),
            job("runs", 0, &json!({"state": state(json!("running")), "given": given})),
            job("over", 0, &json!({"state": state(json!("succeeded"))})),
        ];
        let queue: Queue = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "q"},
            "spec": {"quotas": [{"pool": "t4"}]},
        }))
        .expect("a queue");
        let seen = seen(&queue, &jobs);
        let names: Vec<&str> = seen.waiting.iter().map(|it| it.job.as_str()).collect();
        assert_eq!(names, ["ml/high", "ml/low"]);
        let low = &seen.waiting[1];
        assert_eq!(low.reason.as_deref(), Some("BehindHead"));
        assert_eq!(low.expected_start.as_deref(), Some("1970-01-01T00:02:00Z"));
        let runs = &seen.admitted[0];
        assert_eq!((runs.job.as_str(), runs.workers, runs.borrows), ("ml/runs", 2, true));
        assert_eq!(seen.admitted.len(), 1);
    }

    #[test]
    fn who_waits_elsewhere() {
        let state = |phase: Value| {
            json!({"phase": phase, "reason": "Started", "attempts": 1, "failures": 0,
                "interruptions": 0, "row": 0, "began": null, "started": null, "ended": null})
        };
        let time = |secs| json!({"secs": secs, "nanos": 0});
        let handed = |is_let_in: bool, waiting: Value| {
            json!({"system": "kueue", "queue": "q", "asked": "a", "since": time(60),
                "isLetIn": is_let_in, "quota": "all", "waiting": waiting})
        };
        let why = json!({"reason": "Pending", "message": "no room"});
        let waiting = state(json!({"waiting": {"until": time(0)}}));
        let jobs = [
            job("waits", 0, &json!({"state": waiting, "handed": handed(false, why)})),
            job(
                "runs",
                3,
                &json!({"state": state(json!("running")), "workers": 2, "handed": handed(true, Value::Null)}),
            ),
        ];
        let seen = elsewhere(&jobs);
        assert_eq!(seen.len(), 1);
        let queue = &seen[0];
        let home = (queue.by.as_deref(), queue.namespace.as_deref(), queue.name.as_str());
        assert_eq!(home, (Some("Kueue"), Some("ml"), "q"));
        assert_eq!(queue.waiting[0].reason.as_deref(), Some("Pending"));
        let runs = &queue.admitted[0];
        assert_eq!((runs.workers, runs.pool.as_str()), (2, "all"));
    }
}
