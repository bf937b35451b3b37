//! What the workers of one start are doing, told from their pods and their Job.

use std::time::Duration;

use trainyard_control::job::{Failure, Worker};

use crate::pods::{End, PodFacts, Trouble, WorkerFacts};
use crate::world::JobFacts;

/// Some workers may wait so long for others that cannot start; they hold what others could use.
pub(super) const HALF_GANG: Duration = Duration::from_secs(300);
/// A pod that its node will not start counts as ended after so many seconds: a status may be halfway.
const LOST_AFTER: i64 = 30;

/// One start.
pub(super) struct Attempt<'a> {
    pub(super) number: u32,
    pub(super) workers: u32,
    /// Whether its Job was made, as far as is known.
    pub(super) is_made: bool,
    /// None if there is none, or none any more.
    pub(super) job: Option<&'a JobFacts>,
    pub(super) pods: &'a [&'a PodFacts],
    /// In seconds since the epoch.
    pub(super) now: i64,
}

/// What is seen of it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// By their index.
    pub(super) workers: Vec<Worker>,
    /// Workers whose program runs.
    pub(super) running: u32,
    /// How the first worker ended that did not finish.
    pub(super) end: Option<String>,
    /// What keeps a worker from starting.
    pub(super) trouble: Option<Trouble>,
    /// The pod that has been there longest without running, and saying why, or nothing for a pod
    /// that was never made.
    pub(super) silent: Option<Silent>,
    /// Since when some run and others cannot start, in seconds since the epoch.
    pub(super) half_since: Option<i64>,
    /// Nodes that their cloud takes, and when a worker left them for that, in seconds since the epoch.
    pub(super) leaving: Vec<(String, i64)>,
    /// When a worker will count as lost, in seconds since the epoch.
    pub(super) lost_at: Option<i64>,
    /// One was taken away for certain, or is about to be.
    pub(super) is_taken: bool,
}

/// A worker that does not run, and nothing is known why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Silent {
    Pod { name: String, created: i64 },
    NoPod,
}

pub(super) fn observe(attempt: &Attempt<'_>) -> Seen {
    let mut seen = Seen::default();
    let mut ends: Vec<(u32, &End)> = Vec::new();
    let mut running_since: Vec<i64> = Vec::new();
    let mut is_stuck = false;
    let of_attempt = |pod: &&PodFacts| {
        pod.worker.as_ref().is_some_and(|worker| worker.attempt == attempt.number)
    };
    let pods: Vec<(&PodFacts, &WorkerFacts)> = attempt
        .pods
        .iter()
        .copied()
        .filter(|pod| of_attempt(pod))
        .filter_map(|pod| Some((pod, pod.worker.as_deref()?)))
        .collect();
    for index in 0..attempt.workers {
        // A Job makes one pod for each index, and never a second one of ours.
        let mine = pods.iter().filter(|(_, worker)| worker.index == index);
        let found = mine.max_by_key(|(pod, _)| (!pod.ended, pod.created, &pod.name));
        let Some((pod, worker)) = found else {
            let outcome = without_pod(attempt);
            if outcome == Worker::Running && attempt.is_made {
                is_stuck = true;
                seen.silent.get_or_insert(Silent::NoPod);
            }
            seen.workers.push(outcome);
            continue;
        };
        let lost_at = worker.lost.as_ref().map(|it| it.at.saturating_add(LOST_AFTER));
        let lost = worker.lost.as_ref().filter(|_| lost_at <= Some(attempt.now));
        seen.is_taken |= worker.is_taken || lost.is_some();
        if let Some(end) = worker.end.as_ref().or(lost) {
            ends.push((index, end));
            seen.leaving.extend(end.leaving.as_ref().map(|node| (node.to_string(), end.at)));
            seen.workers.push(end.outcome);
            continue;
        }
        seen.lost_at = seen.lost_at.into_iter().chain(lost_at).min();
        seen.workers.push(Worker::Running);
        match worker.running_since {
            Some(since) => {
                seen.running += 1;
                running_since.push(since);
            }
            None => match pod.trouble.as_deref() {
                Some(trouble) => {
                    is_stuck = true;
                    let worst = seen.trouble.as_ref().map(|known| known.reason);
                    if worst.is_none_or(|worst| trouble.reason < worst) {
                        seen.trouble = Some(trouble.clone());
                    }
                }
                None => {
                    let silent = Silent::Pod { name: pod.name.to_string(), created: pod.created };
                    seen.silent.get_or_insert(silent);
                }
            },
        }
    }
    seen.half_since = running_since.into_iter().min().filter(|_| is_stuck);
    seen.end = first(&ends);
    if seen.end.is_none()
        && let Some((reason, message)) = attempt.job.and_then(|job| job.failed.as_ref())
    {
        seen.end = Some(format!("the Job failed: {reason}: {message}"));
    }
    if seen.end.is_none() && attempt.is_made && attempt.job.is_none() {
        seen.end = Some("the Job of its workers was deleted".to_owned());
    }
    seen
}

