//! What an operator goes on from, as it stands in the status of a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trainyard_api::TrainingJob;
use trainyard_api::training_job::{TrainingJobSpec, Workers};
use trainyard_control::job::{Phase, State};
use trainyard_control::preflight::{self, Stage};
use trainyard_plan::QueueSystem;
pub(super) use trainyard_queue::Grant as Given;
use trainyard_queue::{Resize, Waiting};

use crate::console::{Elsewhere, Standing};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    pub(super) state: State,
    /// The program and its sizes that were asked for when workers were started last.
    #[serde(default)]
    pub(super) revision: String,
    /// Workers of the last start.
    #[serde(default)]
    pub(super) workers: u32,
    /// The uid of the Job of the last start; none before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<String>,
    /// Why the attempt before ended, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<String>,
    /// What its queue gave it; none while it waits for that, and without a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) given: Option<Given>,
    /// Why it waits in its queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) waiting: Option<Waiting>,
    /// For whom it has to make room, or had to, and why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) preempted: Option<String>,
    /// Its workers end and start again as so many. What they give up is theirs until the last of them
    /// has ended; what they get is theirs already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resize: Option<Resize>,
    /// To whom its next start was handed, or the one that runs; none for one that is Trainyard's own
    /// affair, and between two starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) handed: Option<Handed>,
    /// Why it is not even handed over: what stands against that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) held: Option<Held>,
    /// Whether what it needs was looked for; none where nobody needs to know, and before it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) preflight: Option<Preflight>,
    /// Nodes that their cloud is taking, which the next start is to keep from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) leaving: Vec<Leaving>,
}

/// A node that a worker left since its cloud had said that it takes the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leaving {
    pub(super) node: String,
    /// When the worker left it.
    pub(super) at: Duration,
}

/// How long a node counts as one that is about to go. The clouds take theirs within two minutes of the
/// notice; one that is there after this was not taken, or is another machine of the same name.
const GOES_WITHIN: Duration = Duration::from_secs(600);

/// The look for what workers need, before they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Preflight {
    /// For which spec: its [`revision`].
    pub(super) of: String,
    pub(super) state: preflight::State,
    /// Since when it stands so.
    pub(super) since: Duration,
    /// The uid of the Job that looks; none before it is made, and when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<String>,
    /// What the last look found that is not as it should be, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

impl Preflight {
    pub(super) fn new(of: &str, now: Duration) -> Self {
        let state = preflight::State::default();
        Self { of: of.to_owned(), state, since: now, made: None, why: None }
    }

    /// A person has to mend the spec.
    pub(super) fn is_refused(&self) -> bool {
        self.state.stage == Stage::Refused
    }

    /// It is not known yet whether workers may be made.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state.stage, Stage::Looking | Stage::Pausing { .. })
    }
}

/// A start that another system of the cluster decides about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Handed {
    pub(super) system: QueueSystem,
    pub(super) queue: String,
    /// What was asked for, in short: for something else another Job is made.
    pub(super) asked: String,
    /// Kueue's name of the job's priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) priority_class: Option<String>,
    /// So many workers will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) min_workers: Option<u32>,
    /// Since it was handed over, or let in.
    pub(super) since: Duration,
    /// The uid of the Job that waits or runs; none before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<String>,
    #[serde(default)]
    pub(super) is_let_in: bool,
    /// Whose quota it has, as far as the system says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<String>,
    /// What the system says while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) waiting: Option<Held>,
}

/// Why a job waits: a word, and a text for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) reason: String,
    pub(super) message: String,
}

