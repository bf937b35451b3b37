//! How many machines of which kind a workload needs, so that pods start within a given wait.
//!
//! Answers come from simulating the job trace. A plan is a set of kinds with counts; which kinds go
//! together follows from what each shape of pods would cost on each kind, and counts are searched by
//! bisection: first all kinds in step, then each alone, the dearest machines first.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::{Capacity, Node};
use crate::policy::Policy;
use crate::request::{Request, WHOLE_GPU};
use crate::timed::{Discipline, Interruptions, Timed, TimedPod, TimedRun};

/// A kind of machine at a price.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// What people know it by.
    pub name: String,
    /// What it has.
    pub capacity: Capacity,
    /// Dollars an hour.
    pub price: f64,
    /// Whether it may be taken away.
    pub is_spot: bool,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    /// The job trace.
    pub pods: &'a [TimedPod],
    /// How many GPU models there are.
    pub models: usize,
    /// How pods are placed.
    pub policy: Policy,
    /// The longest wait in seconds, of all waits of a pod together.
    pub max_wait: u64,
    /// The part of the pods that must not wait longer.
    pub part: f64,
    /// How spot machines come and go.
    pub interruptions: Interruptions,
    /// For what is left to chance.
    pub seed: u64,
}

/// Machines that are enough.
#[derive(Clone, Debug, PartialEq)]
pub struct CapacityPlan {
    /// Index of each kind, and how many machines.
    pub counts: Vec<(usize, u32)>,
    /// Dollars an hour of all together.
    pub price: f64,
    /// The simulation that shows it.
    pub run: TimedRun,
}

/// No kind has room for some pods.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no kind of machine has room for {pods} of the pods, for one that asks for {cpu_milli} \
     thousandths of a core, {memory_mib} MiB and {gpus} GPUs; allow more kinds or regions, or name \
     the GPU model by one that is sold"
)]
pub struct NoRoom {
    pods: usize,
    cpu_milli: u32,
    memory_mib: u32,
    gpus: u8,
}

/// The most machines of one kind that are tried.
const MOST: u32 = 20_000;

/// The part of a machine that a pod takes: of the resource of which it takes most.
fn dominant_share(capacity: &Capacity, request: &Request) -> f64 {
    let part =
        |asked: u32, of: u32| if asked == 0 { 0.0 } else { f64::from(asked) / f64::from(of) };
    let gpus = u32::from(capacity.gpus) * u32::from(WHOLE_GPU);
    part(request.cpu_milli, capacity.cpu_milli)
        .max(part(request.memory_mib, capacity.memory_mib))
        .max(part(request.gpu.milli(), gpus))
}

