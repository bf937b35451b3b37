use super::*;
use crate::status::news;
use crate::world::Progress;

const NEW: &str = "iris-2";
const OLD: &str = "iris-1";

fn pod(name: &str, revision: &str, ready: bool) -> PodFacts {
    PodFacts {
        name: name.into(),
        resource_version: 1,
        revision: Some(revision.into()),
        is_candidate: false,
        ready,
        ending: false,
        ended: false,
        created: 0,
        worker: None,
        look: None,
        trouble: None,
    }
}

fn crashing(name: &str, revision: &str) -> PodFacts {
    let mut pod = pod(name, revision, false);
    pod.trouble = Some(Box::new(Trouble {
        reason: Reason::CrashLoop,
        pod: name.into(),
        container: "model".into(),
        image: String::new(),
        exit_code: Some(1),
        detail: "no model".into(),
        diagnosis: None,
    }));
    pod
}

fn unschedulable(name: &str, revision: &str) -> PodFacts {
    let mut pod = crashing(name, revision);
    pod.trouble.as_mut().expect("set").reason = Reason::Unschedulable;
    pod
}

fn facts(wanted: u32, progress: Progress) -> DeploymentFacts {
    DeploymentFacts {
        revision: NEW.into(),
        is_observed: true,
        wanted,
        replicas: wanted,
        updated: wanted,
        progress,
        ..DeploymentFacts::default()
    }
}

fn seen<'a>(deployment: Option<&'a DeploymentFacts>, pods: &'a [PodFacts]) -> Seen<'a> {
    Seen {
        generation: Some(2),
        target: Some(NEW),
        problem: None,
        deployment,
        pods: pods.iter().collect(),
        from_events: None,
        not_in_effect: Vec::new(),
        rollout: None,
        is_stopped: true,
        url: Some("http://iris.default.svc".into()),
        selector: Some("a=b".into()),
        before: None,
        now: Timestamp::from_second(1000).expect("a time"),
    }
}

