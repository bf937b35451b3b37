//! Which objects of a job's starts are of no use any more.

use trainyard_control::job::Phase;
use trainyard_plan::kubernetes::{JobRun, job_name};

use super::memory::Memory;
use super::preflight;
use crate::key::ResourceKey;
use crate::kinds::{self, KindIndex};
use crate::world::{Child, JobFacts};

/// Whether a child of a job is of one of its starts, or of a look before one, and of none that anybody
/// needs. `jobs` is the kind of Jobs.
pub(super) fn is_left(child: &Child, memory: &Memory, jobs: KindIndex, key: &ResourceKey) -> bool {
    is_of_a_start(child, jobs, key)
        && !is_kept(child, memory, jobs, key)
        && !preflight::is_of_look(child, memory, key)
}

/// A Job of a start, or what belongs to that start alone and is called as its Job.
fn is_of_a_start(child: &Child, jobs: KindIndex, key: &ResourceKey) -> bool {
    let attempt = child.name.strip_prefix(&*key.name).and_then(|it| it.strip_prefix('-'));
    let is_named = attempt.is_some_and(|it| it.parse::<u32>().is_ok());
    child.kind == jobs || is_named && (is_gang(child) || kind(child) == "ConfigMap")
}

/// Of the start that runs, of the next one where that was handed over, and of the one before: that
/// stays, with the logs of its workers, as long as the last one.
fn is_kept(child: &Child, memory: &Memory, jobs: KindIndex, key: &ResourceKey) -> bool {
    let state = &memory.state;
    let named = |attempt: u32| *child.name == *job_name(&key.name, JobRun::Attempt(attempt));
    let waits = memory.handed.as_ref().filter(|it| !it.is_let_in);
    let is_next = waits.is_some() && named(state.attempts.saturating_add(1));
    let is_asked =
        child.kind != jobs || waits.is_some_and(|it| it.made.as_deref() == Some(&*child.uid));
    let is_over = child.job.as_deref().is_some_and(JobFacts::is_over);
    // A gang whose pods are gone stands in Volcano's line once more, and room is kept for it.
    let has_pods = matches!(state.phase, Phase::Running | Phase::Ending(_));
    named(state.attempts) && (has_pods || !is_gang(child))
        || is_next && is_asked
        || is_over && state.attempts > 1 && named(state.attempts - 1)
}

fn is_gang(child: &Child) -> bool {
    kind(child) == "PodGroup"
}

fn kind(child: &Child) -> &'static str {
    kinds::owned(child.kind).kind
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use trainyard_control::job::Because;
    use trainyard_plan::QueueSystem;

    use super::*;
    use crate::jobs::memory::Handed;
    use crate::key::Declared;

    const JOB: (&str, &str) = ("batch/v1", "Job");
    const GANG: (&str, &str) = ("scheduling.volcano.sh/v1beta1", "PodGroup");

    /// Whether it is left of a job `line` that has this phase, and whose third start was handed to
    /// Volcano where it waits.
    #[track_caller]
    fn check(what: (&str, &str), name: &str, phase: Phase, is_over: bool, expected: bool) {
        let key = ResourceKey::new(Declared::TrainingJob, "ml", "line");
        let index = |(version, kind)| kinds::index_of(version, kind).expect("a kind of ours");
        let conditions = json!([{"type": "Complete", "status": "True"}]);
        let object = json!({
            "apiVersion": what.0, "kind": what.1, "metadata": {"name": name, "uid": "u"},
            "spec": {"template": {}},
            "status": {"conditions": if is_over { conditions } else { json!([]) }},
        });
        let child = Child::of(index(what), &key, &object).expect("an object");
        let mut memory = Memory::new(Duration::ZERO);
        (memory.state.phase, memory.state.attempts) = (phase, 2);
        if matches!(phase, Phase::Waiting { .. }) {
            memory.handed = Some(Handed {
                system: QueueSystem::Volcano,
                queue: "team-a".to_owned(),
                asked: String::new(),
                priority_class: None,
                min_workers: None,
                since: Duration::ZERO,
                made: Some("u".to_owned()),
                is_let_in: false,
                quota: None,
                waiting: None,
            });
        }
        assert_eq!(is_left(&child, &memory, index(JOB), &key), expected, "{name} while {phase:?}");
    }

    #[test]
    fn table() {
        let waiting = Phase::Waiting { until: Duration::ZERO };
        check(JOB, "line-2", Phase::Running, false, false);
        check(JOB, "line-1", Phase::Running, true, false);
        check(JOB, "line-1", Phase::Running, false, true);
        check(JOB, "line-3", waiting, false, false);
        check(JOB, "line-3", Phase::Running, false, true);
        check(JOB, "line-2", Phase::Succeeded, true, false);

        check(GANG, "line-2", Phase::Running, false, false);
        check(GANG, "line-2", Phase::Ending(Because::Preempted), false, false);
        check(GANG, "line-3", waiting, false, false);
        for over in [waiting, Phase::Interrupted, Phase::Succeeded, Phase::Failed] {
            check(GANG, "line-2", over, false, true);
        }
        check(GANG, "line-1", Phase::Running, false, true);
        check(GANG, "line-of-mine", Phase::Succeeded, false, false);

        check(("v1", "ConfigMap"), "line-2", Phase::Running, false, false);
        check(("v1", "ConfigMap"), "line-1", Phase::Running, false, true);
        check(("v1", "ConfigMap"), "line-settings", Phase::Succeeded, false, false);
    }
}
