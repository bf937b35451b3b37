//! What holds of every decision, over whole lives of queues in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use trainyard_queue::{
    Admission, Amounts, Because, BorrowWithinCohort, Decision, Decisions, Eviction, FlavourQuota,
    Growth, Machine, Queue, Quota, ReclaimWithinCohort, Snapshot, Strategy as Order, Wait, Why,
    WithinQueue, Workload, decide,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A workload, when it comes and how long it really runs.
#[derive(Debug, Clone)]
struct Job {
    workload: Workload,
    comes: u64,
    runs_for: u64,
}

fn quota() -> impl Strategy<Value = Quota> {
    (0u64..6, proptest::option::of(0u64..5), proptest::option::of(0u64..5)).prop_map(
        |(nominal, borrowing_limit, lending_limit)| Quota {
            nominal,
            borrowing_limit,
            lending_limit,
        },
    )
}

fn queue(order: impl Strategy<Value = Order>) -> impl Strategy<Value = Queue> {
    let flavour = |name: &'static str| {
        (proptest::option::of(quota()), quota()).prop_map(move |(cpu, gpu)| FlavourQuota {
            flavour: name.to_owned(),
            cpu,
            memory: None,
            gpu: Some(gpu),
        })
    };
    let preemption = (0..3usize, 0..3usize, 0..3usize);
    (any::<bool>(), flavour("t4"), proptest::option::of(flavour("a100")), order, preemption)
        .prop_map(|(is_shared, first, second, strategy, (within, reclaim, borrow))| {
            let mut queue = Queue {
                cohort: is_shared.then(|| "all".to_owned()),
                flavours: [Some(first), second].into_iter().flatten().collect(),
                strategy,
                ..Queue::default()
            };
            use BorrowWithinCohort as B;
            queue.preemption.within_queue = [
                WithinQueue::Never,
                WithinQueue::LowerPriority,
                WithinQueue::LowerOrNewerEqualPriority,
            ][within];
            queue.preemption.reclaim_within_cohort = [
                ReclaimWithinCohort::Never,
                ReclaimWithinCohort::LowerPriority,
                ReclaimWithinCohort::Any,
            ][reclaim];
            queue.preemption.borrow_within_cohort = [
                B::Never,
                B::LowerPriority { max_priority: None },
                B::LowerPriority { max_priority: Some(1) },
            ][borrow];
            queue
        })
}

fn job() -> impl Strategy<Value = Job> {
    let size = (1u32..5, 0u64..2, 1u32..5);
    let times = (0u64..30, 1u64..20, 0u64..5, any::<bool>());
    (0..3usize, 0..3i32, size, times, any::<bool>()).prop_map(
        |(queue, priority, (count, cpu, min), (comes, runs_for, slack, is_known), any)| Job {
            workload: Workload {
                queue: ["a", "b", "c"][queue].to_owned(),
                priority,
                created: at(comes),
                per_worker: Amounts { cpu, memory: 0, gpu: 1 },
                count,
                min_count: (min < count).then_some(min),
                // Half of those that know how long they run may grow, and half of the others.
                restart_cost: (slack % 2 == 0).then_some(at(1)),
                flavours: match any {
                    true => vec!["t4".to_owned(), "a100".to_owned()],
                    false => vec!["t4".to_owned()],
                },
                run_time: is_known.then(|| at(runs_for + slack)),
                admission: None,
            },
            comes,
            runs_for,
        },
    )
}

fn queues(
    order: impl Strategy<Value = Order> + Clone,
    weights: bool,
) -> impl Strategy<Value = BTreeMap<String, Queue>> {
    let weight = move || match weights {
        true => proptest::option::of(1u32..4).boxed(),
        false => Just(None).boxed(),
    };
    let one = (queue(order), weight()).prop_map(|(queue, weight)| Queue { weight, ..queue });
    proptest::collection::vec(one, 3)
        .prop_map(|queues| ["a", "b", "c"].map(str::to_owned).into_iter().zip(queues).collect())
}

fn any_order() -> impl Strategy<Value = Order> + Clone {
    prop_oneof![Just(Order::StrictFifo), Just(Order::BestEffortFifo), Just(Order::Backfill)]
}

