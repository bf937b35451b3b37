//! What Kueue's documentation says of quota, borrowing, fair sharing and preemption, as scenarios;
//! and what we do beyond it: reservations, partial admission, reasons.
//!
//! A scenario is written in GPUs of one flavour where it says nothing else. Time is 100 s.

use std::time::Duration;

use trainyard_queue::{
    Admission, Amounts, Because, BorrowWithinCohort, Decision, Decisions, Eviction, FlavourQuota,
    Queue, Quota, ReclaimWithinCohort, Snapshot, Strategy, Wait, Why, WithinQueue, Workload,
    decide,
};

const NOW: u64 = 100;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn quota(nominal: u64) -> Quota {
    Quota { nominal, borrowing_limit: None, lending_limit: None }
}

/// A queue with a quota of GPUs, in the cohort `all`, that lets who fits pass.
fn queue(nominal: u64) -> Queue {
    Queue {
        cohort: Some("all".to_owned()),
        flavours: vec![flavour("t4", nominal)],
        strategy: Strategy::BestEffortFifo,
        ..Queue::default()
    }
}

fn flavour(name: &str, nominal: u64) -> FlavourQuota {
    FlavourQuota { flavour: name.to_owned(), gpu: Some(quota(nominal)), ..Default::default() }
}

/// One that waits for so many GPUs, in one worker each.
fn waits(queue: &str, gpus: u32) -> Workload {
    Workload {
        queue: queue.to_owned(),
        created: at(50),
        per_worker: Amounts { gpu: 1, ..Amounts::default() },
        count: gpus,
        flavours: vec!["t4".to_owned()],
        ..Workload::default()
    }
}

/// One that runs since that second.
fn runs(queue: &str, gpus: u32, since: u64) -> Workload {
    let admission = Admission {
        flavour: "t4".to_owned(),
        count: gpus,
        since: at(since),
        ends_by: None,
        is_leaving: false,
        shrinks_to: None,
    };
    Workload { created: at(since), admission: Some(admission), ..waits(queue, gpus) }
}

fn priority(priority: i32, workload: Workload) -> Workload {
    Workload { priority, ..workload }
}

fn ends_by(seconds: u64, mut workload: Workload) -> Workload {
    if let Some(admission) = &mut workload.admission {
        admission.ends_by = Some(at(seconds));
    }
    workload
}

fn takes(seconds: u64, workload: Workload) -> Workload {
    Workload { run_time: Some(at(seconds)), ..workload }
}

fn created(second: u64, workload: Workload) -> Workload {
    Workload { created: at(second), ..workload }
}

fn snapshot(queues: &[(&str, Queue)], workloads: &[(&str, Workload)]) -> Snapshot {
    let owned = |(name, it): &(&str, Queue)| ((*name).to_owned(), it.clone());
    let workload = |(name, it): &(&str, Workload)| ((*name).to_owned(), it.clone());
    Snapshot {
        queues: queues.iter().map(owned).collect(),
        workloads: workloads.iter().map(workload).collect(),
    }
}

/// Decisions, each in a word or two: `admit 4`, `admit 4 borrowed`, or why it waits; and who is
/// pushed out for whom.
fn shown(decisions: &Decisions) -> Vec<String> {
    let mut lines: Vec<String> = decisions
        .pending
        .iter()
        .map(|(name, decision)| match decision {
            Decision::Admit(it) if it.borrows => {
                format!("{name}: {} x{} borrowed", it.flavour, it.count)
            }
            Decision::Admit(it) => format!("{name}: {} x{}", it.flavour, it.count),
            Decision::Wait(it) => format!("{name}: {}", it.reason.as_str()),
        })
        .collect();
    lines.extend(decisions.evictions.iter().map(|(name, eviction)| {
        format!("{name} goes for {} ({:?})", eviction.for_whom, eviction.because)
    }));
    lines.extend(decisions.shrinks.iter().map(|(name, resize)| {
        let Why::MakesRoom(Eviction { for_whom, because }) = &resize.why else {
            panic!("{name} shrinks for nobody")
        };
        format!("{name} keeps {} of {} for {for_whom} ({because:?})", resize.to, resize.from)
    }));
    lines.extend(decisions.rooms.iter().map(|(name, room)| {
        let borrows = if room.borrows { " borrowed" } else { "" };
        format!("{name} could have {}{borrows}", room.workers)
    }));
    lines
}

