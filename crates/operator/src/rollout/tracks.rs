//! Which revision is on which track, with how many replicas.

use serde::{Deserialize, Serialize};
use trainyard_control::rollout::{Decision, Replicas};
use trainyard_plan::RevisionName;

/// The revisions of the two tracks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tracks {
    /// What the Deployment of the service's own name runs, or comes to run.
    pub(super) stable: Option<RevisionName>,
    /// It still has replicas of the revision before, and so gets no requests.
    #[serde(default)]
    pub(super) changing_over: bool,
    /// What the Deployment beside it runs, if there is to be one.
    pub(super) candidate: Option<RevisionName>,
}

/// What one track has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Its Deployment is there.
    pub(super) exists: bool,
    /// Replicas that its Deployment should have.
    pub(super) wanted: u32,
    pub(super) live: u32,
    pub(super) ready: u32,
    pub(super) ending: u32,
    pub(super) crash_looping: bool,
    /// Every replica is of the newest template, and ready.
    pub(super) is_whole: bool,
}

impl Seen {
    pub(super) fn replicas(&self) -> Replicas {
        Replicas {
            // Pods that a Deployment has yet to make hold their places.
            starting: self.live.max(self.wanted).saturating_sub(self.ready),
            ready: self.ready,
            draining: self.ending,
            failed: 0,
        }
    }
}

/// What holds for one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Replicas that the service should have.
    pub(super) wanted: u32,
    /// An autoscaler of Kubernetes has the stable Deployment's replicas: they are not taken away.
    pub(super) keeps_stable: bool,
    /// Replicas above the wanted number while a revision moves from one track to the other.
    pub(super) surge: u32,
}

/// What each track should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) tracks: Tracks,
    pub(super) stable: u32,
    /// 0: no Deployment.
    pub(super) candidate: u32,
}