/// Of what nobody may have too much, told without the code under test.
fn quotas_hold(snapshot: &Snapshot) {
    let used = |queue: &str, flavour: &str, of: fn(&Amounts) -> u64| -> u64 {
        let mine = snapshot.workloads.values().filter(|it| it.queue == queue);
        mine.filter_map(|it| Some((it, it.admission.as_ref()?)))
            .filter(|(_, admission)| admission.flavour == flavour)
            .map(|(it, admission)| of(&it.per_worker) * u64::from(admission.count))
            .sum()
    };
    type Get = (fn(&FlavourQuota) -> Option<Quota>, fn(&Amounts) -> u64);
    let resources: [Get; 2] = [(|it| it.cpu, |it| it.cpu), (|it| it.gpu, |it| it.gpu)];
    for (get, of) in resources {
        for flavour in ["t4", "a100"] {
            let mut pool: BTreeMap<Option<&str>, (u64, u64)> = BTreeMap::new();
            for (name, queue) in &snapshot.queues {
                let quota = queue.flavours.iter().find(|it| it.flavour == flavour).and_then(get);
                let Some(quota) = quota else { continue };
                let used = used(name, flavour, of);
                let Some(cohort) = queue.cohort.as_deref() else {
                    assert!(used <= quota.nominal, "{name} uses {used} of {quota:?}");
                    continue;
                };
                if let Some(limit) = quota.borrowing_limit {
                    assert!(used <= quota.nominal + limit, "{name} uses {used} of {quota:?}");
                }
                let kept = quota.lending_limit.map_or(0, |it| quota.nominal.saturating_sub(it));
                let (all, most) = pool.entry(Some(cohort)).or_default();
                *all += used.max(kept);
                *most += quota.nominal;
            }
            for (all, most) in pool.values() {
                assert!(all <= most, "the cohort uses or keeps {all} of {most}");
            }
        }
    }
}

/// Who makes room, wholly or in part.
fn who_gives(decisions: &Decisions) -> impl Iterator<Item = (&String, &Eviction)> {
    let in_part = decisions.shrinks.iter().filter_map(|(name, resize)| match &resize.why {
        Why::MakesRoom(eviction) => Some((name, eviction)),
        Why::Room | Why::NodesMissing => None,
    });
    decisions.evictions.iter().chain(in_part)
}

/// Who shrinks keeps what it needs at least, and is smaller than before.
fn shrinks_are_real(snapshot: &Snapshot, decisions: &Decisions) {
    for (name, resize) in &decisions.shrinks {
        assert!(!decisions.evictions.contains_key(name), "{name} shrinks and goes");
        let workload = &snapshot.workloads[name];
        let has = workload.admission.as_ref().expect("it runs");
        let least = workload.min_count.expect("it can do with fewer");
        assert_eq!(resize.from, has.shrinks_to.unwrap_or(has.count));
        assert!((least..resize.from).contains(&resize.to), "{name} goes {resize}, needs {least}");
    }
}

/// Whoever makes room may be made to by that one, under the policy of that one's queue.
fn evictions_are_allowed(snapshot: &Snapshot, decisions: &Decisions) {
    for (name, eviction) in who_gives(decisions) {
        let victim = &snapshot.workloads[name];
        let asker = &snapshot.workloads[&eviction.for_whom];
        let (mine, theirs) = (&snapshot.queues[&asker.queue], &snapshot.queues[&victim.queue]);
        assert!(asker.admission.is_none() && victim.admission.is_some());
        let Decision::Wait(waiting) = &decisions.pending[&eviction.for_whom] else {
            panic!("{} starts before {name} has left", eviction.for_whom)
        };
        let Wait::Preempting { victims } = &waiting.reason else { panic!("{waiting:?}") };
        assert!(victims.contains(name));
        let is_lower = victim.priority < asker.priority;
        if asker.queue == victim.queue {
            assert_eq!(eviction.because, Because::Priority);
            match mine.preemption.within_queue {
                WithinQueue::Never => panic!("{name} goes"),
                WithinQueue::LowerPriority => assert!(is_lower),
                WithinQueue::LowerOrNewerEqualPriority => assert!(
                    is_lower
                        || victim.priority == asker.priority && victim.created >= asker.created
                ),
            }
            continue;
        }
        assert!(mine.cohort.is_some() && mine.cohort == theirs.cohort);
        match mine.preemption.reclaim_within_cohort {
            ReclaimWithinCohort::Never => panic!("{name} goes"),
            ReclaimWithinCohort::LowerPriority => assert!(is_lower),
            ReclaimWithinCohort::Any => {}
        }
        if eviction.because == Because::BorrowedForPriority {
            assert!(is_lower && mine.preemption.borrow_within_cohort != BorrowWithinCohort::Never);
        }
    }
}