/// A worker of which there is no pod: it is to be made, or is gone.
fn without_pod(attempt: &Attempt<'_>) -> Worker {
    match attempt.job {
        Some(job) if job.is_complete => Worker::Finished,
        Some(job) if job.failed.is_some() || job.rests() => Worker::Interrupted,
        Some(_) => Worker::Running,
        None if attempt.is_made => Worker::Interrupted,
        None => Worker::Running,
    }
}

/// What a person wants to know of several that ended: what could not start, then failures in the
/// order in which they came, since the first is the cause of the others; then interruptions.
fn first(ends: &[(u32, &End)]) -> Option<String> {
    let rank = |outcome: Worker| match outcome {
        Worker::Failed(Failure::NotStarted) => 0,
        Worker::Failed(Failure::OutOfMemory) => 1,
        Worker::Failed(Failure::Hung | Failure::Crashed) => 2,
        Worker::Interrupted => 3,
        Worker::Running | Worker::Finished => 4,
    };
    let failed = ends.iter().filter(|(_, end)| end.outcome != Worker::Finished);
    let found = failed.min_by_key(|(index, end)| (rank(end.outcome), end.at, *index))?;
    Some(found.1.message.clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn pod(index: u32, attempt: u32, status: Value) -> PodFacts {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": format!("line-{attempt}-{index}-x"),
                "creationTimestamp": "1970-01-01T00:00:05Z",
                "labels": {
                    "trainyard.dev/job": "line", "trainyard.dev/attempt": attempt.to_string(),
                    "batch.kubernetes.io/job-completion-index": index.to_string(),
                },
            },
            "spec": {"containers": []}, "status": status,
        }))
        .expect("a pod");
        PodFacts::of(&pod)
    }

    fn container(state: Value) -> Value {
        json!([{"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}])
    }

    fn running() -> Value {
        let state = json!({"running": {"startedAt": "1970-01-01T00:00:10Z"}});
        json!({"phase": "Running", "containerStatuses": container(state)})
    }

    fn ended(code: i32, second: u32, message: &str) -> Value {
        let at = format!("1970-01-01T00:00:{second:02}Z");
        let state = json!({"terminated": {"exitCode": code, "message": message, "finishedAt": at}});
        json!({"phase": "Failed", "containerStatuses": container(state)})
    }

    fn seen(job: Option<&JobFacts>, is_made: bool, pods: &[PodFacts]) -> Seen {
        let pods: Vec<&PodFacts> = pods.iter().collect();
        observe(&Attempt { number: 2, workers: 2, is_made, job, pods: &pods, now: 100 })
    }

    const RUNNING: Worker = Worker::Running;
    const CRASHED: Worker = Worker::Failed(Failure::Crashed);

    #[test]
    fn what_workers_do() {
        let job = JobFacts::default();
        let made = seen(None, false, &[]);
        assert_eq!((made.workers, made.silent, made.end), (vec![RUNNING; 2], None, None));
        // Pods of the attempt before are none of this one.
        let both = seen(
            Some(&job),
            true,
            &[pod(0, 2, running()), pod(1, 2, running()), pod(0, 1, ended(1, 5, ""))],
        );
        assert_eq!((both.workers, both.running, both.half_since), (vec![RUNNING; 2], 2, None));
        let failed = seen(
            Some(&job),
            true,
            &[
                pod(0, 2, ended(1, 9, "Crashed: a peer is gone")),
                pod(1, 2, ended(1, 8, "Crashed: the cause")),
            ],
        );
        assert_eq!(failed.workers, [CRASHED; 2]);
        assert!(failed.end.is_some_and(|end| end.contains("the cause")));
    }

    #[test]
    fn one_that_is_taken_is_known_while_it_runs() {
        let mut drained = running();
        drained["conditions"] = json!([{"type": "DisruptionTarget", "status": "True"}]);
        let job = JobFacts::default();
        let all = seen(Some(&job), true, &[pod(0, 2, drained.clone()), pod(1, 2, running())]);
        assert_eq!((all.workers, all.is_taken), (vec![RUNNING; 2], true));
        let before = seen(Some(&job), true, &[pod(0, 1, drained), pod(1, 2, running())]);
        assert!(!before.is_taken);
    }

    #[test]
    fn half_a_gang_is_seen() {
        let unschedulable = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: 2 Insufficient cpu."}]});
        let job = JobFacts::default();
        let half = seen(Some(&job), true, &[pod(0, 2, running()), pod(1, 2, unschedulable)]);
        assert_eq!((half.running, half.half_since), (1, Some(10)));
        assert!(half.trouble.is_some());
        let missing = seen(Some(&job), true, &[pod(0, 2, running())]);
        assert_eq!((missing.half_since, missing.silent), (Some(10), Some(Silent::NoPod)));
        // One that pulls its image is on its way.
        let pulling = json!({"phase": "Pending", "containerStatuses": container(json!({"waiting": {"reason": "ContainerCreating"}}))});
        let starting = seen(Some(&job), true, &[pod(0, 2, running()), pod(1, 2, pulling)]);
        assert_eq!(starting.half_since, None);
    }

    #[test]
    fn pods_that_their_node_forgot_count_as_ended_after_a_while() {
        let pods = |second: u32| {
            let init = json!([{"name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0}}}]);
            let sandbox = json!([{"type": "PodReadyToStartContainers", "status": "False",
                "lastTransitionTime": format!("1970-01-01T00:01:{second:02}Z")}]);
            [0, 1].map(|index| {
                let waits = container(json!({"waiting": {"reason": "PodInitializing"}}));
                pod(
                    index,
                    2,
                    json!({"phase": "Pending", "conditions": sandbox,
                    "initContainerStatuses": init, "containerStatuses": waits}),
                )
            })
        };
        let job = JobFacts::default();
        // It is second 100.
        let fresh = seen(Some(&job), true, &pods(11));
        assert_eq!((fresh.workers, fresh.lost_at), (vec![RUNNING; 2], Some(101)));
        let lost = seen(Some(&job), true, &pods(10));
        assert_eq!((lost.workers, lost.lost_at), (vec![Worker::Interrupted; 2], None));
        assert!(lost.end.is_some_and(|end| end.contains("its node was restarted")));
    }

    #[test]
    fn pods_that_are_gone_are_told_by_their_job() {
        let of = |job: JobFacts| seen(Some(&job), true, &[]).workers;
        assert_eq!(
            of(JobFacts { is_complete: true, ..JobFacts::default() }),
            [Worker::Finished; 2]
        );
        let failed = JobFacts { failed: Some(("R".into(), "m".into())), ..JobFacts::default() };
        assert_eq!(of(failed), [Worker::Interrupted; 2]);
        // Its controller may make pods until it has seen that it shall not.
        let asked = JobFacts { asked_to_suspend: true, ..JobFacts::default() };
        assert_eq!(of(asked.clone()), [RUNNING; 2]);
        assert_eq!(of(JobFacts { is_suspended: true, ..asked }), [Worker::Interrupted; 2]);
        // Kueue has let it in, and its controller has not seen that yet.
        assert_eq!(of(JobFacts { is_suspended: true, ..JobFacts::default() }), [RUNNING; 2]);
        let deleted = seen(None, true, &[]);
        assert_eq!(deleted.workers, [Worker::Interrupted; 2]);
        assert!(deleted.end.is_some_and(|end| end.contains("was deleted")));
    }
}
