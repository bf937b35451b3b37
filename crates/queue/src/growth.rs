//! When room that has become free is worth a new start of a workload with more workers.
//!
//! Such a start costs a checkpoint and the time until all workers train again, and what is free now may
//! be asked for in a moment. So room counts only once it has been free for as long as the change would
//! take, and a workload changes again only after it has run for several times that long.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decision::{Decisions, Resize, Room, Why};
use crate::workload::Snapshot;

/// So many times its cost a workload runs before it grows: at most a sixth of its time is lost to that.
const RUNS_FOR: u32 = 5;

/// Room that was found, and since when. Starts empty, and is forgotten without harm: it settles anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growth {
    settling: BTreeMap<String, Settling>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settling {
    /// The least that was free in all that time.
    room: Room,
    since: Duration,
    due: Duration,
}

impl Growth {
    /// Takes in what one cycle found. Returns who is to have more workers now.
    pub fn take_in(
        &mut self,
        snapshot: &Snapshot,
        decisions: &Decisions,
        now: Duration,
    ) -> BTreeMap<String, Resize> {
        let before = std::mem::take(&mut self.settling);
        let mut ripe = BTreeMap::new();
        for (name, room) in &decisions.rooms {
            let Some(workload) = snapshot.workloads.get(name) else { continue };
            let (Some(cost), Some(has)) = (workload.restart_cost, &workload.admission) else {
                continue;
            };
            let (mut room, mut since) = (*room, now);
            if let Some(before) = before.get(name) {
                since = before.since;
                if before.room.workers < room.workers {
                    room = before.room;
                }
            }
            let due = since.saturating_add(cost);
            let due = due.max(has.since.saturating_add(cost.saturating_mul(RUNS_FOR)));
            if now < due {
                self.settling.insert(name.clone(), Settling { room, since, due });
                continue;
            }
            let Room { workers: to, borrows } = room;
            let resize = Resize { from: has.count, to, borrows, why: Why::Room };
            ripe.insert(name.clone(), resize);
        }
        ripe
    }

    /// When there is something to decide though nothing has changed.
    pub fn look_again_at(&self) -> Option<Duration> {
        self.settling.values().map(|it| it.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Admission, Workload};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One that has two workers since second 100, whose change costs 10 s.
    fn snapshot() -> Snapshot {
        let admission = Admission {
            flavour: "t4".to_owned(),
            count: 2,
            since: at(100),
            ends_by: None,
            is_leaving: false,
            shrinks_to: None,
        };
        let workload = Workload {
            count: 8,
            min_count: Some(1),
            restart_cost: Some(at(10)),
            admission: Some(admission),
            ..Workload::default()
        };
        Snapshot { workloads: [("r".to_owned(), workload)].into(), ..Snapshot::default() }
    }

    /// What is found second by second: how many workers it could have, 0 for no room. Expects when it
    /// grows, and to how many.
    #[track_caller]
    fn check(what: &str, found: &[(u64, u32)], expected: &[(u64, u32)]) {
        let mut growth = Growth::default();
        let mut grown = Vec::new();
        for (second, workers) in found {
            let mut decisions = Decisions::default();
            if *workers > 0 {
                let room = Room { workers: *workers, borrows: false };
                decisions.rooms.insert("r".to_owned(), room);
            }
            let ripe = growth.take_in(&snapshot(), &decisions, at(*second));
            grown.extend(ripe.into_values().map(|it| (*second, it.to)));
        }
        assert_eq!(grown, expected, "{what}");
    }

    #[test]
    fn table() {
        check("it has to settle", &[(500, 3), (509, 3), (510, 3)], &[(510, 3)]);
        check("it was used in between", &[(500, 3), (505, 0), (509, 3), (518, 3)], &[]);
        check("the least of it counts", &[(500, 4), (505, 3), (510, 8)], &[(510, 3)]);
        check("it ran too shortly", &[(101, 3), (111, 3), (149, 3), (150, 3)], &[(150, 3)]);
        check("nothing is looked at before", &[(500, 3)], &[]);
    }

    #[test]
    fn when_to_look_again() {
        let mut growth = Growth::default();
        let mut decisions = Decisions::default();
        assert_eq!(growth.look_again_at(), None);
        decisions.rooms.insert("r".to_owned(), Room { workers: 3, borrows: true });
        growth.take_in(&snapshot(), &decisions, at(120));
        assert_eq!(growth.look_again_at(), Some(at(150)));
        growth.take_in(&snapshot(), &decisions, at(145));
        let ripe = growth.take_in(&snapshot(), &decisions, at(150));
        assert_eq!(
            ripe["r"].to_string(),
            "from 2 to 3 workers, since there is room that nobody waits for"
        );
        assert!(ripe["r"].borrows && growth.look_again_at().is_none());
    }
}