impl Demand<'_> {
    /// The sets of kinds that are worth a search: each kind that can host every pod alone, and for
    /// on-demand and for spot machines the cheapest kind for each shape.
    pub fn candidates(&self, kinds: &[Kind]) -> Result<Vec<Vec<usize>>, NoRoom> {
        let shapes: BTreeSet<Request> = self.pods.iter().map(|pod| pod.request).collect();
        let hosts = |kind: &Kind, shape: &Request| Node::empty(kind.capacity).fits(shape);
        if let Some(shape) =
            shapes.iter().find(|shape| !kinds.iter().any(|kind| hosts(kind, shape)))
        {
            return Err(NoRoom {
                pods: self.pods.iter().filter(|pod| pod.request == *shape).count(),
                cpu_milli: shape.cpu_milli,
                memory_mib: shape.memory_mib,
                gpus: shape.gpu.count(),
            });
        }
        let mut candidates = BTreeSet::new();
        for (at, kind) in kinds.iter().enumerate() {
            if shapes.iter().all(|shape| hosts(kind, shape)) {
                candidates.insert(vec![at]);
            }
        }
        let groups: [&dyn Fn(&Kind) -> bool; 3] = [&|it| !it.is_spot, &|it| it.is_spot, &|_| true];
        for group in groups {
            let mut set = BTreeSet::new();
            let covers = shapes.iter().all(|shape| {
                let cheapest = kinds
                    .iter()
                    .enumerate()
                    .filter(|(_, kind)| group(kind) && hosts(kind, shape))
                    .map(|(at, kind)| (kind.price * dominant_share(&kind.capacity, shape), at))
                    .min_by(|a, b| a.0.total_cmp(&b.0));
                set.extend(cheapest.map(|(_, at)| at));
                cheapest.is_some()
            });
            if covers {
                candidates.insert(set.into_iter().collect());
            }
        }
        Ok(candidates.into_iter().collect())
    }

    /// The cheapest counts of these kinds that were found; `None` where [`MOST`] machines are too
    /// few.
    pub fn search(&self, kinds: &[Kind], set: &[usize]) -> Option<CapacityPlan> {
        let base = self.without_waiting(kinds, set);
        let scaled = |percent: u32| -> Vec<u32> {
            base.iter()
                .map(|count| ((count * f64::from(percent) / 100.0).ceil() as u32).clamp(1, MOST))
                .collect()
        };
        // All in step, in hundredths of what the pods take when none waits.
        let mut high = 100;
        while !self.is_enough(kinds, set, &scaled(high)) {
            if high > 1600 {
                return None;
            }
            high *= 2;
        }
        let percent = least(1, high, |percent| self.is_enough(kinds, set, &scaled(percent)));
        let mut counts = scaled(percent);
        let mut dearest: Vec<usize> = (0..set.len()).collect();
        let price = |at: &usize| set.get(*at).and_then(|kind| kinds.get(*kind)).map(|it| it.price);
        dearest.sort_by(|a, b| {
            price(b).unwrap_or(0.0).total_cmp(&price(a).unwrap_or(0.0)).then(a.cmp(b))
        });
        for at in dearest {
            let now = counts.get(at).copied().unwrap_or(0);
            let with = |count: u32| {
                let mut counts = counts.clone();
                if let Some(changed) = counts.get_mut(at) {
                    *changed = count;
                }
                counts
            };
            let fewest = least(0, now, |count| self.is_enough(kinds, set, &with(count)));
            counts = with(fewest);
        }
        let run = self.simulate(kinds, set, &counts);
        let counts: Vec<(usize, u32)> =
            set.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect();
        let price = counts
            .iter()
            .filter_map(|(kind, count)| Some(kinds.get(*kind)?.price * f64::from(*count)))
            .sum();
        Some(CapacityPlan { counts, price, run })
    }

    /// How many machines of each kind are busy at most when no pod waits and each shape is on the
    /// kind where it costs least, as if pods could be cut to fit.
    fn without_waiting(&self, kinds: &[Kind], set: &[usize]) -> Vec<f64> {
        let place = |request: &Request| {
            set.iter()
                .enumerate()
                .filter_map(|(at, kind)| Some((at, kinds.get(*kind)?)))
                .filter(|(_, kind)| Node::empty(kind.capacity).fits(request))
                .map(|(at, kind)| (at, dominant_share(&kind.capacity, request), kind.price))
                .min_by(|a, b| (a.1 * a.2).total_cmp(&(b.1 * b.2)))
        };
        let mut places = BTreeMap::new();
        let mut changes: Vec<(u64, usize, f64)> = Vec::new();
        for pod in self.pods {
            let place = *places.entry(pod.request).or_insert_with(|| place(&pod.request));
            if let Some((at, share, _)) = place {
                changes.push((pod.arrival, at, share));
                changes.push((pod.arrival + pod.duration, at, -share));
            }
        }
        // At one moment, those who leave go first.
        changes.sort_by(|a, b| a.0.cmp(&b.0).then(a.2.total_cmp(&b.2)));
        let (mut now, mut most) = (vec![0.0; set.len()], vec![0.0f64; set.len()]);
        for (_, at, share) in changes {
            if let (Some(now), Some(most)) = (now.get_mut(at), most.get_mut(at)) {
                *now += share;
                *most = most.max(*now);
            }
        }
        most
    }

    fn is_enough(&self, kinds: &[Kind], set: &[usize], counts: &[u32]) -> bool {
        let run = self.simulate(kinds, set, counts);
        run.impossible == 0 && run.unfinished == 0 && run.wait_quantile(self.part) <= self.max_wait
    }

    fn simulate(&self, kinds: &[Kind], set: &[usize], counts: &[u32]) -> TimedRun {
        let mut nodes = Vec::new();
        let mut spot = BTreeSet::new();
        for (kind, count) in set.iter().zip(counts) {
            let Some(kind) = kinds.get(*kind) else { continue };
            for _ in 0..*count {
                if kind.is_spot {
                    spot.insert(nodes.len());
                }
                nodes.push(Node::empty(kind.capacity));
            }
        }
        let timed = Timed {
            nodes: &nodes,
            pods: self.pods,
            models: self.models,
            discipline: Discipline::Any,
            interruptions: (!spot.is_empty()).then_some((self.interruptions, &spot)),
        };
        timed.run(self.policy, self.seed)
    }
}