/// A life of queues: who comes, starts, is pushed out, leaves a second later and comes again.
struct Life {
    jobs: BTreeMap<String, Job>,
    /// How long each really runs.
    lengths: BTreeMap<String, u64>,
    snapshot: Snapshot,
    /// When those that run end, or have left.
    ends: BTreeMap<String, u64>,
    /// When each that was the first of its queue was to start at the latest.
    promised: BTreeMap<String, Duration>,
    started: BTreeMap<String, u64>,
    now: u64,
    /// When each that was told to shrink has done so.
    shrinks: BTreeMap<String, u64>,
    growth: Growth,
    /// Who has had another number of workers, since when, and how many.
    resized: Vec<(u64, String, u32)>,
    /// On which all of it happens; none where that is somebody else's affair.
    machine: Option<Machine>,
}

impl Life {
    fn new(queues: &BTreeMap<String, Queue>, jobs: &[Job]) -> Self {
        let named = |(at, job): (usize, &Job)| (format!("j{at:02}"), job.clone());
        Self {
            jobs: jobs.iter().enumerate().map(named).collect(),
            snapshot: Snapshot { queues: queues.clone(), workloads: BTreeMap::new() },
            lengths: BTreeMap::new(),
            ends: BTreeMap::new(),
            promised: BTreeMap::new(),
            started: BTreeMap::new(),
            now: 0,
            shrinks: BTreeMap::new(),
            growth: Growth::default(),
            resized: Vec::new(),
            machine: None,
        }
    }

    fn decide(&self) -> Decisions {
        match &self.machine {
            None => decide(&self.snapshot, at(self.now)),
            Some(machine) => machine.decide(&self.snapshot, at(self.now)),
        }
    }

    /// What runs has room, told without the code under test.
    fn machine_holds(&self) {
        let Some(machine) = &self.machine else { return };
        let running = self.snapshot.workloads.values();
        let running = running.filter_map(|it| Some((it.per_worker, it.admission.as_ref()?.count)));
        let (mut cpu, mut gpu) = (0, 0);
        for (per_worker, count) in running {
            cpu += per_worker.cpu * u64::from(count);
            gpu += per_worker.gpu * u64::from(count);
        }
        let all = machine.capacity;
        assert!(cpu <= all.cpu && gpu <= all.gpu, "{cpu} and {gpu} of {all:?} are used");
    }

    /// Goes on until nothing happens any more. Returns who has not finished, and why.
    fn run(&mut self) -> Vec<(String, Wait)> {
        for _ in 0..400 {
            let arrived = self.jobs.iter().filter(|(_, job)| job.comes <= self.now);
            let arrived: Vec<String> = arrived.map(|(name, _)| name.clone()).collect();
            for name in arrived {
                if let Some(job) = self.jobs.remove(&name) {
                    self.lengths.insert(name.clone(), job.runs_for);
                    self.snapshot.workloads.insert(name.clone(), job.workload);
                    self.started.insert(name, u64::MAX);
                }
            }
            let decisions = self.cycle();
            let next = self.jobs.values().map(|job| job.comes).chain(self.ends.values().copied());
            let next = next.chain(self.shrinks.values().copied());
            let next = next.chain(self.growth.look_again_at().map(|it| it.as_secs()));
            let Some(next) = next.min() else {
                let waits = decisions.pending.into_iter().filter_map(|(name, decision)| {
                    let Decision::Wait(waiting) = decision else { return None };
                    Some((name, waiting.reason))
                });
                return waits.collect();
            };
            self.now = next;
        }
        panic!("it goes on for ever");
    }

