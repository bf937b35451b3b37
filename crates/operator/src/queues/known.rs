//! Queues and jobs as they are known now, and what was decided about each job.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use trainyard_api::Queue;
use trainyard_api::queue::{QueueStatus, QueueUse};
use trainyard_queue::{
    Admission, Assignment, Decision, Decisions, Eviction, Grant, Growth, Resize, Snapshot, Used,
    Waiting, Workload, decide, queue_of,
};

use crate::key::ResourceKey;

/// What only says when, or how much, is told again this late: each word of it is a write.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queues {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The cluster has queues, and this operator may read them.
    is_served: bool,
    queues: BTreeMap<String, Queue>,
    jobs: HashMap<ResourceKey, Known>,
    /// What pods of deleted jobs have still. Another job may be called as they were.
    left: HashMap<ResourceKey, Vec<Workload>>,
    /// Jobs that were not looked at since this operator leads. What they have is not known yet.
    unvisited: HashSet<ResourceKey>,
    growth: Growth,
}

#[derive(Debug)]
struct Known {
    workload: Workload,
    granted: Option<Granted>,
    waiting: Option<(Waiting, Instant)>,
    eviction: Option<Eviction>,
    /// Another number of workers, of which its status does not know yet.
    resize: Option<Resize>,
}

/// What was decided and is not in the job's status yet.
#[derive(Debug, Clone)]
struct Granted {
    assignment: Assignment,
    since: Duration,
}

/// What was decided about a job.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) granted: Option<Assignment>,
    pub(crate) waiting: Option<Waiting>,
    /// It is to make room.
    pub(crate) eviction: Option<Eviction>,
    /// It is to go on with more or fewer workers.
    pub(crate) resize: Option<Resize>,
}

/// What came of a cycle.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Jobs about which there is something new.
    pub(super) jobs: Vec<ResourceKey>,
    /// The status of each queue whose status is another one: name, uid and status.
    pub(super) statuses: Vec<(String, String, QueueStatus)>,
    /// When there is something to decide though nothing has changed.
    pub(super) again_at: Option<Duration>,
}

impl Queues {
    pub(crate) fn set_served(&self) {
        self.lock().is_served = true;
    }

    pub(crate) fn is_served(&self) -> bool {
        self.lock().is_served
    }

    /// Begins anew, as the jobs are found.
    pub(crate) fn reset(&self, jobs: impl Iterator<Item = ResourceKey>) {
        let mut state = self.lock();
        state.jobs.clear();
        state.left.clear();
        state.growth = Growth::default();
        state.unvisited = jobs.collect();
        self.shared.changed.notify_one();
    }

