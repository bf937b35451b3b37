//! Which replicas to start and which to stop, so that there are as many as decided.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use trainyard_plan::RevisionName;

use super::replica::{Phase, Replica};

/// What has to be done. Starts come first: a replica is ready before another one drains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// Revision and index of each slot to start.
    pub(crate) start: Vec<(RevisionName, u32)>,
    pub(crate) stop: Vec<Arc<str>>,
}

/// Compares what was decided for each revision with the replicas that there are.
///
/// Replicas that are outdated are replaced one at a time: one more is started, and once the
/// revision has a ready one to spare, an outdated one stops.
pub(crate) fn changes(decided: &BTreeMap<RevisionName, u32>, replicas: &[Replica]) -> Changes {
    let mut changes = Changes::default();
    let mut revisions: Vec<&RevisionName> = decided.keys().collect();
    revisions.extend(replicas.iter().map(|replica| &replica.revision));
    revisions.sort();
    revisions.dedup();
    for revision in revisions {
        let wanted = decided.get(revision).copied().unwrap_or(0);
        let of_revision: Vec<&Replica> =
            replicas.iter().filter(|replica| replica.revision == *revision).collect();
        one_revision(revision, wanted, &of_revision, &mut changes);
    }
    changes
}

fn one_revision(name: &RevisionName, wanted: u32, all: &[&Replica], changes: &mut Changes) {
    let mut staying: Vec<&Replica> =
        all.iter().copied().filter(|replica| replica.phase != Phase::Draining).collect();
    // Those that go first come first: outdated ones, and of them and of the others those that
    // serve least, the newest of them before older ones.
    staying.sort_by_key(|replica| {
        (Reverse(replica.outdated), replica.phase, Reverse(replica.index), replica.id.clone())
    });
    let count = |which: &dyn Fn(&Replica) -> bool| {
        u32::try_from(staying.iter().filter(|replica| which(replica)).count()).unwrap_or(u32::MAX)
    };
    let total = count(&|_| true);
    let fresh = count(&|replica| !replica.outdated);
    let ready = count(&|replica| replica.phase == Phase::Ready);
    let outdated = total.saturating_sub(fresh);

    let room = if outdated > 0 { wanted.saturating_add(1) } else { wanted }.saturating_sub(total);
    let start = wanted.saturating_sub(fresh).min(room);
    let mut free = (0..).filter(|index| all.iter().all(|replica| replica.index != *index));
    changes.start.extend(free.by_ref().take(start as usize).map(|index| (name.clone(), index)));

    let mut surplus = total.saturating_sub(wanted);
    let mut spare = ready.saturating_sub(wanted);
    let mut left = outdated;
    // First those that are replaced: at once if they serve nothing, else when one is to spare.
    for replica in staying.iter().filter(|replica| replica.outdated) {
        let is_ready = replica.phase == Phase::Ready;
        if surplus == 0 || (is_ready && spare == 0) {
            break;
        }
        spare = spare.saturating_sub(u32::from(is_ready));
        surplus = surplus.saturating_sub(1);
        left = left.saturating_sub(1);
        changes.stop.push(replica.id.clone());
    }
    // While some are still to be replaced, the one that will replace the next may stay.
    if left > 0 {
        surplus = surplus.saturating_sub(1);
    }
    for replica in staying.iter().filter(|replica| !replica.outdated).take(surplus as usize) {
        if replica.phase == Phase::Ready {
            if spare == 0 {
                break;
            }
            spare = spare.saturating_sub(1);
        }
        changes.stop.push(replica.id.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `r`eady, `s`tarting, `f`ailed, `d`raining; upper case if outdated.
    fn replicas(revision: &str, text: &str) -> Vec<Replica> {
        text.char_indices()
            .map(|(index, c)| Replica {
                id: format!("{revision}{index}").into(),
                revision: RevisionName::stored(revision),
                phase: match c.to_ascii_lowercase() {
                    'r' => Phase::Ready,
                    's' => Phase::Starting,
                    'f' => Phase::Failed,
                    _ => Phase::Draining,
                },
                crash_looping: false,
                outdated: c.is_ascii_uppercase(),
                index: index as u32,
            })
            .collect()
    }

    #[track_caller]
    fn check(wanted: u32, have: &str, start: &[u32], stop: &[&str]) {
        let name = RevisionName::stored("a");
        let changes = changes(&[(name, wanted)].into(), &replicas("a", have));
        let started: Vec<u32> = changes.start.iter().map(|(_, index)| *index).collect();
        let stopped: Vec<&str> = changes.stop.iter().map(|id| &**id).collect();
        assert_eq!((started.as_slice(), stopped.as_slice()), (start, stop), "{wanted} of {have}");
    }

    #[test]
    fn table() {
        check(2, "", &[0, 1], &[]);
        check(2, "rr", &[], &[]);
        check(3, "rs", &[2], &[]);
        check(2, "dr", &[2], &[]);
        check(1, "rr", &[], &["a1"]);
        check(1, "rsf", &[], &["a2", "a1"]);
        check(1, "srr", &[], &["a0", "a2"]);
        check(0, "rd", &[], &["a0"]);
        check(2, "rf", &[], &[]);
    }

    #[test]
    fn outdated_ones_are_replaced_one_at_a_time() {
        check(2, "RR", &[2], &[]);
        check(2, "RRs", &[], &[]);
        check(2, "RRr", &[], &["a1"]);
        check(2, "RDr", &[3], &[]);
        check(2, "RDrs", &[], &[]);
        check(2, "RDrr", &[], &["a0"]);
        check(1, "Rf", &[], &[]);
        check(1, "Fr", &[], &["a0"]);
        check(0, "R", &[], &["a0"]);
    }

    #[test]
    fn a_revision_that_nobody_decided_about_goes() {
        let mut both = replicas("a", "rr");
        both.extend(replicas("b", "r"));
        let changes = changes(&[(RevisionName::stored("b"), 1)].into(), &both);
        assert_eq!(changes.stop.len(), 2);
        assert!(changes.start.is_empty());
    }

    proptest! {
        /// Carrying changes out, with every replica ready at once, ends where it should, and never
        /// takes a ready one below what was there or wanted.
        #[test]
        fn converges(have in "[rsfdRSF]{0,8}", wanted in 0u32..6) {
            let name = RevisionName::stored("a");
            let decided: BTreeMap<_, _> = [(name.clone(), wanted)].into();
            let mut now = replicas("a", &have);
            for turn in 0.. {
                prop_assert!(turn < 40);
                let ready = |now: &[Replica]| now.iter().filter(|r| r.phase == Phase::Ready).count();
                let before = ready(&now);
                let step = changes(&decided, &now);
                if step == Changes::default() {
                    let stays: Vec<_> = now.iter().filter(|r| r.phase != Phase::Draining).collect();
                    if stays.iter().all(|r| r.phase == Phase::Ready) {
                        prop_assert_eq!(stays.len(), wanted as usize);
                        prop_assert!(stays.iter().all(|r| !r.outdated));
                        break;
                    }
                }
                now.retain(|r| !step.stop.contains(&r.id));
                prop_assert!(ready(&now) >= before.min(wanted as usize));
                for (revision, index) in step.start {
                    let id = format!("n{turn}-{index}").into();
                    let (phase, crash_looping, outdated) = (Phase::Starting, false, false);
                    now.push(Replica { id, revision, phase, crash_looping, outdated, index });
                }
                for replica in &mut now {
                    if replica.phase != Phase::Draining {
                        replica.phase = Phase::Ready;
                    }
                }
            }
        }
    }
}