/// Each condition as `Type=Reason` if it is true, and `!Type=Reason` if it is false.
fn shown(status: &ModelServiceStatus) -> String {
    let show = |condition: &Condition| {
        let mark = if condition.status == "True" { "" } else { "!" };
        format!("{mark}{}={}", condition.type_, condition.reason)
    };
    status.conditions.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(what: &str, deployment: Option<DeploymentFacts>, pods: &[PodFacts], expected: &str) {
    assert_eq!(shown(&decide(&seen(deployment.as_ref(), pods))), expected, "{what}");
}

#[test]
fn table() {
    use Progress::{Complete, DeadlineExceeded, UnderWay};
    check(
        "nothing there yet",
        None,
        &[],
        "!Ready=Applying Progressing=Applying !Degraded=AsAsked !Stalled=NotStalled",
    );
    check(
        "first start",
        Some(facts(2, UnderWay)),
        &[pod("a", NEW, false), pod("b", NEW, false)],
        "!Ready=RollingOut Progressing=RollingOut !Degraded=AsAsked !Stalled=NotStalled",
    );
    check(
        "whole",
        Some(facts(2, Complete)),
        &[pod("a", NEW, true), pod("b", NEW, true)],
        "Ready=Serving !Progressing=Complete !Degraded=AsAsked !Stalled=NotStalled",
    );
    check(
        "scales up",
        Some(facts(3, Complete)),
        &[pod("a", NEW, true), pod("b", NEW, false)],
        "Ready=Serving Progressing=Scaling !Degraded=AsAsked !Stalled=NotStalled",
    );
    check(
        "a new revision comes up beside the old one",
        Some(facts(1, UnderWay)),
        &[pod("a", OLD, true), pod("b", NEW, false)],
        "!Ready=RollingOut Progressing=RollingOut !Degraded=AsAsked !Stalled=NotStalled",
    );
    check(
        "a broken release leaves the old one",
        Some(facts(1, UnderWay)),
        &[pod("a", OLD, true), crashing("b", NEW)],
        "!Ready=CrashLoop !Progressing=CrashLoop Degraded=CrashLoop Stalled=CrashLoop",
    );
    check(
        "a broken first release",
        Some(facts(1, UnderWay)),
        &[crashing("b", NEW)],
        "!Ready=CrashLoop !Progressing=CrashLoop !Degraded=NotServing Stalled=CrashLoop",
    );
    check(
        "no room, which may pass",
        Some(facts(1, UnderWay)),
        &[unschedulable("b", NEW)],
        "!Ready=Unschedulable Progressing=Unschedulable !Degraded=NotServing !Stalled=NotStalled",
    );
    check(
        "no room for too long",
        Some(facts(1, DeadlineExceeded)),
        &[unschedulable("b", NEW)],
        "!Ready=Unschedulable !Progressing=Unschedulable !Degraded=NotServing Stalled=Unschedulable",
    );
    check(
        "too slow, and nobody knows why",
        Some(facts(1, DeadlineExceeded)),
        &[pod("b", NEW, false)],
        "!Ready=ProgressDeadlineExceeded !Progressing=ProgressDeadlineExceeded !Degraded=NotServing Stalled=ProgressDeadlineExceeded",
    );
    check(
        "one of two replicas crashes later",
        Some(facts(2, Complete)),
        &[pod("a", NEW, true), crashing("b", NEW)],
        "Ready=Serving Progressing=CrashLoop Degraded=CrashLoop !Stalled=NotStalled",
    );
    check(
        "all replicas crash later",
        Some(facts(1, Complete)),
        &[crashing("b", NEW)],
        "!Ready=CrashLoop !Progressing=CrashLoop !Degraded=NotServing Stalled=CrashLoop",
    );
    check(
        "at zero",
        Some(facts(0, Complete)),
        &[],
        "!Ready=ScaledToZero !Progressing=ScaledToZero !Degraded=AsAsked !Stalled=NotStalled",
    );
    let mut full = facts(1, UnderWay);
    full.create_failure = Some("pods \"x\" is forbidden: exceeded quota: q".into());
    check(
        "no quota",
        Some(full),
        &[pod("a", OLD, true)],
        "!Ready=QuotaExceeded !Progressing=QuotaExceeded Degraded=QuotaExceeded Stalled=QuotaExceeded",
    );
    let mut stale = facts(1, Complete);
    stale.is_observed = false;
    check(
        "the Deployment was not looked at yet",
        Some(stale),
        &[pod("a", OLD, true)],
        "!Ready=Applying Progressing=Applying !Degraded=AsAsked !Stalled=NotStalled",
    );
    let mut moving = facts(1, UnderWay);
    moving.replicas = 2;
    check(
        "the same revision cannot move to where there is no room",
        Some(moving),
        &[pod("a", NEW, true), unschedulable("b", NEW)],
        "Ready=Serving Progressing=Unschedulable Degraded=Unschedulable !Stalled=NotStalled",
    );
    let (mut ended, mut evicted) = (pod("a", NEW, false), crashing("b", NEW));
    (ended.ending, evicted.ended) = (true, true);
    check(
        "what ends or has failed for good is history while others serve",
        Some(facts(1, Complete)),
        &[ended, evicted, pod("c", NEW, true)],
        "Ready=Serving !Progressing=Complete !Degraded=AsAsked !Stalled=NotStalled",
    );
}

#[test]
fn a_problem_of_the_spec_is_told_while_the_old_revision_serves() {
    let pods = [pod("a", OLD, true)];
    let deployment = facts(1, Progress::Complete);
    let mut seen = seen(Some(&deployment), &pods);
    seen.target = None;
    seen.problem = Some(Problem { reason: Reason::InvalidSpec, message: "`spec.x`: no".into() });
    let status = decide(&seen);
    let expected =
        "!Ready=InvalidSpec !Progressing=InvalidSpec Degraded=InvalidSpec Stalled=InvalidSpec";
    assert_eq!(shown(&status), expected);
    assert_eq!(status.revision.as_deref(), Some(OLD));
    assert_eq!(status.conditions[3].message, "`spec.x`: no");
    let told = news(&[], &status.conditions);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].is_warning);
}

#[test]
fn revisions_and_their_shares() {
    let pods =
        [pod("a", OLD, true), pod("b", OLD, true), pod("c", NEW, true), pod("d", NEW, false)];
    let deployment = facts(3, Progress::UnderWay);
    let status = decide(&seen(Some(&deployment), &pods));
    let shown: Vec<_> = status
        .revisions
        .iter()
        .map(|r| (r.name.as_str(), r.traffic, r.replicas, r.ready_replicas))
        .collect();
    assert_eq!(shown, [(OLD, 67, 2, 2), (NEW, 33, 2, 1)]);
    assert_eq!((status.replicas, status.ready_replicas), (4, 3));
}

#[test]
fn the_same_again_is_the_same_status_and_no_news() {
    let pods = [pod("a", NEW, true)];
    let deployment = facts(1, Progress::Complete);
    let mut at = seen(Some(&deployment), &pods);
    let first = decide(&at);
    assert_eq!(news(&[], &first.conditions)[0].reason, "Serving");
    at.before = Some(&first);
    at.now = Timestamp::from_second(2000).expect("a time");
    let second = decide(&at);
    assert_eq!(first, second);
    assert_eq!(news(&first.conditions, &second.conditions), []);

    let pods = [crashing("a", NEW)];
    let mut at = seen(Some(&deployment), &pods);
    at.before = Some(&first);
    at.now = Timestamp::from_second(3000).expect("a time");
    let third = decide(&at);
    let times: Vec<i64> =
        third.conditions.iter().map(|c| c.last_transition_time.0.as_second()).collect();
    assert_eq!(times, [3000, 1000, 1000, 3000]);
    let told = news(&first.conditions, &third.conditions);
    assert_eq!(told.iter().map(|news| news.reason.as_str()).collect::<Vec<_>>(), ["CrashLoop"]);
}
