//! `cargo xtask bench queue`: how long one decision cycle of the job queue takes, at the scale of a
//! large cluster, in four situations.
//!
//! The queue sees quotas, not nodes: the nodes' GPUs, cores and memory are what is shared out to 20
//! queues of one cohort, in four flavours. Run it in release; the crate is optimised in development
//! builds too, with overflow checks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use trainyard_queue::{
    Admission, Amounts, Decision, FlavourQuota, Quota, ReclaimWithinCohort, Snapshot, Strategy,
    WithinQueue, Workload, decide,
};

const FLAVOURS: [&str; 4] = ["t4", "l4", "a100", "h100"];
const QUEUES: u64 = 20;
/// Of one node.
const GPUS: u64 = 8;
const CORES: u64 = 96;
const MEMORY: u64 = 768 << 30;
const NOW: Duration = Duration::from_secs(1_000_000);

#[derive(Args)]
pub(crate) struct Queue {
    /// Jobs that wait
    #[arg(long, default_value_t = 10_000)]
    pending: u64,
    /// Nodes with 8 GPUs each
    #[arg(long, default_value_t = 1_000)]
    nodes: u64,
    /// Cycles of each situation; the median and the slowest are shown
    #[arg(long, default_value_t = 21)]
    cycles: usize,
    /// All that run can do with one worker, and would have twice as many as they have
    #[arg(long)]
    elastic: bool,
}

/// What a cycle finds.
struct Situation {
    name: &'static str,
    strategy: Strategy,
    /// Jobs run already, and hold nearly all.
    is_full: bool,
    /// Those that wait are more important than those that run, and some queues have borrowed.
    preempts: bool,
    is_fair: bool,
}

const SITUATIONS: [Situation; 4] = [
    Situation {
        name: "empty cluster, backfill",
        strategy: Strategy::Backfill,
        is_full: false,
        preempts: false,
        is_fair: false,
    },
    Situation {
        name: "full cluster, backfill",
        strategy: Strategy::Backfill,
        is_full: true,
        preempts: false,
        is_fair: false,
    },
    Situation {
        name: "full cluster, best effort, preemption",
        strategy: Strategy::BestEffortFifo,
        is_full: true,
        preempts: true,
        is_fair: false,
    },
    Situation {
        name: "full cluster, backfill, fair shares, preemption",
        strategy: Strategy::Backfill,
        is_full: true,
        preempts: true,
        is_fair: true,
    },
];

impl Queue {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.cycles == 0 {
            bail!("--cycles 0 measures nothing");
        }
        println!(
            "| situation | waiting | running | admitted | pushed out | median ms | slowest ms |\n|---|---|---|---|---|---|---|"
        );
        for situation in &SITUATIONS {
            let snapshot = self.snapshot(situation);
            let running = snapshot.workloads.values().filter(|it| it.admission.is_some()).count();
            let mut took = Vec::new();
            let mut decisions = decide(&snapshot, NOW);
            for _ in 0..self.cycles {
                let start = Instant::now();
                decisions = decide(&snapshot, NOW);
                took.push(start.elapsed());
            }
            took.sort();
            let millis = |at: usize| took[at].as_secs_f64() * 1e3;
            let admitted = |it: &&Decision| matches!(it, Decision::Admit(_));
            println!(
                "| {} | {} | {running} | {} | {} | {:.1} | {:.1} |",
                situation.name,
                snapshot.workloads.len() - running,
                decisions.pending.values().filter(admitted).count(),
                decisions.evictions.len(),
                millis(took.len() / 2),
                millis(took.len() - 1),
            );
        }
        Ok(())
    }

    fn snapshot(&self, situation: &Situation) -> Snapshot {
        let part = |all: u64| {
            let nominal = all * self.nodes / QUEUES / FLAVOURS.len() as u64;
            Some(Quota { nominal, borrowing_limit: None, lending_limit: None })
        };
        let flavours: Vec<FlavourQuota> = FLAVOURS
            .iter()
            .map(|flavour| FlavourQuota {
                flavour: (*flavour).to_owned(),
                cpu: part(CORES * 1000),
                memory: part(MEMORY),
                gpu: part(GPUS),
            })
            .collect();
        let mut queue = trainyard_queue::Queue {
            cohort: Some("all".to_owned()),
            flavours,
            strategy: situation.strategy,
            weight: situation.is_fair.then_some(1),
            ..trainyard_queue::Queue::default()
        };
        if situation.preempts {
            queue.preemption.within_queue = WithinQueue::LowerPriority;
            queue.preemption.reclaim_within_cohort = ReclaimWithinCohort::Any;
        }
        let queues: BTreeMap<String, _> =
            (0..QUEUES).map(|at| (format!("team-{at:02}"), queue.clone())).collect();
        let mut random = fastrand::Rng::with_seed(42);
        let mut snapshot = Snapshot { queues, workloads: BTreeMap::new() };
        if situation.is_full {
            // Of half of the queues only, so that the others' parts are lent.
            for at in 0..2 * self.nodes {
                let workload = workload(&mut random, at % (QUEUES / 2), 0);
                snapshot.workloads.insert(format!("running-{at:05}"), workload);
            }
        }
        let decisions = decide(&snapshot, NOW);
        snapshot.workloads.retain(|name, workload| {
            let Some(Decision::Admit(given)) = decisions.pending.get(name) else { return false };
            let since = NOW.saturating_sub(Duration::from_secs(random.u64(0..10_000)));
            workload.admission = Some(Admission {
                flavour: given.flavour.clone(),
                count: given.count,
                since,
                ends_by: workload.run_time.map(|run_time| since + run_time),
                is_leaving: false,
                shrinks_to: None,
            });
            if self.elastic {
                workload.min_count = Some(1);
                workload.count = given.count.saturating_mul(2);
                workload.restart_cost = Some(Duration::from_secs(130));
            }
            true
        });
        for at in 0..self.pending {
            let priority = if situation.preempts { random.i32(0..3) } else { 0 };
            let workload = workload(&mut random, at % QUEUES, priority);
            snapshot.workloads.insert(format!("waiting-{at:05}"), workload);
        }
        snapshot
    }
}

/// A job of 1 to 8 workers with 1 to 8 GPUs each, for one or two flavours; half say how long they run.
fn workload(random: &mut fastrand::Rng, team: u64, priority: i32) -> Workload {
    let gpu = 1u64 << random.u32(0..4);
    let first = random.usize(0..FLAVOURS.len());
    let flavours = if random.bool() { vec![first] } else { vec![first, (first + 1) % 4] };
    let minutes = random.u64(5..2000);
    Workload {
        queue: format!("team-{team:02}"),
        priority,
        created: Duration::from_secs(random.u64(0..900_000)),
        per_worker: Amounts { cpu: gpu * 8_000, memory: gpu * (64 << 30), gpu },
        count: 1 << random.u32(0..4),
        min_count: None,
        restart_cost: None,
        flavours: flavours.into_iter().map(|at| FLAVOURS[at].to_owned()).collect(),
        run_time: random.bool().then(|| Duration::from_secs(minutes * 60)),
        admission: None,
    }
}
