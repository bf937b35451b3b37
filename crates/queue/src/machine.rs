//! One machine that has to have room for what all queues let in.
//!
//! In a cluster a scheduler sees to that, and more machines may come. Here the machine is asked after
//! the queues: as one more queue, in which everything stands that a queue has let in, and what names
//! no queue. Who waits for the machine has its place there by priority and time, whatever its queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::amounts::{Amounts, Resource};
use crate::cycle::decide;
use crate::decision::{Assignment, Decision, Decisions, Room, Wait, Why};
use crate::queue::{FlavourQuota, Preemption, Queue, Quota, Strategy, WithinQueue};
use crate::workload::{Snapshot, Workload};

/// What there is to ration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Of its queue, and of that queue's one flavour. Workloads that name it ask no other queue.
    pub name: String,
    pub capacity: Amounts,
}

impl Machine {
    /// Decides about all that waits: what a queue would let in starts if the machine has room too.
    ///
    /// Quotas beyond what the machine has count as what it has, and what a queue does not ration is
    /// rationed by the machine. Without any queue whoever has a higher priority pushes out others;
    /// where there are queues, they say who makes room.
    pub fn decide(&self, snapshot: &Snapshot, now: Duration) -> Decisions {
        let by_quota = decide(&self.of_queues(snapshot), now);
        // Who makes room for a workload for which the machine has none anyway stays.
        let mut leaving: BTreeSet<&str> = by_quota.evictions.keys().map(String::as_str).collect();
        leaving.extend(by_quota.shrinks.keys().map(String::as_str));
        let by_room = loop {
            let by_room = decide(&self.of_machine(snapshot, &by_quota, &leaving), now);
            let before = leaving.len();
            leaving.retain(|name| {
                let shrink = by_quota.shrinks.get(*name).and_then(|it| match &it.why {
                    Why::MakesRoom(eviction) => Some(eviction),
                    Why::Room | Why::NodesMissing => None,
                });
                let eviction = by_quota.evictions.get(*name).or(shrink);
                eviction.is_some_and(|it| is_about_to_start(by_room.pending.get(&it.for_whom)))
            });
            if leaving.len() == before {
                break by_room;
            }
        };
        let leaving = leaving.into_iter().map(str::to_owned).collect();
        self.merged(by_quota, by_room, &leaving)
    }

    /// Why a workload waits, for people: a wait for the machine itself is told without words of
    /// quotas.
    pub fn why(&self, reason: &Wait) -> String {
        match reason {
            Wait::QuotaUsed { flavour, resource, asked, left } if *flavour == self.name => {
                let [asked, all, left] = [*asked, self.capacity.of(*resource), *left]
                    .map(|amount| resource.show(amount));
                format!(
                    "it asks for {asked} of {resource}, and {left} of this machine's {all} is free"
                )
            }
            Wait::ExceedsQuota { flavour, resource, asked, most } if *flavour == self.name => {
                let [asked, most] = [*asked, *most].map(|amount| resource.show(amount));
                format!("it asks for {asked} of {resource}, and this machine has {most}")
            }
            other => other.to_string(),
        }
    }

    /// The queues alone, and what names one.
    fn of_queues(&self, snapshot: &Snapshot) -> Snapshot {
        let queues = snapshot.queues.iter().map(|(name, queue)| (name.clone(), self.fitted(queue)));
        let named = snapshot.workloads.iter().filter(|(_, workload)| workload.queue != self.name);
        Snapshot {
            queues: queues.collect(),
            workloads: named.map(|(name, workload)| (name.clone(), workload.clone())).collect(),
        }
    }

    /// A queue with no more than the machine has.
    fn fitted(&self, queue: &Queue) -> Queue {
        let fit = |quota: Option<Quota>, resource| {
            let most = self.capacity.of(resource);
            Some(match quota {
                Some(quota) => Quota { nominal: quota.nominal.min(most), ..quota },
                None => Quota { nominal: most, borrowing_limit: Some(0), lending_limit: Some(0) },
            })
        };
        let flavours = queue.flavours.iter().map(|it| FlavourQuota {
            flavour: it.flavour.clone(),
            cpu: fit(it.cpu, Resource::Cpu),
            memory: fit(it.memory, Resource::Memory),
            gpu: fit(it.gpu, Resource::Gpu),
        });
        Queue { flavours: flavours.collect(), ..queue.clone() }
    }