#[track_caller]
fn check(queues: &[(&str, Queue)], workloads: &[(&str, Workload)], expected: &[&str]) {
    let decisions = decide(&snapshot(queues, workloads), at(NOW));
    assert_eq!(shown(&decisions), expected);
}

#[track_caller]
fn why(
    queues: &[(&str, Queue)],
    workloads: &[(&str, Workload)],
    name: &str,
) -> (String, Option<u64>) {
    let decisions = decide(&snapshot(queues, workloads), at(NOW));
    match &decisions.pending[name] {
        Decision::Wait(it) => {
            (it.reason.to_string(), it.expected_start.map(|start| start.as_secs()))
        }
        other => panic!("{name} does not wait: {other:?}"),
    }
}

#[test]
fn all_or_nothing() {
    let a = || ("a", queue(4));
    check(&[a()], &[("x", waits("a", 4))], &["x: t4 x4"]);
    check(&[a()], &[("r", runs("a", 1, 1)), ("x", waits("a", 4))], &["x: QuotaUsed"]);
    check(&[a()], &[("x", waits("a", 5))], &["x: ExceedsQuota"]);
    check(&[a()], &[("x", waits("b", 1))], &["x: NoSuchQueue"]);
    let other = Workload { flavours: vec!["a100".to_owned()], ..waits("a", 1) };
    check(&[a()], &[("x", other)], &["x: NoQuota"]);
    // A resource without a quota is not rationed.
    let cpu = Amounts { cpu: 64_000, memory: 1 << 40, gpu: 1 };
    check(&[a()], &[("x", Workload { per_worker: cpu, ..waits("a", 1) })], &["x: t4 x1"]);
}

#[test]
fn each_resource_has_to_fit() {
    let small =
        FlavourQuota { cpu: Some(quota(8_000)), memory: Some(quota(1 << 30)), ..flavour("t4", 8) };
    let a = ("a", Queue { flavours: vec![small], ..queue(0) });
    let per_worker = |memory| Amounts { cpu: 1_000, memory, gpu: 1 };
    let x = |memory| Workload { per_worker: per_worker(memory), ..waits("a", 2) };
    check(std::slice::from_ref(&a), &[("x", x(1 << 29))], &["x: t4 x2"]);
    check(std::slice::from_ref(&a), &[("x", x(1 << 30))], &["x: ExceedsQuota"]);
    let (text, _) = why(&[a], &[("x", x(1 << 30))], "x");
    assert!(text.contains("2Gi of memory of the flavour `t4`"), "{text}");
}

#[test]
fn priority_then_time() {
    let a = || ("a", queue(1));
    check(
        &[a()],
        &[("old", created(1, waits("a", 1))), ("urgent", priority(5, waits("a", 1)))],
        &["old: QuotaUsed", "urgent: t4 x1"],
    );
    check(
        &[a()],
        &[("a-late", created(9, waits("a", 1))), ("early", created(8, waits("a", 1)))],
        &["a-late: QuotaUsed", "early: t4 x1"],
    );
}

#[test]
fn flavours_in_the_queues_order() {
    let two = Queue { flavours: vec![flavour("t4", 2), flavour("a100", 4)], ..queue(0) };
    let any = |gpus| Workload { flavours: vec!["a100".into(), "t4".into()], ..waits("a", gpus) };
    check(&[("a", two.clone())], &[("x", any(2))], &["x: t4 x2"]);
    check(&[("a", two.clone())], &[("x", any(3))], &["x: a100 x3"]);
    // A workload is of one flavour.
    check(&[("a", two.clone())], &[("x", any(6))], &["x: ExceedsQuota"]);
    // The next flavour is tried before somebody is pushed out of the first.
    let mut pushes = two;
    pushes.preemption.within_queue = WithinQueue::LowerPriority;
    check(&[("a", pushes)], &[("r", runs("a", 2, 1)), ("x", priority(1, any(2)))], &["x: a100 x2"]);
}

