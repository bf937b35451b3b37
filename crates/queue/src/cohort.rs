//! One closed economy: queues that lend to each other, with names made into places of tables.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::amounts::{Amounts, Resource};
use crate::queue::{Preemption, Queue, Quota, Strategy};
use crate::workload::Snapshot;

/// Resources of a flavour.
pub(crate) const WIDTH: usize = Resource::ALL.len();

/// Queues of one cohort, or one queue without.
pub(crate) struct Cohort<'a> {
    pub(crate) queues: Vec<Member<'a>>,
    pub(crate) flavours: Vec<&'a str>,
    /// By queue, then flavour, then resource.
    quotas: Vec<Option<Quota>>,
    /// What all queues together have to lend, by flavour, then resource.
    pub(crate) lendable: Vec<u64>,
    pub(crate) is_fair: bool,
    pub(crate) running: Vec<Running<'a>>,
}

/// One queue.
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    pub(crate) strategy: Strategy,
    pub(crate) preemption: Preemption,
    pub(crate) weight: u64,
    /// Its flavours in its own order.
    pub(crate) flavours: Vec<usize>,
    /// Who waits, first first.
    pub(crate) pending: Vec<Pending<'a>>,
}

pub(crate) struct Pending<'a> {
    pub(crate) name: &'a str,
    pub(crate) priority: i32,
    pub(crate) created: Duration,
    pub(crate) per_worker: Amounts,
    pub(crate) count: u32,
    pub(crate) min: u32,
    /// Those of its queue that will do, in the queue's order.
    pub(crate) flavours: Vec<usize>,
    /// Those that will do, by name.
    pub(crate) wanted: &'a [String],
    pub(crate) run_time: Option<Duration>,
}

/// What holds room, or is to.
#[derive(Clone)]
pub(crate) struct Running<'a> {
    pub(crate) name: &'a str,
    pub(crate) queue: usize,
    pub(crate) priority: i32,
    pub(crate) created: Duration,
    pub(crate) since: Duration,
    pub(crate) per_worker: Amounts,
    /// Workers for which room is planned.
    pub(crate) count: u32,
    /// It can do with so many.
    pub(crate) min: u32,
    /// It would have so many, if there was room.
    pub(crate) wanted: u32,
    /// What is planned for it.
    pub(crate) demand: Demand,
    /// What it uses: more where it is about to give up workers.
    pub(crate) uses: Demand,
    pub(crate) ends_by: Option<Duration>,
    pub(crate) is_leaving: bool,
}

impl Running<'_> {
    /// What so many of its workers take.
    pub(crate) fn workers(&self, count: u32) -> Demand {
        Demand { amounts: self.per_worker.times(count), ..self.demand }
    }

    /// It is about to give up workers.
    pub(crate) fn is_shrinking(&self) -> bool {
        self.uses != self.demand
    }
}

/// What a workload takes of one flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) flavour: usize,
    pub(crate) amounts: Amounts,
}

impl Demand {
    /// Each resource that is asked for: its place in the tables, and how much.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (usize, Resource, u64)> + use<> {
        let Self { flavour, amounts } = *self;
        let each = Resource::ALL.into_iter().enumerate();
        each.map(move |(at, resource)| (flavour * WIDTH + at, resource, amounts.of(resource)))
            .filter(|(_, _, amount)| *amount > 0)
    }
}

impl<'a> Cohort<'a> {
    fn new(queues: &[(&'a str, &'a Queue)]) -> Self {
        let mut flavours: Vec<&str> = Vec::new();
        for quota in queues.iter().flat_map(|(_, queue)| &queue.flavours) {
            if !flavours.contains(&quota.flavour.as_str()) {
                flavours.push(&quota.flavour);
            }
        }
        let cells = flavours.len() * WIDTH;
        let (mut quotas, mut lendable) = (vec![None; cells * queues.len()], vec![0u64; cells]);
        let mut members = Vec::new();
        for (place, (name, queue)) in queues.iter().enumerate() {
            let mut order = Vec::new();
            for quota in &queue.flavours {
                let Some(flavour) = flavours.iter().position(|it| *it == quota.flavour) else {
                    continue;
                };
                if order.contains(&flavour) {
                    continue;
                }
                order.push(flavour);
                for (at, resource) in Resource::ALL.into_iter().enumerate() {
                    let cell = flavour * WIDTH + at;
                    quotas[place * cells + cell] = quota.of(resource);
                    let lends = quota.of(resource).map_or(0, |quota| quota.lendable());
                    lendable[cell] = lendable[cell].saturating_add(lends);
                }
            }
            members.push(Member {
                name,
                strategy: queue.strategy,
                preemption: queue.preemption,
                weight: u64::from(queue.weight.unwrap_or(1).max(1)),
                flavours: order,
                pending: Vec::new(),
            });
        }
        Self {
            queues: members,
            flavours,
            quotas,
            lendable,
            is_fair: queues.iter().any(|(_, queue)| queue.weight.is_some()),
            running: Vec::new(),
        }
    }