    /// The machine as a queue, and what asks it for room.
    fn of_machine(
        &self,
        snapshot: &Snapshot,
        by_quota: &Decisions,
        leaving: &BTreeSet<&str>,
    ) -> Snapshot {
        let quota = |nominal| Some(Quota { nominal, ..Quota::default() });
        let queue = Queue {
            flavours: vec![FlavourQuota {
                flavour: self.name.clone(),
                cpu: quota(self.capacity.cpu),
                memory: quota(self.capacity.memory),
                gpu: quota(self.capacity.gpu),
            }],
            strategy: Strategy::Backfill,
            preemption: Preemption {
                within_queue: match snapshot.queues.is_empty() {
                    true => WithinQueue::LowerPriority,
                    false => WithinQueue::Never,
                },
                ..Preemption::default()
            },
            ..Queue::default()
        };
        // Once it has its quota it asks the machine, and is not to find that others have grown.
        let waits_for_quota = by_quota.pending.values().any(|decision| match decision {
            Decision::Admit(_) => false,
            Decision::Wait(waiting) => {
                !waiting.reason.needs_a_person() && !is_preempting(&waiting.reason)
            }
        });
        let asking = snapshot.workloads.iter().filter_map(|(name, workload)| {
            let mut workload = workload.clone();
            let is_asked = workload.queue != self.name;
            workload.queue.clone_from(&self.name);
            workload.flavours = vec![self.name.clone()];
            if let Some(admission) = &mut workload.admission {
                admission.flavour.clone_from(&self.name);
                if leaving.contains(name.as_str()) {
                    match by_quota.shrinks.get(name) {
                        Some(shrink) => admission.shrinks_to = Some(shrink.to),
                        None => admission.is_leaving = true,
                    }
                }
                if waits_for_quota {
                    workload.count = admission.count;
                } else if is_asked {
                    // It gets no more than its queue has.
                    let room = by_quota.rooms.get(name);
                    workload.count = room.map_or(admission.count, |room| room.workers);
                }
                return Some((name.clone(), workload));
            }
            match by_quota.pending.get(name) {
                None => {}
                Some(Decision::Admit(assignment)) => shrink(&mut workload, assignment),
                Some(Decision::Wait(waiting)) if is_preempting(&waiting.reason) => {}
                Some(Decision::Wait(_)) => return None,
            }
            Some((name.clone(), workload))
        });
        Snapshot {
            queues: BTreeMap::from([(self.name.clone(), queue)]),
            workloads: asking.collect(),
        }
    }

    /// Both must let a workload in; the machine's reasons are told where the quota is there.
    fn merged(
        &self,
        mut by_quota: Decisions,
        by_room: Decisions,
        leaving: &BTreeSet<String>,
    ) -> Decisions {
        by_quota.evictions.retain(|name, _| leaving.contains(name));
        by_quota.shrinks.retain(|name, _| leaving.contains(name));
        for (name, room) in by_room.pending {
            let decision = match (by_quota.pending.remove(&name), room) {
                (Some(Decision::Admit(quota)), Decision::Admit(room)) => {
                    Decision::Admit(Assignment { count: room.count, ..quota })
                }
                (Some(Decision::Wait(quota)), room) if is_about_to_start(Some(&room)) => {
                    Decision::Wait(quota)
                }
                (_, room) => room,
            };
            by_quota.pending.insert(name, decision);
        }
        by_quota.evictions.extend(by_room.evictions);
        by_quota.shrinks.extend(by_room.shrinks);
        let rooms = by_room.rooms.into_iter().map(|(name, room)| {
            let borrows = by_quota.rooms.get(&name).is_some_and(|it| it.borrows);
            (name, Room { borrows, ..room })
        });
        by_quota.rooms = rooms.collect();
        by_quota.used.extend(by_room.used);
        by_quota
    }
}

/// Asks for no more workers than its quota has.
fn shrink(workload: &mut Workload, assignment: &Assignment) {
    workload.min_count = workload.min_count.map(|min| min.min(assignment.count));
    workload.count = assignment.count;
}

fn is_preempting(reason: &Wait) -> bool {
    matches!(reason, Wait::Preempting { .. })
}

/// It has room, or others make room for it.
fn is_about_to_start(decision: Option<&Decision>) -> bool {
    match decision {
        Some(Decision::Admit(_)) => true,
        Some(Decision::Wait(waiting)) => is_preempting(&waiting.reason),
        None => false,
    }
}