#[test]
fn borrowing_and_its_limits() {
    let limit = |borrowing_limit, lending_limit| Queue {
        flavours: vec![FlavourQuota {
            gpu: Some(Quota { nominal: 4, borrowing_limit, lending_limit }),
            ..flavour("t4", 0)
        }],
        ..queue(0)
    };
    let with = |a: Queue, b: Queue, gpus, expected: &str| {
        check(&[("a", a), ("b", b)], &[("x", waits("a", gpus))], &[expected]);
    };
    let free = || limit(None, None);
    with(free(), free(), 8, "x: t4 x8 borrowed");
    with(free(), free(), 9, "x: ExceedsQuota");
    with(limit(Some(1), None), free(), 5, "x: t4 x5 borrowed");
    with(limit(Some(1), None), free(), 6, "x: ExceedsQuota");
    with(limit(Some(0), None), free(), 4, "x: t4 x4");
    with(free(), limit(None, Some(1)), 5, "x: t4 x5 borrowed");
    with(free(), limit(None, Some(1)), 6, "x: ExceedsQuota");
    // Without a cohort nobody lends.
    with(Queue { cohort: None, ..free() }, free(), 5, "x: ExceedsQuota");
    // What a queue does not lend stays its own, although the cohort is used up.
    check(
        &[("a", free()), ("b", limit(None, Some(1)))],
        &[("r", runs("a", 5, 1)), ("y", waits("b", 3))],
        &["y: t4 x3"],
    );
    // Who borrows comes after who does not, whatever its priority.
    check(
        &[("a", queue(0)), ("b", queue(4))],
        &[("x", priority(9, waits("a", 4))), ("y", waits("b", 4))],
        &["x: QuotaUsed", "y: t4 x4"],
    );
}

fn within(policy: WithinQueue) -> Queue {
    let mut queue = queue(4);
    queue.preemption.within_queue = policy;
    queue
}

#[test]
fn preemption_within_a_queue() {
    let run = |policy, prio, expected: &[&str]| {
        let running = [
            ("low", runs("a", 2, 10)),
            ("mid", priority(1, runs("a", 2, 20))),
            ("x", priority(prio, waits("a", 2))),
        ];
        check(&[("a", within(policy))], &running, expected);
    };
    run(WithinQueue::Never, 9, &["x: QuotaUsed"]);
    run(WithinQueue::LowerPriority, 0, &["x: QuotaUsed"]);
    run(WithinQueue::LowerPriority, 2, &["x: Preempting", "low goes for x (Priority)"]);
    // Of equal priority only who is newer.
    run(WithinQueue::LowerOrNewerEqualPriority, 0, &["x: QuotaUsed"]);
    check(
        &[("a", within(WithinQueue::LowerOrNewerEqualPriority))],
        &[("new", runs("a", 4, 60)), ("x", waits("a", 2))],
        &["x: Preempting", "new goes for x (Priority)"],
    );
}

#[test]
fn as_few_go_as_make_room() {
    let a = || ("a", within(WithinQueue::LowerPriority));
    // Taken in order the small one would go first, and the large one alone is enough.
    check(
        &[a()],
        &[
            ("large", priority(1, runs("a", 3, 10))),
            ("small", runs("a", 1, 10)),
            ("x", priority(2, waits("a", 3))),
        ],
        &["x: Preempting", "large goes for x (Priority)"],
    );
    // Of equals the one that has run for the shortest time.
    check(
        &[a()],
        &[
            ("long", runs("a", 2, 10)),
            ("short", runs("a", 2, 90)),
            ("x", priority(2, waits("a", 2))),
        ],
        &["x: Preempting", "short goes for x (Priority)"],
    );
    // Nobody goes in vain.
    check(
        &[a()],
        &[
            ("high", priority(5, runs("a", 3, 10))),
            ("low", runs("a", 1, 10)),
            ("x", priority(2, waits("a", 2))),
        ],
        &["x: QuotaUsed"],
    );
}

/// Once told to go, room counts as coming, and is not used before it is there.
#[test]
fn who_leaves_is_waited_for() {
    let mut leaving = runs("a", 4, 10);
    leaving.admission.as_mut().expect("it runs").is_leaving = true;
    let all = [
        ("low", leaving),
        ("x", priority(2, waits("a", 3))),
        ("y", waits("a", 1)),
        ("z", waits("a", 1)),
    ];
    check(
        &[("a", within(WithinQueue::LowerPriority))],
        &all,
        &["x: Preempting", "y: Preempting", "z: QuotaUsed"],
    );
}