    fn cycle(&mut self) -> Decisions {
        let ended: Vec<String> = self
            .ends
            .iter()
            .filter(|(_, end)| **end <= self.now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            self.ends.remove(&name);
            let workload = self.snapshot.workloads.get_mut(&name).expect("it runs");
            match workload.admission.as_ref().is_some_and(|it| it.is_leaving) {
                true => workload.admission = None,
                false => drop(self.snapshot.workloads.remove(&name)),
            }
        }
        let shrunk: Vec<String> = self
            .shrinks
            .iter()
            .filter(|(_, at)| **at <= self.now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in shrunk {
            self.shrinks.remove(&name);
            let Some(workload) = self.snapshot.workloads.get_mut(&name) else { continue };
            let Some(admission) = &mut workload.admission else { continue };
            if let Some(to) = admission.shrinks_to.take() {
                (admission.count, admission.since) = (to, at(self.now));
                self.resized.push((self.now, name, to));
            }
        }
        let decisions = self.decide();
        assert_eq!(decisions, self.decide());
        shrinks_are_real(&self.snapshot, &decisions);
        if !self.snapshot.queues.is_empty() {
            evictions_are_allowed(&self.snapshot, &decisions);
        }
        let grown = self.growth.take_in(&self.snapshot, &decisions, at(self.now));
        for (name, decision) in &decisions.pending {
            let workload = self.snapshot.workloads.get_mut(name).expect("it waits");
            match decision {
                Decision::Admit(assignment) => {
                    let least = workload.min_count.unwrap_or(workload.count);
                    assert!((least..=workload.count).contains(&assignment.count));
                    assert!(workload.flavours.contains(&assignment.flavour));
                    let ends_by = workload.run_time.map(|it| at(self.now) + it);
                    workload.admission = Some(Admission {
                        flavour: assignment.flavour.clone(),
                        count: assignment.count,
                        since: at(self.now),
                        ends_by,
                        is_leaving: false,
                        shrinks_to: None,
                    });
                    self.shrinks.remove(name);
                    let length = self.lengths.get(name).copied().unwrap_or(1);
                    self.ends.insert(name.clone(), self.now + length);
                    let first = self.started.get_mut(name).expect("it came");
                    *first = (*first).min(self.now);
                }
                Decision::Wait(waiting) => {
                    if let (Wait::QuotaUsed { .. }, 0, Some(start)) =
                        (&waiting.reason, waiting.ahead, waiting.expected_start)
                    {
                        self.promised.entry(name.clone()).or_insert(start);
                    }
                }
            }
        }
        for name in decisions.evictions.keys() {
            let workload = self.snapshot.workloads.get_mut(name).expect("it runs");
            workload.admission.as_mut().expect("it runs").is_leaving = true;
            self.ends.insert(name.clone(), self.now + 1);
        }
        for (name, resize) in &decisions.shrinks {
            let workload = self.snapshot.workloads.get_mut(name).expect("it runs");
            workload.admission.as_mut().expect("it runs").shrinks_to = Some(resize.to);
            self.shrinks.insert(name.clone(), self.now + 1);
        }
        for (name, resize) in grown {
            let workload = self.snapshot.workloads.get_mut(&name).expect("it runs");
            let admission = workload.admission.as_mut().expect("it runs");
            assert!(!admission.is_leaving && admission.shrinks_to.is_none(), "{name} grows");
            assert!(resize.from == admission.count && resize.is_growth());
            assert!(resize.to <= workload.count, "{name} goes {resize}");
            let ran = self.now - admission.since.as_secs();
            assert!(ran >= 5, "{name} grows after {ran} s");
            (admission.count, admission.since) = (resize.to, at(self.now));
            self.resized.push((self.now, name, resize.to));
        }
        quotas_hold(&self.snapshot);
        self.machine_holds();
        decisions
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// No quota is exceeded at any moment, nobody has half of its workers, nobody is pushed out
    /// against the policy, and nothing goes on for ever.
    #[test]
    fn lives_go_by_the_rules(
        queues in queues(any_order(), false),
        jobs in proptest::collection::vec(job(), 1..16),
    ) {
        Life::new(&queues, &jobs).run();
    }

    #[test]
    fn fair_lives_go_by_the_rules(
        queues in queues(any_order(), true),
        jobs in proptest::collection::vec(job(), 1..16),
    ) {
        Life::new(&queues, &jobs).run();
    }

    /// On one machine what the queues let in has room too, whatever their quotas come to.
    #[test]
    fn lives_on_a_machine_go_by_its_size(
        queues in queues(any_order(), false),
        jobs in proptest::collection::vec((job(), any::<bool>()), 1..16),
        (cpu, gpu) in (1u64..6, 1u64..8),
    ) {
        let jobs: Vec<Job> = jobs.into_iter().map(|(mut job, asks_no_queue)| {
            if asks_no_queue {
                job.workload.queue = "machine".to_owned();
                job.workload.flavours = vec!["machine".to_owned()];
            }
            job
        }).collect();
        let mut life = Life::new(&queues, &jobs);
        let capacity = Amounts { cpu, memory: 0, gpu };
        life.machine = Some(Machine { name: "machine".to_owned(), capacity });
        life.run();
    }

    /// Without any queue everybody for whom the machine is large enough has started in the end, and
    /// only who is more important pushes out others.
    #[test]
    fn nobody_starves_on_a_machine(
        jobs in proptest::collection::vec(job(), 1..16),
        (cpu, gpu) in (1u64..6, 1u64..8),
    ) {
        let jobs: Vec<Job> = jobs.into_iter().map(|mut job| {
            job.workload.queue = "machine".to_owned();
            job.workload.flavours = vec!["machine".to_owned()];
            job
        }).collect();
        let mut life = Life::new(&BTreeMap::new(), &jobs);
        let capacity = Amounts { cpu, memory: 0, gpu };
        life.machine = Some(Machine { name: "machine".to_owned(), capacity });
        for (name, wait) in life.run() {
            prop_assert!(wait.needs_a_person(), "{name} waits for ever: {wait}");
        }
    }

    /// Where order counts, everybody who can start has started in the end.
    #[test]
    fn nobody_starves(
        queues in queues(prop_oneof![Just(Order::StrictFifo), Just(Order::Backfill)], false),
        jobs in proptest::collection::vec(job(), 1..16),
    ) {
        let left = Life::new(&queues, &jobs).run();
        for (name, wait) in left {
            prop_assert!(wait.needs_a_person(), "{name} waits for ever: {wait}");
        }
    }

    /// Nobody who passes the first of a queue, and nobody who grows, makes it start later than it was
    /// to.
    #[test]
    fn promises_are_kept(
        nominal in 1u64..8,
        jobs in proptest::collection::vec(job(), 2..20),
        running in proptest::collection::vec(job(), 0..6),
    ) {
        let least = |job: &Job| job.workload.min_count.unwrap_or(job.workload.count);
        let nominal = nominal + running.iter().map(|job| u64::from(least(job))).sum::<u64>();
        let gpu = Some(Quota { nominal, ..Quota::default() });
        let flavours = vec![FlavourQuota { flavour: "t4".to_owned(), gpu, ..FlavourQuota::default() }];
        let queue = Queue { flavours, ..Queue::default() };
        let all: Vec<Job> = jobs.into_iter().map(|job| Job {
            comes: 0,
            workload: Workload {
                queue: "a".to_owned(), priority: 0, min_count: None, ..job.workload
            },
            ..job
        }).collect();
        let mut life = Life::new(&BTreeMap::from([("a".to_owned(), queue)]), &all);
        for (place, job) in running.into_iter().enumerate() {
            let name = format!("r{place:02}");
            let count = least(&job);
            life.ends.insert(name.clone(), job.runs_for);
            let admission = Admission {
                flavour: "t4".to_owned(),
                count,
                since: at(0),
                ends_by: job.workload.run_time,
                is_leaving: false,
                shrinks_to: None,
            };
            let workload = Workload {
                queue: "a".to_owned(), priority: 0, admission: Some(admission), ..job.workload
            };
            life.snapshot.workloads.insert(name, workload);
        }
        life.run();
        for (name, promised) in &life.promised {
            let started = at(life.started[name]);
            prop_assert!(started <= *promised, "{name} started at {started:?}, not by {promised:?}");
        }
    }

    /// One that asks alone: those that go are needed each, and with all of them gone it starts.
    #[test]
    fn nobody_goes_in_vain(
        queues in queues(any_order(), false),
        fair in any::<bool>(),
        running in proptest::collection::vec(job(), 1..14),
        asker in job(),
    ) {
        let mut queues = queues;
        if fair {
            queues.values_mut().for_each(|queue| queue.weight = Some(1));
        }
        // What runs was let in by the same rules.
        let mut life = Life::new(&queues, &[]);
        for (at_, job) in running.into_iter().enumerate() {
            let name = format!("r{at_:02}");
            life.snapshot.workloads.insert(name.clone(), job.workload);
            life.started.insert(name, u64::MAX);
        }
        let first = decide(&life.snapshot, at(0));
        life.snapshot.workloads.retain(|name, _| matches!(first.pending[name], Decision::Admit(_)));
        life.cycle();
        let mut snapshot = life.snapshot;
        snapshot.workloads.retain(|_, it| it.admission.is_some());
        snapshot.workloads.insert("x".to_owned(), Workload { min_count: None, ..asker.workload });
        let decisions = decide(&snapshot, at(50));
        // What each of them keeps.
        let gone = decisions.evictions.keys().map(|name| (name.clone(), 0));
        let shrunk = decisions.shrinks.iter().map(|(name, resize)| (name.clone(), resize.to));
        let victims: BTreeMap<String, u32> = gone.chain(shrunk).collect();
        let starts = |kept: &BTreeMap<String, u32>| {
            let mut snapshot = snapshot.clone();
            for (name, workload) in &mut snapshot.workloads {
                if let (Some(kept), Some(has)) = (kept.get(name), &mut workload.admission) {
                    has.count = *kept;
                }
            }
            let is_gone = |it: &Workload| it.admission.as_ref().is_some_and(|it| it.count == 0);
            snapshot.workloads.retain(|_, it| !is_gone(it));
            let decisions = decide(&snapshot, at(50));
            matches!(decisions.pending["x"], Decision::Admit(_))
        };
        let is_reclaiming = who_gives(&decisions).any(|(_, it)| it.because == Because::Reclaimed);
        if !victims.is_empty() {
            prop_assert!(starts(&victims), "{victims:?} go in vain");
            for (name, kept) in &victims {
                let workload = &snapshot.workloads[name];
                let has = workload.admission.as_ref().expect("it runs").count;
                let mut some = victims.clone();
                // One worker more, or of a gang that has to go all that it needs at least.
                let more = match kept {
                    0 => workload.min_count.unwrap_or(has),
                    some => some + 1,
                };
                some.insert(name.clone(), more);
                // Who asks for what its queue owns may not be let in by borrowing instead.
                let is_needed = !starts(&some) || is_reclaiming;
                prop_assert!(is_needed, "{name} keeps {kept} and could keep {more}");
            }
        }
    }
}

/// One starts with what is left, grows when others have ended, gives up some of it for one that is
/// more important, and gets it back.
#[test]
fn a_life_with_many_sizes() {
    let gpu = Some(Quota { nominal: 4, ..Quota::default() });
    let flavours = vec![FlavourQuota { flavour: "t4".to_owned(), gpu, ..FlavourQuota::default() }];
    let mut queue = Queue { flavours, ..Queue::default() };
    queue.preemption.within_queue = WithinQueue::LowerPriority;
    let job = |comes, count, priority, runs_for| Job {
        workload: Workload {
            queue: "a".to_owned(),
            priority,
            created: at(comes),
            per_worker: Amounts { gpu: 1, ..Amounts::default() },
            count,
            flavours: vec!["t4".to_owned()],
            ..Workload::default()
        },
        comes,
        runs_for,
    };
    let mut elastic = job(1, 4, 0, 100);
    (elastic.workload.min_count, elastic.workload.restart_cost) = (Some(1), Some(at(1)));
    let jobs = [job(0, 3, 0, 10), elastic, job(20, 2, 1, 5)];
    let mut life = Life::new(&BTreeMap::from([("a".to_owned(), queue)]), &jobs);
    assert!(life.run().is_empty());
    let of = |second, workers| (second, "j01".to_owned(), workers);
    assert_eq!(life.resized, [of(11, 4), of(21, 2), of(27, 4)]);
}