impl Memory {
    /// Of a job that was just declared.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            state: State::new(now),
            revision: String::new(),
            workers: 0,
            made: None,
            last: None,
            given: None,
            waiting: None,
            preempted: None,
            resize: None,
            handed: None,
            held: None,
            preflight: None,
            leaving: Vec::new(),
        }
    }

    /// Notes nodes that workers of the last start had to leave, by when they did, and forgets old ones.
    pub(super) fn note_leaving(&mut self, seen: &[(String, i64)], now: Duration) {
        for (node, at) in seen {
            let at = Duration::from_secs(u64::try_from(*at).unwrap_or(0));
            match self.leaving.iter_mut().find(|it| it.node == *node) {
                Some(known) => known.at = known.at.max(at),
                None => self.leaving.push(Leaving { node: node.clone(), at }),
            }
        }
        self.leaving.retain(|it| it.at.saturating_add(GOES_WITHIN) > now);
    }

    /// The look that is under way; while there is one, nothing is asked for.
    pub(super) fn look(&self) -> Option<&Preflight> {
        let is_waiting = matches!(self.state.phase, Phase::Waiting { .. });
        self.preflight.as_ref().filter(|it| is_waiting && it.is_open())
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Where a job stands in its queue, as its status says; none for one without a queue, and for one
/// that neither waits nor has anything.
pub(crate) fn stand_in_queue(job: &TrainingJob) -> Option<Standing> {
    job.spec.queue.as_ref()?;
    let Some(text) = job.status.as_ref().and_then(|status| status.memory.as_deref()) else {
        return Some(Standing::Waits(None));
    };
    let memory = Memory::parse(text).ok()?;
    if let Some(handed) = memory.handed {
        let (is_let_in, waiting) = (handed.is_let_in, handed.waiting);
        return Some(Standing::Elsewhere(Elsewhere {
            system: handed.system,
            queue: handed.queue,
            quota: handed.quota,
            since: handed.since,
            workers: is_let_in.then_some(memory.workers),
            waiting: waiting.map(|it| (it.reason, it.message)),
        }));
    }
    if memory.held.is_some() || memory.look().is_some() {
        return None;
    }
    match memory.given {
        Some(Given { queue, assignment, since, .. }) => {
            Some(Standing::Has { queue, assignment, since })
        }
        None if matches!(memory.state.phase, Phase::Waiting { .. }) => {
            Some(Standing::Waits(memory.waiting))
        }
        None => None,
    }
}

/// Names what workers are made of: another one means that they have to start anew. How often, how
/// long and whether at all a job runs is not in it.
pub(super) fn revision(spec: &TrainingJobSpec) -> String {
    let spec = TrainingJobSpec {
        suspend: None,
        retries: None,
        deadline: None,
        ttl_after_finished: None,
        // Whether fewer would do matters to the queue only.
        workers: spec.workers.clone().map(|workers| Workers { min: None, ..workers }),
        priority: None,
        ..spec.clone()
    };
    short_digest(&spec)
}

/// Names what another system is asked for: the workers, and all that their place in its queue
/// depends on.
pub(super) fn asked(spec: &TrainingJobSpec, priority_class: Option<&str>) -> String {
    let min = spec.workers.as_ref().and_then(|workers| workers.min);
    short_digest(&(revision(spec), min, priority_class))
}

fn short_digest(of: &impl Serialize) -> String {
    let digest = Sha256::digest(serde_json::to_vec(of).unwrap_or_default());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn nodes_that_go_are_kept_from_for_a_while() {
    let at = Duration::from_secs;
    let mut memory = Memory::new(at(0));
    let seen = [("a".to_owned(), 1000), ("b".to_owned(), 1100), ("a".to_owned(), 1050)];
    memory.note_leaving(&seen, at(1100));
    let names = |memory: &Memory| -> Vec<String> {
        memory.leaving.iter().map(|it| it.node.clone()).collect()
    };
    assert_eq!(names(&memory), ["a", "b"]);
    assert_eq!(Memory::parse(&memory.to_text()), Ok(memory.clone()));
    // The pods that told it may be there for longer.
    memory.note_leaving(&seen, at(1650));
    assert_eq!(names(&memory), ["b"]);
    memory.note_leaving(&[], at(1700));
    assert_eq!(names(&memory), [""; 0]);
}

#[test]
fn what_is_a_change() {
    let of = |spec: serde_json::Value| revision(&serde_json::from_value(spec).expect("a spec"));
    let spec = || serde_json::json!({"framework": "generic", "command": ["t"], "image": "a"});
    let with = |field: &str, value: serde_json::Value| {
        let mut spec = spec();
        spec[field] = value;
        of(spec)
    };
    let before = of(spec());
    for (field, value) in
        [("suspend", true.into()), ("retries", 9.into()), ("deadline", "1h".into())]
    {
        assert_eq!(with(field, value), before, "{field}");
    }
    assert_ne!(with("image", "b".into()), before);
    assert_eq!(with("priority", 7.into()), before);
    assert_ne!(with("queue", "q".into()), before);
    assert_ne!(with("queuedBy", "kueue".into()), before);
    let of = |spec: &serde_json::Value, class| {
        asked(&serde_json::from_value(spec.clone()).expect("a spec"), class)
    };
    let mut fewer = spec();
    fewer["workers"] = serde_json::json!({"count": 1, "min": 1});
    assert_ne!(of(&spec(), None), of(&spec(), Some("high")));
    assert_ne!(of(&spec(), None), of(&fewer, None));
    assert_eq!(of(&spec(), None), of(&spec(), None));
    let memory = Memory { workers: 2, ..Memory::new(Duration::from_secs(1)) };
    assert_eq!(Memory::parse(&memory.to_text()), Ok(memory));
}