fn reclaims(nominal: u64, policy: ReclaimWithinCohort) -> Queue {
    let mut queue = queue(nominal);
    queue.preemption.reclaim_within_cohort = policy;
    queue
}

#[test]
fn what_was_lent_is_taken_back() {
    let run = |policy, prio, expected: &[&str]| {
        check(
            &[("a", reclaims(4, policy)), ("b", queue(4))],
            &[
                ("b-own", priority(1, runs("b", 4, 10))),
                ("b-more", priority(1, runs("b", 4, 20))),
                ("x", priority(prio, waits("a", 4))),
            ],
            expected,
        );
    };
    let goes = &["x: Preempting", "b-more goes for x (Reclaimed)"][..];
    run(ReclaimWithinCohort::Never, 9, &["x: QuotaUsed"]);
    run(ReclaimWithinCohort::LowerPriority, 1, &["x: QuotaUsed"]);
    run(ReclaimWithinCohort::LowerPriority, 2, goes);
    run(ReclaimWithinCohort::Any, -5, goes);
    // A queue that uses no more than its own is left alone.
    check(
        &[("a", reclaims(4, ReclaimWithinCohort::Any)), ("b", queue(4)), ("c", queue(0))],
        &[("r", runs("b", 4, 10)), ("s", runs("a", 2, 10)), ("x", waits("a", 4))],
        &["x: QuotaUsed"],
    );
    // Only as much is taken back as was lent.
    check(
        &[("a", reclaims(4, ReclaimWithinCohort::Any)), ("b", queue(4))],
        &[
            ("r1", runs("b", 3, 10)),
            ("r2", runs("b", 3, 20)),
            ("s", runs("a", 2, 10)),
            ("x", waits("a", 2)),
        ],
        &["x: Preempting", "r2 goes for x (Reclaimed)"],
    );
}

#[test]
fn preemption_while_borrowing() {
    let borrows = |max_priority| {
        let mut queue = reclaims(2, ReclaimWithinCohort::Any);
        queue.preemption.borrow_within_cohort = BorrowWithinCohort::LowerPriority { max_priority };
        queue
    };
    let run = |max, victim, expected: &[&str]| {
        check(
            &[("a", borrows(max)), ("b", queue(2)), ("c", queue(4))],
            &[("r", priority(victim, runs("b", 6, 10))), ("x", priority(5, waits("a", 4)))],
            expected,
        );
    };
    let goes = &["x: Preempting", "r goes for x (BorrowedForPriority)"][..];
    run(None, 4, goes);
    run(None, 5, &["x: QuotaUsed"]);
    run(Some(3), 3, goes);
    run(Some(3), 4, &["x: QuotaUsed"]);
    // Without the policy nobody goes for one that would borrow.
    check(
        &[("a", reclaims(2, ReclaimWithinCohort::Any)), ("b", queue(2)), ("c", queue(4))],
        &[("r", runs("b", 6, 10)), ("x", priority(5, waits("a", 4)))],
        &["x: QuotaUsed"],
    );
}

fn fair(nominal: u64, weight: u32) -> Queue {
    Queue { weight: Some(weight), ..reclaims(nominal, ReclaimWithinCohort::Any) }
}