    /// Takes in what a watch tells of queues.
    pub(super) fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Queue>)) {
        change(&mut self.lock().queues);
        self.shared.changed.notify_one();
    }

    /// What was decided about a job.
    pub(crate) fn told(&self, key: &ResourceKey) -> Told {
        let state = self.lock();
        let Some(known) = state.jobs.get(key) else { return Told::default() };
        Told {
            granted: known.granted.as_ref().map(|granted| granted.assignment.clone()),
            waiting: known.waiting.as_ref().map(|(waiting, _)| waiting.clone()),
            eviction: known.eviction.clone(),
            resize: known.resize.clone(),
        }
    }

    /// Takes in what a job asks for or has, as its status says; none for one that does neither.
    pub(crate) fn put(&self, key: &ResourceKey, workload: Option<Workload>) {
        let mut state = self.lock();
        let was_unvisited = state.unvisited.remove(key);
        let is_news = match workload {
            None => state.jobs.remove(key).is_some(),
            Some(workload) => state.put(key, workload),
        };
        if is_news || was_unvisited && state.unvisited.is_empty() {
            self.shared.changed.notify_one();
        }
    }

    /// A job that is deleted has what it had until its last pod has ended, and it is about to be free:
    /// what its pods say that they were given, or else what is known of it.
    pub(crate) fn leave(&self, key: &ResourceKey, given: Vec<Grant>) {
        if !given.is_empty() {
            self.remain(key, given);
            return self.put(key, None);
        }
        let had = self.lock().jobs.get(key).map(|known| known.workload.clone());
        let left = had.and_then(|workload| {
            let admission = workload.admission.clone()?;
            let admission = Some(Admission { is_leaving: true, ..admission });
            Some(Workload { admission, ..workload })
        });
        self.put(key, left);
    }

    /// Nothing of a deleted job is there any more.
    pub(crate) fn leave_nothing(&self, key: &ResourceKey) {
        self.remain(key, Vec::new());
        self.put(key, None);
    }

    /// What is left of deleted jobs that were called so.
    pub(crate) fn remain(&self, key: &ResourceKey, given: Vec<Grant>) {
        let held = |given: &Grant| given.held_by(Workload::default(), None, true, None);
        let left: Vec<Workload> = given.iter().map(held).collect();
        let mut state = self.lock();
        let before = match left.is_empty() {
            true => state.left.remove(key),
            false => state.left.insert(key.clone(), left.clone()),
        };
        if before.unwrap_or_default() != left {
            self.shared.changed.notify_one();
        }
    }

    /// A job that cannot be read has what it had.
    pub(crate) fn keep(&self, key: &ResourceKey) {
        let mut state = self.lock();
        if state.unvisited.remove(key) && state.unvisited.is_empty() {
            self.shared.changed.notify_one();
        }
    }

    /// Waits until something changed since the last time. For one caller. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Decides about all jobs. Takes milliseconds. None while not all jobs were looked at.
    pub(super) fn cycle(&self, now: Duration) -> Option<Outcome> {
        let (snapshot, keys) = self.lock().snapshot()?;
        let mut decisions = decide(&snapshot, now);
        // Who makes room and who takes it are told in the same way.
        let grown = self.lock().growth.take_in(&snapshot, &decisions, now);
        decisions.shrinks.extend(grown);
        Some(self.lock().take_in(&snapshot, &keys, decisions, now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// True if it is news.
    fn put(&mut self, key: &ResourceKey, workload: Workload) -> bool {
        let Some(known) = self.jobs.get_mut(key) else {
            let known =
                Known { workload, granted: None, waiting: None, eviction: None, resize: None };
            self.jobs.insert(key.clone(), known);
            return true;
        };
        if known.workload == workload {
            return false;
        }
        match &workload.admission {
            Some(admission) => {
                (known.granted, known.waiting) = (None, None);
                if admission.is_leaving {
                    (known.eviction, known.resize) = (None, None);
                }
                let is_taken_in = known
                    .resize
                    .as_ref()
                    .is_some_and(|it| admission.shrinks_to.unwrap_or(admission.count) == it.to);
                if is_taken_in {
                    known.resize = None;
                }
            }
            None => {
                // What was granted was granted to another request.
                (known.granted, known.eviction, known.resize) = (None, None, None);
            }
        }
        known.workload = workload;
        true
    }

    fn snapshot(&self) -> Option<(Snapshot, BTreeMap<String, ResourceKey>)> {
        if !self.unvisited.is_empty() {
            return None;
        }
        let mut snapshot = Snapshot::default();
        for (name, resource) in &self.queues {
            snapshot.queues.insert(name.clone(), queue_of(&resource.spec));
        }
        let mut keys = BTreeMap::new();
        for (key, known) in &self.jobs {
            let mut workload = known.workload.clone();
            if let Some(granted) = &known.granted {
                workload.admission = Some(Admission {
                    flavour: granted.assignment.flavour.clone(),
                    count: granted.assignment.count,
                    since: granted.since,
                    ends_by: workload.run_time.map(|it| granted.since.saturating_add(it)),
                    is_leaving: false,
                    shrinks_to: None,
                });
            } else if let Some(admission) = &mut workload.admission {
                admission.is_leaving |= known.eviction.is_some();
                match &known.resize {
                    Some(resize) if resize.is_growth() => admission.count = resize.to,
                    Some(resize) => admission.shrinks_to = Some(resize.to),
                    None => {}
                }
            }
            snapshot.workloads.insert(key.to_string(), workload);
            keys.insert(key.to_string(), key.clone());
        }
        for (key, left) in &self.left {
            for (number, workload) in left.iter().enumerate() {
                // No job is called so, and nobody is told what is decided about it.
                let name = format!("{key} (deleted, {number})");
                snapshot.workloads.insert(name, workload.clone());
            }
        }
        Some((snapshot, keys))
    }

    fn take_in(
        &mut self,
        snapshot: &Snapshot,
        keys: &BTreeMap<String, ResourceKey>,
        decisions: Decisions,
        now: Duration,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for (name, eviction) in decisions.evictions {
            let Some(key) = keys.get(&name) else { continue };
            let Some(known) = self.jobs.get_mut(key) else { continue };
            // One that was granted and has not started waits again.
            match known.granted.take() {
                Some(_) => {}
                None if known.workload.admission.is_some() => {
                    (known.eviction, known.resize) = (Some(eviction), None);
                }
                None => continue,
            }
            outcome.jobs.push(key.clone());
        }
        for (name, resize) in decisions.shrinks {
            let Some(key) = keys.get(&name) else { continue };
            let Some(known) = self.jobs.get_mut(key) else { continue };
            // It may have ended or changed meanwhile.
            if known.workload.admission.is_some() {
                known.resize = Some(resize);
                outcome.jobs.push(key.clone());
            }
        }
        outcome.again_at = self.growth.look_again_at();
        for (name, decision) in decisions.pending {
            let Some(key) = keys.get(&name) else { continue };
            let Some(known) = self.jobs.get_mut(key) else { continue };
            // It is another one by now, and is decided about again.
            if snapshot.workloads.get(&name) != Some(&known.workload) || known.granted.is_some() {
                continue;
            }
            match decision {
                Decision::Admit(assignment) => {
                    known.granted = Some(Granted { assignment, since: now });
                    outcome.jobs.push(key.clone());
                }
                Decision::Wait(waiting) if is_worth_telling(known.waiting.as_ref(), &waiting) => {
                    known.waiting = Some((waiting, Instant::now()));
                    outcome.jobs.push(key.clone());
                }
                Decision::Wait(_) => {}
            }
        }
        let mut counts: HashMap<&str, (u32, u32)> = HashMap::new();
        for left in self.left.values().flatten() {
            counts.entry(&left.queue).or_default().1 += 1;
        }
        for known in self.jobs.values() {
            let (waiting, admitted) = counts.entry(&known.workload.queue).or_default();
            match known.workload.admission.is_some() || known.granted.is_some() {
                true => *admitted += 1,
                false => *waiting += 1,
            }
        }
        for (name, queue) in &self.queues {
            let Some(used) = decisions.used.get(name) else { continue };
            let counts = counts.get(name.as_str()).copied().unwrap_or_default();
            let status = status(queue.metadata.generation, counts, used);
            if queue.status.as_ref() != Some(&status) {
                let uid = queue.metadata.uid.clone().unwrap_or_default();
                outcome.statuses.push((name.clone(), uid, status));
            }
        }
        outcome
    }
}

fn is_worth_telling(before: Option<&(Waiting, Instant)>, after: &Waiting) -> bool {
    let Some((before, at)) = before else { return true };
    after.is_news_after(before) || before != after && at.elapsed() >= TELL_AGAIN
}

fn status(generation: Option<i64>, (waiting, admitted): (u32, u32), used: &Used) -> QueueStatus {
    let usage = used.flavours.iter().map(|it| QueueUse {
        pool: it.flavour.clone(),
        resource: it.resource.to_string().to_lowercase(),
        used: it.resource.show(it.used),
        nominal: it.resource.show(it.nominal),
        borrowed: it.resource.show(it.borrowed),
    });
    QueueStatus {
        observed_generation: generation,
        waiting,
        admitted,
        usage: usage.collect(),
        share: used.share,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trainyard_queue::Amounts;

    use super::*;
    use crate::key::Declared;

    fn key(name: &str) -> ResourceKey {
        ResourceKey::new(Declared::TrainingJob, "ml", name)
    }

    fn queues(gpus: u32) -> Queues {
        let queues = Queues::default();
        let queue: Queue = serde_json::from_value(serde_json::json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "Queue",
            "metadata": {"name": "q", "uid": "u", "generation": 1},
            "spec": {
                "quotas": [{"pool": "t4", "gpu": {"nominal": gpus}}],
                "preemption": {"withinQueue": "lowerPriority"},
            },
        }))
        .expect("a queue");
        queues.change(|all| drop(all.insert("q".to_owned(), queue)));
        queues
    }

    fn asks(gpus: u32, priority: i32) -> Workload {
        Workload {
            queue: "q".to_owned(),
            priority,
            per_worker: Amounts { gpu: 1, ..Amounts::default() },
            count: gpus,
            flavours: vec!["t4".to_owned()],
            ..Workload::default()
        }
    }

    fn has(workload: &Workload, is_leaving: bool) -> Workload {
        let admission = Admission {
            flavour: "t4".to_owned(),
            count: workload.count,
            since: Duration::from_secs(1),
            ends_by: None,
            is_leaving,
            shrinks_to: None,
        };
        Workload { admission: Some(admission), ..workload.clone() }
    }

    const NOW: Duration = Duration::from_secs(9);

    #[test]
    fn nothing_is_decided_before_all_were_looked_at() {
        let queues = queues(1);
        queues.reset([key("a"), key("b")].into_iter());
        queues.put(&key("a"), Some(asks(1, 0)));
        assert!(queues.cycle(NOW).is_none());
        queues.put(&key("b"), Some(has(&asks(1, 0), false)));
        let outcome = queues.cycle(NOW).expect("all are known");
        assert_eq!(outcome.jobs, [key("a")]);
        assert!(queues.told(&key("a")).granted.is_none());
        let status = &outcome.statuses[0].2;
        assert_eq!((status.waiting, status.admitted, &*status.usage[0].used), (1, 1, "1"));
    }

    /// What was granted counts before it is in any status, and is given once.
    #[test]
    fn what_was_granted_is_used() {
        let queues = queues(1);
        queues.put(&key("a"), Some(asks(1, 0)));
        queues.cycle(NOW);
        assert!(queues.told(&key("a")).granted.is_some());
        queues.put(&key("b"), Some(asks(1, 0)));
        queues.cycle(NOW);
        assert!(queues.told(&key("b")).granted.is_none());
        let again = queues.cycle(NOW).expect("all are known");
        assert!(again.jobs.is_empty(), "{again:?}");
        queues.put(&key("a"), Some(has(&asks(1, 0), false)));
        assert!(queues.told(&key("a")).granted.is_none());
        queues.put(&key("a"), None);
        queues.cycle(NOW);
        assert!(queues.told(&key("b")).granted.is_some());
    }

    #[test]
    fn a_deleted_job_has_its_quota_until_its_pods_have_ended() {
        let queues = queues(1);
        queues.put(&key("old"), Some(has(&asks(1, 0), false)));
        queues.put(&key("next"), Some(asks(1, 5)));
        queues.leave(&key("old"), Vec::new());
        let outcome = queues.cycle(NOW).expect("all are known");
        assert_eq!(outcome.statuses[0].2.admitted, 1);
        assert!(queues.told(&key("next")).granted.is_none());
        // It leaves already: nobody is told to make room.
        assert!(queues.told(&key("old")).eviction.is_none());
        queues.put(&key("old"), None);
        queues.cycle(NOW);
        assert!(queues.told(&key("next")).granted.is_some());
        // One that only waited has nothing to keep.
        queues.put(&key("waits"), Some(asks(1, 0)));
        queues.leave(&key("waits"), Vec::new());
        let outcome = queues.cycle(NOW).expect("all are known");
        assert_eq!(outcome.statuses[0].2.waiting, 0);
    }

    fn given(gpus: u32) -> Grant {
        Grant {
            queue: "q".to_owned(),
            assignment: Assignment { flavour: "t4".to_owned(), count: gpus, borrows: false },
            per_worker: Amounts { gpu: 1, ..Amounts::default() },
            since: Duration::from_secs(1),
            resized: None,
        }
    }

    #[test]
    fn a_new_operator_learns_from_pods_what_a_deleted_job_has() {
        let queues = queues(3);
        queues.reset([key("old"), key("next")].into_iter());
        queues.put(&key("next"), Some(asks(2, 5)));
        assert!(queues.cycle(NOW).is_none(), "what the pods have is not known yet");
        queues.leave(&key("old"), vec![given(2)]);
        let status = queues.cycle(NOW).expect("all are known").statuses[0].2.clone();
        assert_eq!((status.waiting, status.admitted, &*status.usage[0].used), (1, 1, "2"));
        assert!(queues.told(&key("next")).granted.is_none());
        // Another job of that name asks, and what was left is not its own.
        queues.remain(&key("old"), vec![given(2)]);
        queues.put(&key("old"), Some(asks(1, 0)));
        queues.cycle(NOW);
        assert!(queues.told(&key("next")).granted.is_none());
        queues.remain(&key("old"), Vec::new());
        queues.cycle(NOW);
        assert!(queues.told(&key("next")).granted.is_some());
        // It was known by what it had, and is known by its pods now: once, not twice.
        queues.put(&key("next"), Some(has(&asks(2, 5), false)));
        queues.leave(&key("next"), vec![given(2)]);
        let status = queues.cycle(NOW).expect("all are known").statuses[0].2.clone();
        assert_eq!((status.admitted, &*status.usage[0].used), (2, "3"));
        queues.leave_nothing(&key("next"));
        assert_eq!(queues.cycle(NOW).expect("known").statuses[0].2.usage[0].used, "1");
    }

    proptest! {
        /// Pods of deleted jobs end one after the other, others of the same names ask, and operators come
        /// and go: nothing is given away that pods have still.
        #[test]
        fn what_pods_have_is_given_to_nobody(
            capacity in 1u32..6,
            mut pods in prop::collection::vec(0u32..3, 3),
            asked in prop::collection::vec(1u32..4, 3),
            events in prop::collection::vec((0u32..6, 0usize..3), 0..60),
        ) {
            let queues = queues(capacity);
            let mut has_it = [false; 3];
            let names = ["a", "b", "c"];
            queues.reset(names.into_iter().map(key));
            for (event, at) in events {
                let key = key(names[at]);
                match event {
                    0 => pods[at] = 0,
                    1 => queues.reset(names.into_iter().map(self::key)),
                    2 => drop(queues.cycle(NOW)),
                    _ => {
                        let left = (pods[at] > 0).then(|| given(pods[at]));
                        queues.remain(&key, left.into_iter().collect());
                        has_it[at] |= queues.told(&key).granted.is_some();
                        let workload = asks(asked[at], 0);
                        let workload = if has_it[at] { has(&workload, false) } else { workload };
                        queues.put(&key, Some(workload));
                    }
                }
                let used = asked.iter().zip(has_it).filter(|(_, it)| *it).map(|(asked, _)| *asked);
                let used: u32 = used.sum();
                prop_assert!(used == 0 || used + pods.iter().sum::<u32>() <= capacity);
            }
        }
    }

    #[test]
    fn who_is_pushed_out_is_told_once() {
        let queues = queues(1);
        queues.put(&key("low"), Some(has(&asks(1, 0), false)));
        queues.put(&key("high"), Some(asks(1, 5)));
        queues.cycle(NOW);
        let eviction = queues.told(&key("low")).eviction.expect("it makes room");
        assert_eq!(eviction.for_whom, "ml/high");
        assert!(queues.cycle(NOW).expect("known").jobs.iter().all(|it| *it != key("low")));
        queues.put(&key("low"), Some(has(&asks(1, 0), true)));
        assert!(queues.told(&key("low")).eviction.is_none());
        queues.put(&key("low"), Some(asks(1, 0)));
        queues.cycle(NOW);
        assert!(queues.told(&key("high")).granted.is_some());
        assert!(queues.told(&key("low")).granted.is_none());
    }

    /// One that can do with one worker of two, and has some.
    fn elastic(has: u32, shrinks_to: Option<u32>) -> Workload {
        let asks = Workload {
            min_count: Some(1),
            restart_cost: Some(Duration::from_secs(1)),
            ..asks(2, 0)
        };
        let mut workload = self::has(&asks, false);
        let admission = workload.admission.as_mut().expect("it runs");
        (admission.count, admission.shrinks_to) = (has, shrinks_to);
        workload
    }

    #[test]
    fn who_shrinks_is_told_until_it_does() {
        let queues = queues(2);
        queues.put(&key("low"), Some(elastic(2, None)));
        queues.put(&key("high"), Some(asks(1, 5)));
        queues.cycle(NOW);
        let told = |name| queues.told(&key(name)).resize;
        assert_eq!(told("low").map(|it| (it.from, it.to)), Some((2, 1)));
        // What is not in its status yet was decided all the same.
        let again = queues.cycle(NOW).expect("all are known");
        assert!(again.jobs.iter().all(|it| *it != key("low")), "{again:?}");
        let other = Workload { priority: -1, ..elastic(2, None) };
        queues.put(&key("low"), Some(other));
        assert!(told("low").is_some(), "it changed, and has not heard of it");
        queues.put(&key("low"), Some(elastic(2, Some(1))));
        assert_eq!(told("low"), None);
        queues.cycle(NOW);
        assert!(queues.told(&key("high")).granted.is_none(), "its pods are there still");
        queues.put(&key("low"), Some(elastic(1, None)));
        queues.cycle(NOW);
        assert!(queues.told(&key("high")).granted.is_some());
        // One more important takes all of it.
        queues.put(&key("high"), Some(has(&asks(1, 5), false)));
        queues.put(&key("highest"), Some(asks(2, 9)));
        queues.cycle(NOW);
        assert!(queues.told(&key("low")).eviction.is_some() && told("low").is_none());
    }

    #[test]
    fn what_one_grows_into_is_its_own_at_once() {
        let queues = queues(2);
        queues.put(&key("low"), Some(elastic(1, None)));
        let outcome = queues.cycle(NOW).expect("all are known");
        assert_eq!(outcome.again_at, Some(NOW + Duration::from_secs(1)));
        let later = NOW + Duration::from_secs(1);
        assert_eq!(queues.cycle(later).expect("known").jobs, [key("low")]);
        assert_eq!(queues.told(&key("low")).resize.map(|it| (it.from, it.to)), Some((1, 2)));
        queues.put(&key("late"), Some(asks(1, 0)));
        queues.cycle(later);
        assert!(queues.told(&key("late")).granted.is_none());
        queues.put(&key("low"), Some(elastic(2, None)));
        assert_eq!(queues.told(&key("low")).resize, None);
    }
}