/// The least number from `low` to `high` that is enough; `high` is known to be.
fn least(mut low: u32, mut high: u32, is_enough: impl Fn(u32) -> bool) -> u32 {
    while low < high {
        let middle = low + (high - low) / 2;
        if is_enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{GpuRequest, ModelSet};

    fn kind(name: &str, gpus: u8, price: f64) -> Kind {
        let cores = u32::from(gpus) * 8;
        let capacity =
            Capacity { cpu_milli: cores * 1000, memory_mib: cores * 4096, gpus, model: None };
        Kind { name: name.to_owned(), capacity, price, is_spot: false }
    }

    fn pod(arrival: u64, gpus: u8) -> TimedPod {
        let request = Request {
            cpu_milli: 1000,
            memory_mib: 1,
            gpu: GpuRequest::Whole(gpus),
            models: ModelSet::ANY,
        };
        TimedPod { request, arrival, duration: 100 }
    }

    fn demand(pods: &[TimedPod], max_wait: u64) -> Demand<'_> {
        let interruptions =
            Interruptions { mean_uptime: 1000.0, mean_outage: 10.0, checkpoint_interval: 10 };
        let policy = Policy::BestFit;
        Demand { pods, models: 0, policy, max_wait, part: 1.0, interruptions, seed: 1 }
    }

    #[test]
    fn waiting_saves_machines() {
        // Eight pods of one GPU at once, 100 s each.
        let pods = vec![pod(0, 1); 8];
        let kinds = [kind("two", 2, 2.0)];
        #[track_caller]
        fn check(pods: &[TimedPod], kinds: &[Kind], max_wait: u64, expected: u32) {
            let plan = demand(pods, max_wait).search(kinds, &[0]).expect("enough");
            assert_eq!(plan.counts, [(0, expected)]);
            assert_eq!(plan.price, 2.0 * f64::from(expected));
            assert!(plan.run.wait_quantile(1.0) <= max_wait);
        }
        check(&pods, &kinds, 0, 4);
        check(&pods, &kinds, 99, 4);
        check(&pods, &kinds, 100, 2);
        check(&pods, &kinds, 300, 1);
    }

    #[test]
    fn kinds_go_together_where_one_is_too_dear() {
        // One pod needs eight GPUs; many need one, and the large machine is dear.
        let mut pods = vec![pod(0, 1); 6];
        pods.push(pod(0, 8));
        let kinds = [kind("large", 8, 80.0), kind("small", 1, 1.0)];
        let demand = demand(&pods, 0);
        let candidates = demand.candidates(&kinds).expect("room");
        assert_eq!(candidates, [vec![0], vec![0, 1]]);
        let plans: Vec<_> =
            candidates.iter().filter_map(|set| demand.search(&kinds, set)).collect();
        let prices: Vec<f64> = plans.iter().map(|plan| plan.price).collect();
        assert_eq!(prices, [160.0, 86.0]);
    }

    #[test]
    fn spot_machines_need_more_of_them() {
        let pods = vec![pod(0, 1); 20];
        let spot = Kind { is_spot: true, ..kind("spot", 1, 0.3) };
        let kinds = [kind("on demand", 1, 1.0), spot];
        let plan = |set: &[usize]| demand(&pods, 5).search(&kinds, set).expect("enough");
        assert_eq!(plan(&[0]).counts, [(0, 20)]);
        let on_spot = plan(&[1]);
        assert!(on_spot.counts[0].1 >= 20 && on_spot.price < 20.0, "{on_spot:?}");
    }

    #[test]
    fn pods_that_fit_nowhere_are_told() {
        let pods = [pod(0, 1), pod(0, 16), pod(0, 16)];
        let error = demand(&pods, 0).candidates(&[kind("a", 8, 1.0)]).expect_err("no room");
        assert!(error.to_string().contains("for 2 of the pods"), "{error}");
        assert!(error.to_string().contains("16 GPUs"), "{error}");
    }
}
