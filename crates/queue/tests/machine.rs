//! One machine behind the queues: who starts where both quotas and room count.
//!
//! The machine has 4 cores, and workers take one each.

use std::collections::BTreeMap;
use std::time::Duration;

use trainyard_queue::{
    Admission, Amounts, Decision, Decisions, FlavourQuota, Machine, Preemption, Queue, Quota,
    ReclaimWithinCohort, Snapshot, WithinQueue, Workload,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn machine() -> Machine {
    let capacity = Amounts { cpu: 4000, memory: 1 << 30, gpu: 0 };
    Machine { name: "machine".to_owned(), capacity }
}

fn queue(cores: u64) -> Queue {
    let cpu = Some(Quota { nominal: cores * 1000, ..Quota::default() });
    let flavour = FlavourQuota { flavour: "default".to_owned(), cpu, ..FlavourQuota::default() };
    let preemption =
        Preemption { within_queue: WithinQueue::LowerPriority, ..Preemption::default() };
    Queue { flavours: vec![flavour], preemption, ..Queue::default() }
}

/// Of the queue, with so many workers, in the order of their seconds.
fn waits(queue: &str, count: u32, created: u64) -> Workload {
    let flavour = if queue == "machine" { "machine" } else { "default" };
    Workload {
        queue: queue.to_owned(),
        created: at(created),
        per_worker: Amounts { cpu: 1000, ..Amounts::default() },
        count,
        flavours: vec![flavour.to_owned()],
        ..Workload::default()
    }
}

fn runs(queue: &str, count: u32, created: u64) -> Workload {
    let workload = waits(queue, count, created);
    let admission = Admission {
        flavour: workload.flavours[0].clone(),
        count,
        since: at(created),
        ends_by: None,
        is_leaving: false,
        shrinks_to: None,
    };
    Workload { admission: Some(admission), ..workload }
}

fn priority(priority: i32, workload: Workload) -> Workload {
    Workload { priority, ..workload }
}

fn decided(queues: &[(&str, Queue)], workloads: &[(&str, Workload)]) -> Decisions {
    let own = |(name, it): &(&str, Workload)| ((*name).to_owned(), it.clone());
    let snapshot = Snapshot {
        queues: queues.iter().map(|(name, queue)| ((*name).to_owned(), queue.clone())).collect(),
        workloads: workloads.iter().map(own).collect(),
    };
    machine().decide(&snapshot, at(100))
}

/// What became of each that waited, in the order of their names, and who goes.
#[track_caller]
fn check(queues: &[(&str, Queue)], workloads: &[(&str, Workload)], expected: &str) {
    let decisions = decided(queues, workloads);
    let told = decisions.pending.iter().map(|(name, decision)| match decision {
        Decision::Admit(it) => format!("{name}: {} x{}", it.flavour, it.count),
        Decision::Wait(waiting) => format!("{name}: {}", waiting.reason.as_str()),
    });
    let gone =
        decisions.evictions.iter().map(|(name, it)| format!("{name} goes for {}", it.for_whom));
    let resized = decisions.shrinks.iter().map(|(name, it)| format!("{name} keeps {}", it.to));
    let rooms =
        decisions.rooms.iter().map(|(name, room)| format!("{name} could have {}", room.workers));
    let all = told.chain(gone).chain(resized).chain(rooms);
    assert_eq!(all.collect::<Vec<_>>().join(", "), expected);
}

#[test]
fn without_queues_all_wait_for_the_machine() {
    let (a, b) = (waits("machine", 3, 1), waits("machine", 2, 2));
    check(&[], &[("a", a.clone()), ("b", b.clone())], "a: machine x3, b: QuotaUsed");
    let partly = Workload { min_count: Some(1), ..b.clone() };
    check(&[], &[("a", a), ("b", partly)], "a: machine x3, b: machine x1");
    check(&[], &[("a", waits("machine", 5, 1)), ("b", b)], "a: ExceedsQuota, b: machine x2");
}

#[test]
fn who_is_more_important_pushes_out_others_but_no_service() {
    let low = runs("machine", 3, 1);
    let high = priority(5, waits("machine", 2, 9));
    check(
        &[],
        &[("high", high.clone()), ("low", low.clone())],
        "high: Preempting, low goes for high",
    );
    check(&[], &[("equal", waits("machine", 2, 9)), ("low", low)], "equal: QuotaUsed");
    let service = priority(i32::MAX, runs("machine", 3, 0));
    check(&[], &[("high", high), ("iris", service)], "high: QuotaUsed");
}

#[test]
fn quotas_say_who_may_and_the_machine_how_many() {
    let queues = [("a", queue(3)), ("b", queue(64))];
    let three = || waits("a", 3, 1);
    check(&queues, &[("x", three()), ("y", waits("b", 2, 2))], "x: default x3, y: QuotaUsed");
    check(
        &queues,
        &[("x", waits("a", 4, 1)), ("y", waits("b", 4, 2))],
        "x: ExceedsQuota, y: default x4",
    );
    check(&queues, &[("x", waits("b", 5, 1))], "x: ExceedsQuota");
    check(&queues, &[("x", waits("c", 1, 1))], "x: NoSuchQueue");
    // What names no queue has the machine's own.
    check(&queues, &[("x", three()), ("y", waits("machine", 2, 2))], "x: default x3, y: QuotaUsed");
    check(
        &queues,
        &[("x", three()), ("y", waits("machine", 1, 2))],
        "x: default x3, y: machine x1",
    );
    // One queue with more than there is pushes out its own where the machine is full.
    let only = [("b", queue(64))];
    let low = runs("b", 4, 1);
    let high = || priority(5, waits("b", 2, 9));
    check(&only, &[("high", high()), ("low", low)], "high: Preempting, low goes for high");
    // No queue says that its jobs push out those of others.
    check(&queues, &[("high", high()), ("low", runs("a", 3, 1))], "high: QuotaUsed");
}

#[test]
fn who_can_do_with_fewer_shrinks_and_grows_on_one_machine_too() {
    let elastic = |queue: &str, has| Workload {
        count: 4,
        min_count: Some(1),
        restart_cost: Some(at(1)),
        ..runs(queue, has, 1)
    };
    // Of a machine without queues.
    let high = |queue: &str| priority(5, waits(queue, 2, 9));
    let all = [("high", high("machine")), ("low", elastic("machine", 4))];
    check(&[], &all, "high: Preempting, low keeps 2");
    check(&[], &[("low", elastic("machine", 2))], "low could have 4");
    check(&[], &[("b", runs("machine", 1, 1)), ("low", elastic("machine", 2))], "low could have 3");
    // By the quotas' rules, with no more than the quota and the machine have.
    let queues = [("a", queue(3)), ("b", queue(64))];
    let all = [("high", high("a")), ("low", elastic("a", 3))];
    check(&queues, &all, "high: Preempting, low keeps 1");
    check(&queues, &[("low", elastic("a", 1))], "low could have 3");
    check(&queues, &[("b", runs("b", 2, 1)), ("low", elastic("a", 1))], "low could have 2");
    check(&queues, &[("b", runs("b", 3, 1)), ("low", elastic("a", 1))], "");
    // One that waits for the machine alone has its place there.
    let waiting =
        |queue, x| [("b", runs("b", 2, 1)), ("low", elastic("a", 1)), ("x", waits(queue, x, 9))];
    check(&queues, &waiting("b", 2), "x: QuotaUsed");
    check(&queues, &waiting("machine", 3), "x: QuotaUsed");
    // So has one that waits for its quota: once it has that, it needs the machine as well.
    check(&queues, &waiting("b", 3), "x: QuotaUsed");
    check(&queues, &waiting("b", 5), "x: ExceedsQuota, low could have 2");
    // Who would give up some for one for whom the machine has no room keeps them.
    let all = [("high", high("a")), ("low", elastic("a", 2)), ("other", runs("b", 2, 2))];
    check(&queues, &all, "high: QuotaUsed");
}

/// Room that a quota would make is of no use to one for whom the machine has none.
#[test]
fn nobody_goes_for_one_who_could_not_start() {
    let queues = [("a", queue(2)), ("b", queue(3))];
    let mut full = vec![("low", runs("a", 1, 1)), ("other", runs("b", 3, 2))];
    full.push(("high", priority(5, waits("a", 2, 9))));
    check(&queues, &full, "high: QuotaUsed");
    full[1] = ("other", runs("b", 2, 2));
    check(&queues, &full, "high: Preempting, low goes for high");
}

#[test]
fn what_is_lent_is_taken_back_on_one_machine_too() {
    let of = |cores| Queue { cohort: Some("all".to_owned()), ..queue(cores) };
    let reclaims = ReclaimWithinCohort::Any;
    let owner = Queue {
        preemption: Preemption { reclaim_within_cohort: reclaims, ..Preemption::default() },
        ..of(2)
    };
    let queues = [("owner", owner), ("guest", of(2))];
    let all = [("guest", runs("guest", 3, 1)), ("own", waits("owner", 2, 9))];
    check(&queues, &all, "own: Preempting, guest goes for own");
}

#[test]
fn what_is_used_is_told_of_all_queues() {
    let queues = [("a", queue(3))];
    let decisions = decided(&queues, &[("x", runs("a", 2, 1)), ("y", runs("machine", 1, 1))]);
    let used =
        |name: &str| decisions.used[name].flavours.iter().map(|it| it.used).collect::<Vec<_>>();
    assert_eq!((used("a")[0], used("machine")[0]), (2000, 3000));
    let names: Vec<&String> = decisions.used.keys().collect();
    assert_eq!(names, ["a", "machine"]);
    let none: BTreeMap<String, Decision> = BTreeMap::new();
    assert_eq!(decisions.pending, none);
}

#[test]
fn waits_for_the_machine_are_told_without_quotas() {
    let decisions = decided(&[], &[("a", runs("machine", 3, 1)), ("b", waits("machine", 2, 2))]);
    let Decision::Wait(waiting) = &decisions.pending["b"] else { panic!("it waits") };
    let why = machine().why(&waiting.reason);
    assert_eq!(why, "it asks for 2 of CPU, and 1 of this machine's 4 is free");
    assert_eq!(
        waiting.sentence("machine", &why, None),
        "waits in the queue `machine`: it asks for 2 of CPU, and 1 of this machine's 4 is free; when it starts depends on jobs without `spec.deadline`"
    );
    let large = decided(&[], &[("a", waits("machine", 5, 1))]);
    let Decision::Wait(waiting) = &large.pending["a"] else { panic!("it waits") };
    assert_eq!(machine().why(&waiting.reason), "it asks for 5 of CPU, and this machine has 4");
}