/// Puts the revisions of a decision on tracks.
///
/// `lead` is the revision that requests are to end up at if nothing changes: the one that was
/// completed last, or without one the target. A revision stays where it is. One that has no track
/// waits until the candidate's is free of all that was there. When `lead` has taken over on the
/// candidate's track, it moves to the stable one: replica by replica, the old one's having gone; or
/// where these are not ours to take away, all at once beside them.
pub(super) fn assign(
    tracks: &Tracks,
    (stable, candidate): (&Seen, &Seen),
    decision: &Decision,
    (lead, target): (&RevisionName, &RevisionName),
    has_served: bool,
    rules: Rules,
) -> Assigned {
    let allotted = |revision: &RevisionName| {
        decision.revisions.get(revision).map_or(0, |allotment| allotment.replicas)
    };
    let mut next = tracks.clone();
    next.changing_over &= !stable.is_whole;
    match &next.stable {
        Some(there) if there == lead => {}
        Some(there) if has_served => {
            let is_free = stable.live == 0 || rules.keeps_stable;
            if allotted(there) == 0 && is_free {
                next.changing_over = stable.live > 0;
                next.stable = Some(lead.clone());
            }
        }
        // Nothing that was there ever served.
        _ => next.stable = Some(lead.clone()),
    }
    let on_stable = next.stable.clone().unwrap_or_else(|| lead.clone());

    let (of_stable, mut of_candidate);
    if next.candidate.as_ref() == Some(&on_stable) {
        let wanted = allotted(&on_stable);
        let filled = if next.changing_over { 0 } else { stable.ready.min(wanted) };
        if rules.keeps_stable {
            of_stable = rules.wanted;
            of_candidate = if filled >= wanted { 0 } else { wanted };
        } else {
            of_stable = filled.saturating_add(rules.surge).min(wanted);
            of_candidate = wanted.saturating_sub(filled);
        }
    } else {
        of_stable = if rules.keeps_stable { rules.wanted } else { allotted(&on_stable) };
        of_candidate = next.candidate.as_ref().map_or(0, allotted);
    }
    if of_candidate == 0 {
        next.candidate = None;
    }
    // Replicas of another revision would be taken for this one's.
    let is_free = next.candidate.is_none() && !candidate.exists && candidate.live == 0;
    if is_free && *target != on_stable && allotted(target) > 0 {
        next.candidate = Some(target.clone());
        of_candidate = allotted(target);
    }
    Assigned { tracks: next, stable: of_stable, candidate: of_candidate }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trainyard_control::rollout::{Allotment, Phase, Reason};

    use super::*;

    fn name(name: &str) -> RevisionName {
        RevisionName::stored(name)
    }

    fn tracks(stable: &str, candidate: &str) -> Tracks {
        let some = |text: &str| (!text.is_empty()).then(|| name(text));
        Tracks { stable: some(stable), changing_over: false, candidate: some(candidate) }
    }

    /// So many ready replicas, all of them wanted.
    fn seen(ready: u32) -> Seen {
        Seen {
            exists: ready > 0,
            wanted: ready,
            live: ready,
            ready,
            is_whole: true,
            ..Seen::default()
        }
    }

    fn decision(allotted: &[(&str, u32)]) -> Decision {
        let revisions: BTreeMap<RevisionName, Allotment> = allotted
            .iter()
            .map(|(revision, replicas)| {
                (name(revision), Allotment { replicas: *replicas, weight: 0 })
            })
            .collect();
        let (phase, reason) = (Phase::Progressing, Reason::Replacing);
        Decision { revisions, mirror: None, phase, reason, look_again_at: None }
    }

    /// Four replicas wanted, one more allowed. `lead/target`, and as expected `stable:n candidate:n`.
    #[track_caller]
    fn check(
        what: &str,
        (at, stable, candidate): (Tracks, Seen, Seen),
        allotted: &[(&str, u32)],
        lead_and_target: &str,
        expected: &str,
    ) {
        let rules = Rules { wanted: 4, keeps_stable: false, surge: 1 };
        check_by(rules, what, (at, stable, candidate), allotted, lead_and_target, expected);
    }

    #[track_caller]
    fn check_by(
        rules: Rules,
        what: &str,
        (at, stable, candidate): (Tracks, Seen, Seen),
        allotted: &[(&str, u32)],
        lead_and_target: &str,
        expected: &str,
    ) {
        let (lead, target) = lead_and_target.split_once('/').expect("two names");
        let names = (&name(lead), &name(target));
        let given = assign(&at, (&stable, &candidate), &decision(allotted), names, true, rules);
        let shown = |revision: &Option<RevisionName>, count: u32| match revision {
            Some(revision) => format!("{revision}:{count}"),
            None => "-".to_owned(),
        };
        let over = if given.tracks.changing_over { "!" } else { "" };
        let shown = format!(
            "{over}{} {}",
            shown(&given.tracks.stable, given.stable),
            shown(&given.tracks.candidate, given.candidate)
        );
        assert_eq!(shown, expected, "{what}");
    }

    #[test]
    fn table() {
        let none = Seen::default();
        check("steady", (tracks("a", ""), seen(4), none), &[("a", 4)], "a/a", "a:4 -");
        check(
            "a canary",
            (tracks("a", ""), seen(4), none),
            &[("a", 4), ("b", 1)],
            "a/b",
            "a:4 b:1",
        );
        check(
            "it replaces",
            (tracks("a", "b"), seen(2), seen(3)),
            &[("a", 1), ("b", 4)],
            "a/b",
            "a:1 b:4",
        );
        check(
            "it was given up",
            (tracks("a", "b"), seen(4), seen(1)),
            &[("a", 4), ("b", 0)],
            "a/b",
            "a:4 -",
        );
        check(
            "superseded: the place is not free yet",
            (tracks("a", "b"), seen(4), seen(1)),
            &[("a", 4), ("b", 0), ("c", 1)],
            "a/c",
            "a:4 -",
        );
        check(
            "superseded while it replaces: it keeps what the stable one lacks",
            (tracks("a", "b"), seen(2), seen(3)),
            &[("a", 2), ("b", 2), ("c", 1)],
            "a/c",
            "a:2 b:2",
        );
        check(
            "superseded: the place is free",
            (tracks("a", ""), seen(4), none),
            &[("a", 4), ("c", 1)],
            "a/c",
            "a:4 c:1",
        );
    }

    #[test]
    fn a_revision_that_has_taken_over_moves_to_the_stable_track() {
        let none = Seen::default();
        let both = |stable, candidate| (tracks("b", "b"), seen(stable), seen(candidate));
        check(
            "the old one still goes",
            (tracks("a", "b"), seen(1), seen(4)),
            &[("a", 0), ("b", 4)],
            "b/b",
            "a:0 b:4",
        );
        let gone = (tracks("a", "b"), none, seen(4));
        check("the first replica", gone, &[("a", 0), ("b", 4)], "b/b", "b:1 b:4");
        check("one moved", both(1, 4), &[("b", 4)], "b/b", "b:2 b:3");
        check("all but one", both(3, 1), &[("b", 4)], "b/b", "b:4 b:1");
        check("all", both(4, 1), &[("b", 4)], "b/b", "b:4 -");
        check("a new revision waits", both(2, 2), &[("b", 4), ("c", 1)], "b/c", "b:3 b:2");
        check("back to zero", both(1, 1), &[("b", 0)], "b/b", "b:0 -");
    }

    #[test]
    fn a_way_back_after_it_has_taken_over() {
        // `b` is stable and on the candidate's track; `a` is asked for again.
        let back = |a, b| (tracks("a", "b"), seen(a), seen(b));
        check("it comes up where it was", back(0, 4), &[("a", 1), ("b", 4)], "b/a", "a:1 b:4");
        check("and takes over", back(4, 1), &[("a", 4), ("b", 0)], "a/a", "a:4 -");
        // It was given up there: its place is taken over.
        check("or fails", back(0, 4), &[("a", 0), ("b", 4)], "b/a", "b:1 b:4");
    }

    #[test]
    fn at_zero_a_revision_takes_the_place_at_once() {
        let none = Seen::default();
        check("none runs", (tracks("a", ""), none, none), &[("a", 0), ("b", 0)], "b/b", "b:0 -");
        check("one ends", (tracks("a", ""), seen(1), none), &[("a", 0), ("b", 0)], "b/b", "a:0 -");
    }

    #[test]
    fn replicas_of_an_autoscaler_are_not_taken_away() {
        let rules = Rules { wanted: 4, keeps_stable: true, surge: 1 };
        let changing =
            |stable: Seen| (Tracks { changing_over: true, ..tracks("b", "b") }, stable, seen(4));
        let old = (tracks("a", "b"), seen(4), seen(2));
        check_by(rules, "whole to the end", old, &[("a", 1), ("b", 4)], "a/b", "a:4 b:4");
        let over = (tracks("a", "b"), seen(4), seen(4));
        check_by(rules, "at once", over, &[("a", 0), ("b", 4)], "b/b", "!b:4 b:4");
        let half = changing(Seen { is_whole: false, ..seen(4) });
        check_by(rules, "both revisions are there", half, &[("b", 4)], "b/b", "!b:4 b:4");
        check_by(rules, "whole again", changing(seen(4)), &[("b", 4)], "b/b", "b:4 -");
    }

    #[test]
    fn what_never_served_is_replaced_in_place() {
        let rules = Rules { wanted: 4, keeps_stable: false, surge: 1 };
        let at = (&Seen { ready: 0, ..seen(4) }, &Seen::default());
        let names = (&name("b"), &name("b"));
        let given = assign(&tracks("a", ""), at, &decision(&[("b", 4)]), names, false, rules);
        assert_eq!((given.tracks, given.stable), (tracks("b", ""), 4));
        let none = (&Seen::default(), &Seen::default());
        let given = assign(&Tracks::default(), none, &decision(&[("b", 4)]), names, false, rules);
        assert_eq!((given.tracks, given.stable), (tracks("b", ""), 4));
    }
}