#[test]
fn shares_are_fair() {
    // Who has borrowed less goes first, whatever came first.
    let pool = || ("pool", queue(6));
    check(
        &[("a", fair(0, 1)), ("b", fair(0, 1)), pool()],
        &[
            ("r", runs("a", 3, 1)),
            ("x", created(1, waits("a", 3))),
            ("y", created(2, waits("b", 3))),
        ],
        &["x: QuotaUsed", "y: t4 x3 borrowed"],
    );
    // By weight: twice the weight, half the share.
    check(
        &[("a", fair(0, 2)), ("b", fair(0, 1)), pool()],
        &[
            ("r", runs("a", 2, 1)),
            ("s", runs("b", 2, 1)),
            ("x", created(2, waits("a", 2))),
            ("y", created(1, waits("b", 2))),
        ],
        &["x: t4 x2 borrowed", "y: QuotaUsed"],
    );
    // A queue with more than its share gives back until shares are level, and not beyond.
    let ones = |n: usize| -> Vec<(String, Workload)> {
        (0..n).map(|i| (format!("r{i}"), runs("a", 1, 10 + i as u64))).collect()
    };
    let with = |waiting: Workload| {
        let mut all: Vec<(String, Workload)> = ones(6);
        all.push(("x".to_owned(), waiting));
        let all: Vec<(&str, Workload)> =
            all.iter().map(|(name, it)| (name.as_str(), it.clone())).collect();
        let queues = [("a", fair(0, 1)), ("b", fair(0, 1)), pool()];
        shown(&decide(&snapshot(&queues, &all), at(NOW)))
    };
    let three = [
        "x: Preempting",
        "r3 goes for x (FairShare)",
        "r4 goes for x (FairShare)",
        "r5 goes for x (FairShare)",
    ];
    assert_eq!(with(waits("b", 3)), three);
    assert_eq!(with(waits("b", 4)), ["x: QuotaUsed"]);
}

#[test]
fn strategies() {
    let run = |strategy, expected: &[&str]| {
        let a = Queue { strategy, ..queue(4) };
        let all = [
            ("r", ends_by(200, runs("a", 2, 1))),
            ("head", created(10, waits("a", 4))),
            ("long", created(20, takes(101, waits("a", 1)))),
            ("short", created(30, takes(100, waits("a", 1)))),
            ("unknown", created(40, waits("a", 1))),
        ];
        check(&[("a", a)], &all, expected);
    };
    run(
        Strategy::StrictFifo,
        &["head: QuotaUsed", "long: BehindHead", "short: BehindHead", "unknown: BehindHead"],
    );
    run(
        Strategy::BestEffortFifo,
        &["head: QuotaUsed", "long: t4 x1", "short: t4 x1", "unknown: QuotaUsed"],
    );
    run(
        Strategy::Backfill,
        &["head: QuotaUsed", "long: WouldDelay", "short: t4 x1", "unknown: WouldDelay"],
    );
}

/// What the head leaves may be used by anybody, for however long.
#[test]
fn backfill_beside_the_head() {
    let a = Queue { strategy: Strategy::Backfill, ..queue(6) };
    let all = [
        ("r", runs("a", 4, 1)),
        ("head", created(10, waits("a", 4))),
        ("x", created(20, waits("a", 2))),
        ("y", created(30, waits("a", 1))),
    ];
    check(&[("a", a)], &all, &["head: QuotaUsed", "x: t4 x2", "y: QuotaUsed"]);
}

/// A queue that asks for its own does not wait longer for those that borrow it.
#[test]
fn who_borrows_does_not_delay_the_owner() {
    let strict = Queue { strategy: Strategy::Backfill, ..queue(4) };
    let all = |y: Workload| [("r", ends_by(200, runs("b", 2, 1))), ("x", waits("a", 4)), ("y", y)];
    let queues = || [("a", strict.clone()), ("b", queue(0))];
    check(&queues(), &all(waits("b", 2)), &["x: QuotaUsed", "y: WouldDelay"]);
    check(&queues(), &all(takes(100, waits("b", 2))), &["x: QuotaUsed", "y: t4 x2 borrowed"]);
}

/// `x` owns what `y`, which goes first, would borrow; `first` of the queue of `x` only waits. Had `y`
/// started it would have been pushed out by `x`, come again, and so on for ever.
#[test]
fn nobody_starts_to_be_pushed_out_at_once() {
    check(
        &[("a", reclaims(1, ReclaimWithinCohort::Any)), ("b", queue(1))],
        &[
            ("r", priority(1, runs("b", 1, 10))),
            ("first", created(20, waits("a", 2))),
            ("x", created(30, waits("a", 1))),
            ("y", priority(1, waits("b", 1))),
        ],
        &["first: QuotaUsed", "x: t4 x1", "y: WouldDelay"],
    );
}