    pub(crate) fn cells(&self) -> usize {
        self.lendable.len()
    }

    /// What a queue has of a cell; none if that is not rationed.
    pub(crate) fn quota(&self, queue: usize, cell: usize) -> Option<Quota> {
        self.quotas[queue * self.cells() + cell]
    }

    /// The most that a queue can ever use of a cell.
    pub(crate) fn most(&self, quota: &Quota, cell: usize) -> u64 {
        let all = quota.guaranteed().saturating_add(self.lendable[cell]);
        match quota.borrowing_limit {
            Some(limit) => all.min(quota.nominal.saturating_add(limit)),
            None => all,
        }
    }
}

/// The cohorts of a snapshot, with what runs and what waits in each.
pub(crate) fn cohorts(snapshot: &Snapshot) -> Vec<Cohort<'_>> {
    // By cohort, or by name for a queue without.
    type Group<'a> = Vec<(&'a str, &'a Queue)>;
    let mut groups: BTreeMap<(Option<&str>, &str), Group<'_>> = BTreeMap::new();
    for (name, queue) in &snapshot.queues {
        let key = match &queue.cohort {
            Some(cohort) => (Some(cohort.as_str()), ""),
            None => (None, name.as_str()),
        };
        groups.entry(key).or_default().push((name, queue));
    }
    let mut places = BTreeMap::new();
    let mut cohorts: Vec<Cohort<'_>> = Vec::new();
    for group in groups.values() {
        for (place, (name, _)) in group.iter().enumerate() {
            places.insert(*name, (cohorts.len(), place));
        }
        cohorts.push(Cohort::new(group));
    }
    for (name, workload) in &snapshot.workloads {
        let Some(&(at, queue)) = places.get(workload.queue.as_str()) else { continue };
        let cohort = &mut cohorts[at];
        if let Some(admission) = &workload.admission {
            let Some(flavour) = cohort.flavours.iter().position(|it| *it == admission.flavour)
            else {
                continue;
            };
            let has = admission.count;
            let count = admission.shrinks_to.map_or(has, |to| to.clamp(1, has.max(1)));
            let takes = |count| Demand { flavour, amounts: workload.per_worker.times(count) };
            let may_grow = workload.min_count.is_some() && workload.restart_cost.is_some();
            cohort.running.push(Running {
                name,
                queue,
                priority: workload.priority,
                created: workload.created,
                since: admission.since,
                per_worker: workload.per_worker,
                count,
                min: workload.min_count.unwrap_or(count).clamp(1, count.max(1)),
                wanted: if may_grow { workload.count.max(count) } else { count },
                demand: takes(count),
                uses: takes(has),
                ends_by: admission.ends_by,
                is_leaving: admission.is_leaving,
            });
            continue;
        }
        let will_do = |flavour: &&usize| {
            workload.flavours.iter().any(|name| name == cohort.flavours[**flavour])
        };
        let flavours = cohort.queues[queue].flavours.iter().filter(will_do).copied().collect();
        cohort.queues[queue].pending.push(Pending {
            name,
            priority: workload.priority,
            created: workload.created,
            per_worker: workload.per_worker,
            count: workload.count.max(1),
            min: workload.min_count.unwrap_or(workload.count).clamp(1, workload.count.max(1)),
            flavours,
            wanted: &workload.flavours,
            run_time: workload.run_time,
        });
    }
    for cohort in &mut cohorts {
        for member in &mut cohort.queues {
            member.pending.sort_by(|a, b| {
                (b.priority, a.created, a.name).cmp(&(a.priority, b.created, b.name))
            });
        }
    }
    cohorts
}
