use trainyard_control::job::{Phase, Policy, State, decide};

use super::*;

const NOW: Duration = Duration::from_secs(100);

fn theirs(system: QueueSystem, asked: &str) -> Theirs<'static> {
    Theirs {
        system,
        queue: "team-a",
        asked: asked.to_owned(),
        priority_class: None,
        min_workers: None,
    }
}

fn start<'a>(attempt: u32, uid: &'a str, job: &'a JobFacts) -> Start<'a> {
    Start { attempt, uid, job, is_placed: false, trouble: None, group: None }
}

fn suspended() -> JobFacts {
    JobFacts { asked_to_suspend: true, parallelism: 4, ..JobFacts::default() }
}

fn said(reason: &str, message: &str) -> Option<Said> {
    Some(Said { reason: reason.into(), message: message.into() })
}

/// Of a job whose first start was handed to Kueue, whose Job was made.
fn waits() -> Memory {
    let mut memory = Memory::new(NOW);
    let first = theirs(QueueSystem::Kueue, "a").take(&mut memory, (None, None), NOW, &mut vec![]);
    assert_eq!(first, None);
    memory.handed.as_mut().expect("it is handed over").made = Some("u".to_owned());
    memory
}

#[test]
fn it_is_handed_over_once_and_waits_until_it_is_let_in() {
    let mut memory = Memory::new(NOW);
    let mut news = Vec::new();
    let turn = theirs(QueueSystem::Kueue, "a");
    assert_eq!(turn.take(&mut memory, (None, None), NOW, &mut news), None);
    assert_eq!(news[0].reason, "HandedOver");
    assert_eq!(news[0].note, "Kueue's LocalQueue `team-a` decides when it starts");
    assert_eq!(turn.take(&mut memory, (None, None), NOW, &mut news), None);
    assert_eq!(news.len(), 1);

    memory.handed.as_mut().expect("handed over").made = Some("u".to_owned());
    let job = suspended();
    let mut next = start(1, "u", &job);
    next.group = Some(Group { waiting: said("Pending", "no room"), ..Group::default() });
    assert_eq!(turn.take(&mut memory, (None, Some(&next)), NOW, &mut news), None);
    let handed = memory.handed.clone().expect("handed over");
    assert_eq!(handed.waiting.map(|it| it.message).as_deref(), Some("no room"));

    // Kueue lets three of four in.
    let job = JobFacts { asked_to_suspend: false, parallelism: 3, ..suspended() };
    let mut next = start(1, "u", &job);
    next.group = Some(Group { quota: Some("all".into()), ..Group::default() });
    assert_eq!(turn.take(&mut memory, (None, Some(&next)), NOW, &mut news), Some(3));
    assert_eq!(memory.made.as_deref(), Some("u"));
    let note = "Kueue's LocalQueue `team-a` let 3 workers of it start on the quota of `all`";
    assert_eq!(news[1].note, note);
}

#[test]
fn what_is_asked_for_anew_is_handed_over_anew() {
    let job = JobFacts { parallelism: 4, ..JobFacts::default() };
    let take = |memory: &mut Memory, asked: &str, uid: &str| {
        let next = start(1, uid, &job);
        let turn = theirs(QueueSystem::Kueue, asked);
        turn.take(memory, (None, Some(&next)), NOW, &mut vec![])
    };
    let mut memory = waits();
    assert_eq!(take(&mut memory, "b", "u"), None);
    assert_eq!(memory.handed.as_ref().and_then(|it| it.made.clone()), None);
    // One of the same name that is not the one that was made.
    let mut memory = waits();
    assert_eq!(take(&mut memory, "a", "v"), None);
    assert_eq!(memory.handed.as_ref().and_then(|it| it.made.clone()), None);
    assert_eq!(take(&mut waits(), "a", "u"), Some(4));
}