/// One that can never start is in nobody's way.
#[test]
fn the_impossible_blocks_nobody() {
    for strategy in [Strategy::StrictFifo, Strategy::Backfill] {
        let a = Queue { strategy, ..queue(4) };
        let all = [("never", created(1, waits("a", 9))), ("x", waits("a", 4))];
        check(&[("a", a)], &all, &["never: ExceedsQuota", "x: t4 x4"]);
    }
    // Nor is its queue the last of the cohort for its sake: `x`, which borrows less than `y`, would
    // push out what `y` had started beside, and so on for ever.
    let strict = |queue| Queue { strategy: Strategy::StrictFifo, ..queue };
    let reclaims = Queue {
        preemption: reclaims(0, ReclaimWithinCohort::Any).preemption,
        ..strict(fair(3, 1))
    };
    check(
        &[("a", reclaims), ("b", strict(fair(3, 1))), ("c", strict(fair(2, 1)))],
        &[
            ("never", created(1, waits("a", 9))),
            ("r", runs("b", 4, 4)),
            ("x", waits("a", 4)),
            ("y", waits("b", 4)),
        ],
        &["never: ExceedsQuota", "x: t4 x4 borrowed", "y: QuotaUsed"],
    );
}

#[test]
fn fewer_workers_will_do() {
    let elastic = |gpus, min| Workload { min_count: Some(min), ..waits("a", gpus) };
    let run = |nominal, expected: &str| {
        let a = within(WithinQueue::LowerPriority);
        let a = Queue { flavours: vec![flavour("t4", nominal)], ..a };
        check(&[("a", a)], &[("x", elastic(8, 2))], &[expected]);
    };
    run(9, "x: t4 x8");
    run(5, "x: t4 x5");
    run(2, "x: t4 x2");
    run(1, "x: ExceedsQuota");
    // It takes what is left, and pushes out nobody for less than all.
    let lower = || within(WithinQueue::LowerPriority);
    let beside = |running, gpus, expected: &[&str]| {
        let all = [("r", runs("a", running, 10)), ("x", priority(1, elastic(gpus, 2)))];
        check(&[("a", lower())], &all, expected);
    };
    beside(2, 8, &["x: t4 x2"]);
    beside(3, 8, &["x: QuotaUsed"]);
    beside(3, 4, &["x: Preempting", "r goes for x (Priority)"]);
}

#[test]
fn when_it_starts() {
    let a = Queue { strategy: Strategy::Backfill, ..queue(4) };
    let all = [
        ("r", ends_by(300, runs("a", 1, 1))),
        ("s", ends_by(200, runs("a", 3, 1))),
        ("first", created(10, takes(50, waits("a", 3)))),
        ("second", created(20, takes(50, waits("a", 4)))),
        ("third", created(30, waits("a", 4))),
        ("fourth", created(40, waits("a", 4))),
    ];
    let start = |name| why(&[("a", a.clone())], &all, name).1;
    assert_eq!(start("first"), Some(200));
    assert_eq!(start("second"), Some(300));
    assert_eq!(start("third"), Some(350));
    assert_eq!(start("fourth"), None);
    let decisions = decide(&snapshot(&[("a", a.clone())], &all), at(NOW));
    let Decision::Wait(third) = &decisions.pending["third"] else { panic!("it waits") };
    assert_eq!((third.behind.as_deref(), third.ahead), (Some("second"), 2));
    // One that is late ends at any moment.
    let late = [("r", ends_by(50, runs("a", 4, 1))), ("x", waits("a", 4))];
    assert_eq!(why(&[("a", a)], &late, "x").1, Some(NOW));
}

#[test]
fn what_is_used() {
    let queues = [("a", queue(4)), ("b", queue(4))];
    let all = [("r", runs("a", 6, 1))];
    let decisions = decide(&snapshot(&queues, &all), at(NOW));
    let used = &decisions.used["a"];
    let first = &used.flavours[0];
    assert_eq!((first.used, first.nominal, first.borrowed, used.share), (6, 4, 2, 250));
    assert_eq!(decisions.used["b"].share, 0);
}

#[test]
fn reasons_are_sentences() {
    let (text, _) = why(&[("a", queue(4))], &[("r", runs("a", 3, 1)), ("x", waits("a", 2))], "x");
    assert_eq!(
        text,
        "it asks for 2 of GPU of the flavour `t4`, and 1 of the queue's quota is left"
    );
    assert!(Wait::NoQuota { flavours: vec!["t4".into()] }.needs_a_person());
    assert!(!Because::Reclaimed.message().is_empty());
}

/// One that runs with so many workers, could do with `min`, and would have `count`.
fn elastic(running: Workload, min: u32, count: u32) -> Workload {
    Workload { min_count: Some(min), count, restart_cost: Some(at(10)), ..running }
}

#[test]
fn who_can_do_with_fewer_gives_up_some() {
    let a = |gpus| {
        let a = within(WithinQueue::LowerPriority);
        Queue { flavours: vec![flavour("t4", gpus)], ..a }
    };
    let more = |workload| priority(1, workload);
    // As many as are asked for, and not below its least.
    let large = || elastic(runs("a", 4, 10), 1, 4);
    let for_two = ["x: Preempting", "r keeps 2 of 4 for x (Priority)"];
    check(&[("a", a(4))], &[("r", large()), ("x", more(waits("a", 2)))], &for_two);
    let for_four = ["x: Preempting", "r goes for x (Priority)"];
    check(&[("a", a(4))], &[("r", large()), ("x", more(waits("a", 4)))], &for_four);
    // Nobody goes where some can give up enough, though one that goes would be one change and not two.
    let all = [
        ("newest", runs("a", 2, 90)),
        ("r", elastic(runs("a", 2, 10), 1, 4)),
        ("s", elastic(runs("a", 2, 20), 1, 4)),
        ("x", more(waits("a", 2))),
    ];
    let both =
        ["x: Preempting", "r keeps 1 of 2 for x (Priority)", "s keeps 1 of 2 for x (Priority)"];
    check(&[("a", a(6))], &all, &both);
    // Where that is not enough, who goes has made room for the others to stay as they are.
    let all = [
        ("newest", runs("a", 4, 90)),
        ("r", elastic(runs("a", 2, 10), 1, 4)),
        ("x", more(waits("a", 4))),
    ];
    check(&[("a", a(6))], &all, &["x: Preempting", "newest goes for x (Priority)"]);
    // Its equals it owes nothing.
    check(&[("a", a(4))], &[("r", large()), ("x", waits("a", 2))], &["x: QuotaUsed"]);
    // One that is about to give up some has given them up as far as others see, and can give more.
    let mut shrinking = large();
    shrinking.admission.as_mut().expect("it runs").shrinks_to = Some(3);
    let all = |x| [("r", shrinking.clone()), ("x", more(waits("a", x)))];
    check(&[("a", a(4))], &all(1), &["x: Preempting"]);
    let two = ["x: Preempting", "r keeps 2 of 3 for x (Priority)"];
    check(&[("a", a(4))], &all(2), &two);
}

#[test]
fn what_was_lent_is_taken_back_by_the_worker() {
    let owner = || reclaims(4, ReclaimWithinCohort::Any);
    let guest = || elastic(runs("b", 6, 10), 1, 6);
    check(
        &[("a", owner()), ("b", queue(2))],
        &[("guest", guest()), ("x", waits("a", 3))],
        &["x: Preempting", "guest keeps 3 of 6 for x (Reclaimed)"],
    );
    // Its own it keeps.
    check(
        &[("a", owner()), ("b", queue(2))],
        &[("guest", guest()), ("x", waits("a", 4))],
        &["x: Preempting", "guest keeps 2 of 6 for x (Reclaimed)"],
    );
    let fair = |queue: Queue| Queue { weight: Some(1), ..queue };
    let none = || fair(reclaims(0, ReclaimWithinCohort::Any));
    // Six of the lender's are shared by two.
    check(
        &[("a", none()), ("b", none()), ("lender", queue(6))],
        &[("guest", guest()), ("x", waits("a", 3))],
        &["x: Preempting", "guest keeps 3 of 6 for x (FairShare)"],
    );
}