#[test]
fn schedulers_let_in_by_placing() {
    let job = JobFacts { parallelism: 2, ..JobFacts::default() };
    for system in [QueueSystem::Kai, QueueSystem::Volcano] {
        let mut memory = Memory::new(NOW);
        let turn = theirs(system, "a");
        turn.take(&mut memory, (None, None), NOW, &mut vec![]);
        memory.handed.as_mut().expect("handed over").made = Some("u".to_owned());
        let mut next = start(1, "u", &job);
        next.trouble = Some("no node has room".to_owned());
        assert_eq!(turn.take(&mut memory, (None, Some(&next)), NOW, &mut vec![]), None);
        let waiting = memory.handed.as_ref().and_then(|it| it.waiting.clone());
        assert_eq!(waiting.map(|it| it.message).as_deref(), Some("no node has room"));
        next.is_placed = true;
        assert_eq!(turn.take(&mut memory, (None, Some(&next)), NOW, &mut vec![]), Some(2));
    }
}

#[test]
fn nothing_starts_beside_a_job_that_is_not_over() {
    let mut memory = Memory::new(NOW);
    let policy = Policy { retries: 0, deadline: None };
    memory.state = decide(&memory.state, &policy, &[], false, NOW).0;
    memory.state.phase = Phase::Waiting { until: NOW };
    assert_eq!(memory.state.attempts, 1);
    let turn = theirs(QueueSystem::Kueue, "a");
    let job = suspended();
    let mut last = start(1, "u", &job);
    assert_eq!(turn.take(&mut memory, (Some(&last), None), NOW, &mut vec![]), None);
    assert_eq!((&memory.handed, &memory.held), (&None, &None));
    last.group = Some(Group { is_deactivated: true, ..Group::default() });
    assert_eq!(turn.take(&mut memory, (Some(&last), None), NOW, &mut vec![]), None);
    assert_eq!(memory.held.as_ref().map(|it| it.reason.as_str()), Some("Deactivated"));
    let failed = JobFacts { failed: Some(("R".into(), "m".into())), ..suspended() };
    let mut last = start(1, "u", &failed);
    last.group = Some(Group { is_deactivated: true, ..Group::default() });
    turn.take(&mut memory, (Some(&last), None), NOW, &mut vec![]);
    assert!(memory.handed.is_none() && memory.held.is_some());
    let last = start(1, "u", &failed);
    turn.take(&mut memory, (Some(&last), None), NOW, &mut vec![]);
    assert!(memory.handed.is_some() && memory.held.is_none());
}

#[test]
fn room_is_taken_back() {
    let kueue = QueueSystem::Kueue;
    let runs = JobFacts::default();
    assert_eq!(start(1, "u", &runs).is_taken_back(kueue, false), None);
    let job = suspended();
    let mut last = start(1, "u", &job);
    let unknown = last.is_taken_back(kueue, false).expect("it is");
    assert_eq!(unknown, "has to stop: Kueue took its room back");
    assert_eq!(last.is_taken_back(kueue, true), None);
    last.group = Some(Group { evicted: said("Preempted", "for another"), ..Group::default() });
    for told_to_end in [false, true] {
        let told = last.is_taken_back(kueue, told_to_end).expect("it is");
        assert_eq!(told, "has to stop, as Kueue says: for another");
    }
    // Of that its workers have ended, and so its Job has failed.
    let failed = JobFacts { failed: Some(("R".into(), "m".into())), ..suspended() };
    assert!(start(1, "u", &failed).is_taken_back(kueue, false).is_some());
    let complete = JobFacts { is_complete: true, ..suspended() };
    assert_eq!(start(1, "u", &complete).is_taken_back(kueue, false), None);
    assert_eq!(State::new(NOW).preempted().phase, Phase::Waiting { until: NOW });
}

#[test]
fn who_is_placed_one_by_one_is_told_so() {
    let job = JobFacts::default();
    let mut last = start(1, "u", &job);
    assert_eq!(last.note(), None);
    last.group = Some(Group { is_no_gang: true, ..Group::default() });
    assert!(last.note().is_some_and(|it| it.contains("`kai.scheduler/batch-min-member`")));
    last.group = Some(Group::default());
    assert_eq!(last.note(), None);
}