#[test]
fn who_could_have_more() {
    let a = |strategy| Queue { strategy, cohort: None, ..queue(6) };
    let best = || a(Strategy::BestEffortFifo);
    let small = || elastic(runs("a", 2, 10), 1, 4);
    check(&[("a", best())], &[("r", small())], &["r could have 4"]);
    check(&[("a", best())], &[("r", small()), ("s", runs("a", 3, 10))], &["r could have 3"]);
    check(&[("a", best())], &[("r", small()), ("s", runs("a", 4, 10))], &[]);
    // Only who can be started anew without losing what it has done, and does not leave.
    let costly = Workload { restart_cost: None, ..small() };
    check(&[("a", best())], &[("r", costly)], &[]);
    let mut leaving = small();
    leaving.admission.as_mut().expect("it runs").is_leaving = true;
    check(&[("a", best())], &[("r", leaving)], &[]);
    // The more important of two has it.
    let both = [("r", elastic(runs("a", 2, 10), 1, 9)), ("s", priority(1, small()))];
    check(&[("a", best())], &both, &["s could have 4"]);
    // What is let in now is looked at first.
    check(
        &[("a", best())],
        &[("r", small()), ("x", waits("a", 3))],
        &["x: t4 x3", "r could have 3"],
    );
    // Nobody grows into what one that waits may get when others have ended.
    let large = |more: &[(&'static str, Workload)]| {
        let mut all = vec![
            ("r", ends_by(900, small())),
            ("s", ends_by(200, runs("a", 2, 10))),
            ("x", created(20, waits("a", 4))),
        ];
        all.extend_from_slice(more);
        all
    };
    check(&[("a", a(Strategy::Backfill))], &large(&[]), &["x: QuotaUsed"]);
    // Beside the first of a queue there may be room; others that wait may need it.
    let three = |more: &[(&'static str, Workload)]| {
        let mut all = large(more);
        all[2].1.count = 3;
        all
    };
    let beside = ["x: QuotaUsed", "r could have 3"];
    check(&[("a", a(Strategy::Backfill))], &three(&[]), &beside);
    let another = [("y", created(30, waits("a", 4)))];
    let two = ["x: QuotaUsed", "y: QuotaUsed"];
    check(&[("a", a(Strategy::Backfill))], &three(&another), &two);
    // One that can never start is in nobody's way.
    let never = [("y", created(30, waits("a", 9)))];
    let beside = ["x: QuotaUsed", "y: ExceedsQuota", "r could have 3"];
    check(&[("a", a(Strategy::Backfill))], &three(&never), &beside);
}

#[test]
fn who_could_borrow_more() {
    let small = || elastic(runs("a", 2, 10), 1, 4);
    let run = |b: Queue, workloads: &[(&str, Workload)], expected: &[&str]| {
        check(&[("a", queue(2)), ("b", b)], workloads, expected);
    };
    run(queue(4), &[("r", small())], &["r could have 4 borrowed"]);
    let limited = |limit: fn(&mut Quota)| {
        let mut b = queue(4);
        limit(b.flavours[0].gpu.as_mut().expect("a quota"));
        b
    };
    let lends = limited(|quota| quota.lending_limit = Some(1));
    run(lends, &[("r", small())], &["r could have 3 borrowed"]);
    // Another queue that waits for its own is not to find it lent.
    let waiting =
        |gpus| [("r", small()), ("s", ends_by(200, runs("b", 3, 10))), ("x", waits("b", gpus))];
    run(queue(4), &waiting(4), &["x: QuotaUsed"]);
    run(queue(4), &waiting(3), &["x: QuotaUsed", "r could have 3 borrowed"]);
    // Where nobody knows when it starts, all of it may be what it waits for.
    let waiting = [("r", small()), ("s", runs("b", 3, 10)), ("x", waits("b", 3))];
    run(queue(4), &waiting, &["x: QuotaUsed"]);
    // What `b` does not lend `a` cannot have, and what `a` owns `b` cannot borrow.
    let apart = Queue { flavours: vec![flavour("t4", 4)], ..queue(4) };
    let one = elastic(runs("a", 1, 10), 1, 4);
    let waiting = [("r", one.clone()), ("s", runs("b", 3, 10)), ("x", waits("b", 2))];
    run(apart, &waiting, &["x: t4 x2 borrowed"]);
    let closed = limited(|quota| quota.borrowing_limit = Some(0));
    run(closed, &waiting, &["x: QuotaUsed", "r could have 2"]);
}
