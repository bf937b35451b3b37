//! Plays a job trace in virtual time: pods come, wait, run and leave.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use serde::Serialize;

use crate::fragmentation::Fragmentation;
use crate::node::Node;
use crate::policy::Policy;
use crate::request::Request;
use crate::scheduler::{Placement, Scheduler};
use crate::target::TargetWorkload;
use crate::trace::Pod;
use crate::waiting::{Turn, Waiting};

/// Samples of a run, about.
const SAMPLES: u64 = 400;

/// Events of a pod and of a node that may be taken after which the simulation gives up.
const EVENTS_A_POD: usize = 100;
const EVENTS_A_NODE: usize = 10_000;

/// A pod with its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedPod {
    /// What it asks for.
    pub request: Request,
    /// When it comes, in seconds.
    pub arrival: u64,
    /// How long it runs, in seconds.
    pub duration: u64,
}

/// A pod of the trace has no times.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("pod `{pod}` has no {missing}: playing a trace in time needs when pods come and go")]
pub struct NoTime {
    pod: String,
    missing: &'static str,
}

/// The pods of a trace that have all their times.
pub fn timed_pods(pods: &[Pod]) -> Result<Vec<TimedPod>, NoTime> {
    let timed = |pod: &Pod| {
        let missing = |missing| NoTime { pod: pod.name.clone(), missing };
        Ok(TimedPod {
            request: pod.request,
            arrival: pod.arrival.ok_or_else(|| missing("`creation_time`"))?,
            duration: pod.duration.ok_or_else(|| missing("`deletion_time`"))?,
        })
    };
    pods.iter().map(timed).collect()
}

/// Who may start while others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// Any pod that fits, the longest waiting first, as Kubernetes' scheduler does.
    Any,
    /// None before the one that waits longest.
    Strict,
}

/// Machines that are taken away now and then, and given back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interruptions {
    /// Mean time in seconds that a machine runs until it is taken; exponentially distributed.
    pub mean_uptime: f64,
    /// Mean time in seconds until there is another one in its place; exponentially distributed.
    pub mean_outage: f64,
    /// A pod that is interrupted does the work since its last checkpoint again, and makes one so
    /// often, in seconds.
    pub checkpoint_interval: u64,
}

/// What is to be simulated.
#[derive(Clone, Debug)]
pub struct Timed<'a> {
    /// The cluster, empty.
    pub nodes: &'a [Node],
    /// The pods, in any order.
    pub pods: &'a [TimedPod],
    /// How many GPU models there are.
    pub models: usize,
    /// Who may start while others wait.
    pub discipline: Discipline,
    /// Of the nodes with these indices.
    pub interruptions: Option<(Interruptions, &'a BTreeSet<usize>)>,
}

/// The cluster at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TimedSample {
    /// Seconds since the first pod came.
    pub time: u64,
    /// GPUs that pods have, as a part of the cluster's.
    pub allocated: f64,
    /// Fragments, as a part of the cluster's GPUs.
    pub fragmented: f64,
    /// Pods that wait.
    pub queued: u64,
    /// Pods that run.
    pub running: u64,
}

/// One run of a policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimedRun {
    /// The cluster over time.
    pub samples: Vec<TimedSample>,
    /// How long each pod that finished waited in all, after interruptions too, in seconds,
    /// ascending.
    pub waits: Vec<u64>,
    /// Pods that no node has room for, even empty.
    pub impossible: u64,
    /// Pods that were interrupted, counting each time.
    pub interrupted: u64,
    /// Pods that had not finished when the simulation gave up: interruptions came faster than they
    /// made progress.
    pub unfinished: u64,
    /// GPUs that pods had, as a part of the cluster's, averaged over the time when pods came.
    pub mean_allocated: f64,
    /// From the first arrival until the last pod left, in seconds.
    pub makespan: u64,
}

impl TimedRun {
    /// The wait that this part of the pods did not exceed, in seconds.
    pub fn wait_quantile(&self, part: f64) -> u64 {
        let last = self.waits.len().saturating_sub(1);
        let at = (last as f64 * part.clamp(0.0, 1.0)).ceil() as usize;
        self.waits.get(at).copied().unwrap_or(0)
    }

    /// The mean wait, in seconds.
    pub fn mean_wait(&self) -> f64 {
        let sum: f64 = self.waits.iter().map(|wait| *wait as f64).sum();
        sum / self.waits.len().max(1) as f64
    }
}

/// What happens, in the order in which things of one second happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The pod has done its work, if this is still its start of this number.
    Leaves { pod: usize, start: u32 },
    /// The node is taken.
    Down(usize),
    /// There is a node in its place.
    Up(usize),
    /// The pod comes.
    Comes(usize),
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Work that is left, in seconds.
    left: u64,
    queued: u64,
    waited: u64,
    started: u64,
    starts: u32,
    placement: Option<Placement>,
}

struct Simulation<'a> {
    timed: &'a Timed<'a>,
    scheduler: Scheduler,
    fragmentation: Fragmentation,
    rng: fastrand::Rng,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    progress: Vec<Progress>,
    waiting: Waiting,
    /// Requests that found no room since something was last freed.
    no_room: BTreeSet<Request>,
    /// Pods by node, of nodes that may be taken.
    on_node: BTreeMap<usize, BTreeSet<usize>>,
    /// When the first pod comes, by the trace's clock.
    first: u64,
    gpus: u64,
    allocated: u64,
    running: u64,
    run: TimedRun,
}

impl Timed<'_> {
    /// Runs a policy once.
    pub fn run(&self, policy: Policy, seed: u64) -> TimedRun {
        let requests: Vec<Request> = self.pods.iter().map(|pod| pod.request).collect();
        let target = TargetWorkload::of(&requests);
        let mut rng = fastrand::Rng::with_seed(seed);
        let first = self.pods.iter().map(|pod| pod.arrival).min().unwrap_or(0);
        let mut events: BinaryHeap<Reverse<(u64, Event)>> = self
            .pods
            .iter()
            .enumerate()
            .map(|(at, pod)| Reverse((pod.arrival - first, Event::Comes(at))))
            .collect();
        let mut on_node = BTreeMap::new();
        if let Some((interruptions, spot)) = &self.interruptions {
            for node in *spot {
                on_node.insert(*node, BTreeSet::new());
                let time = exponential(&mut rng, interruptions.mean_uptime);
                events.push(Reverse((time, Event::Down(*node))));
            }
        }
        let progress = self
            .pods
            .iter()
            .map(|pod| Progress { left: pod.duration, ..Progress::default() })
            .collect();
        let simulation = Simulation {
            timed: self,
            scheduler: Scheduler::new(self.nodes.to_vec(), self.models, policy, &target, seed),
            fragmentation: Fragmentation::new(&target, self.models),
            rng,
            events,
            progress,
            waiting: Waiting::default(),
            no_room: BTreeSet::new(),
            on_node,
            first,
            gpus: self.nodes.iter().map(|node| u64::from(node.gpu_left())).sum(),
            allocated: 0,
            running: 0,
            run: TimedRun {
                samples: Vec::new(),
                waits: Vec::new(),
                impossible: 0,
                interrupted: 0,
                unfinished: 0,
                mean_allocated: 0.0,
                makespan: 0,
            },
        };
        simulation.run()
    }
}

/// A time in seconds, one at least.
fn exponential(rng: &mut fastrand::Rng, mean: f64) -> u64 {
    ((1.0 - rng.f64()).ln() * -mean).clamp(1.0, 1e15) as u64
}

impl Simulation<'_> {
    fn run(mut self) -> TimedRun {
        let first = self.first;
        let last_arrival = self.timed.pods.iter().map(|pod| pod.arrival - first).max().unwrap_or(0);
        let ends = self.timed.pods.iter().map(|pod| pod.arrival - first + pod.duration);
        let step = (ends.max().unwrap_or(0) / SAMPLES).max(1);
        let (mut now, mut next_sample, mut gpu_seconds) = (0u64, 0u64, 0f64);
        let mut to_come = self.timed.pods.len();
        let mut finished_at = 0;
        let mut events_left =
            EVENTS_A_POD * self.timed.pods.len() + EVENTS_A_NODE * self.on_node.len();
        while let Some(Reverse((time, event))) = self.events.pop() {
            // Without pods, machines would come and go for ever.
            if to_come == 0 && self.waiting.count() == 0 && self.running == 0 {
                break;
            }
            events_left -= 1;
            if events_left == 0 {
                break;
            }
            let span = time.min(last_arrival).saturating_sub(now.min(last_arrival));
            gpu_seconds += self.allocated as f64 * span as f64;
            now = time;
            match event {
                Event::Comes(pod) => {
                    to_come -= 1;
                    self.come(pod, now);
                }
                Event::Leaves { pod, start } => {
                    if self.leave(pod, start) {
                        finished_at = now;
                    }
                }
                Event::Down(node) => self.take(node, now),
                Event::Up(node) => self.give(node, now),
            }
            // Everything of this second happens before anybody starts.
            if self.events.peek().is_none_or(|Reverse((next, _))| *next > now) {
                self.start_waiting(now);
                if now >= next_sample {
                    self.sample(now);
                    next_sample = now + step;
                }
            }
        }
        self.run.waits.sort_unstable();
        self.run.makespan = finished_at;
        let done = self.run.waits.len() as u64 + self.run.impossible;
        self.run.unfinished = self.timed.pods.len() as u64 - done;
        if self.gpus > 0 && last_arrival > 0 {
            self.run.mean_allocated = gpu_seconds / self.gpus as f64 / last_arrival as f64;
        }
        self.run
    }

    fn come(&mut self, pod: usize, now: u64) {
        let Some(timed) = self.timed.pods.get(pod) else { return };
        if self.timed.nodes.iter().any(|node| node.fits(&timed.request)) {
            self.enqueue(pod, now);
            self.waiting.push_back(timed.request, pod);
        } else {
            self.run.impossible += 1;
        }
    }

    fn enqueue(&mut self, pod: usize, now: u64) {
        if let Some(progress) = self.progress.get_mut(pod) {
            progress.queued = now;
        }
    }

    /// Starts those who wait and fit.
    fn start_waiting(&mut self, now: u64) {
        let is_strict = self.timed.discipline == Discipline::Strict;
        let tried = |request: &Request| is_strict || !self.no_room.contains(request);
        let mut heads: BinaryHeap<Reverse<(Turn, Request)>> =
            self.waiting.heads().filter(|(_, request)| tried(request)).map(Reverse).collect();
        while let Some(Reverse((_, request))) = heads.pop() {
            let placement = match self.no_room.contains(&request) {
                true => None,
                false => self.scheduler.place(&request),
            };
            let Some(placement) = placement else {
                self.no_room.insert(request);
                if is_strict {
                    return;
                }
                continue;
            };
            let Some((pod, next)) = self.waiting.pop(&request) else { return };
            heads.extend(next.map(|turn| Reverse((turn, request))));
            self.start(pod, &request, placement, now);
        }
    }

    fn start(&mut self, pod: usize, request: &Request, placement: Placement, now: u64) {
        let Some(progress) = self.progress.get_mut(pod) else { return };
        progress.waited += now - progress.queued;
        progress.starts += 1;
        progress.started = now;
        progress.placement = Some(placement);
        let leaves = Event::Leaves { pod, start: progress.starts };
        self.events.push(Reverse((now + progress.left, leaves)));
        self.allocated += u64::from(request.gpu.milli());
        self.running += 1;
        if let Some(pods) = self.on_node.get_mut(&placement.node) {
            pods.insert(pod);
        }
    }

    /// Whether it was there to leave.
    fn leave(&mut self, pod: usize, start: u32) -> bool {
        let running = self.progress.get(pod).filter(|it| it.starts == start);
        let Some(placement) = running.and_then(|it| it.placement) else { return false };
        self.run.waits.extend(self.progress.get(pod).map(|it| it.waited));
        self.stop(pod, placement);
        true
    }

    fn stop(&mut self, pod: usize, placement: Placement) {
        let (Some(timed), Some(progress)) = (self.timed.pods.get(pod), self.progress.get_mut(pod))
        else {
            return;
        };
        progress.placement = None;
        self.no_room.clear();
        self.scheduler.remove(&timed.request, placement);
        self.allocated -= u64::from(timed.request.gpu.milli());
        self.running -= 1;
        if let Some(pods) = self.on_node.get_mut(&placement.node) {
            pods.remove(&pod);
        }
    }

    fn take(&mut self, node: usize, now: u64) {
        let Some((interruptions, _)) = &self.timed.interruptions else { return };
        let interval = interruptions.checkpoint_interval.max(1);
        for pod in self.on_node.get(&node).cloned().unwrap_or_default() {
            let (Some(timed), Some(progress)) =
                (self.timed.pods.get(pod), self.progress.get_mut(pod))
            else {
                continue;
            };
            let ran = now - progress.started;
            progress.left -= (ran - ran % interval).min(progress.left);
            let Some(placement) = progress.placement else { continue };
            self.stop(pod, placement);
            self.run.interrupted += 1;
            self.enqueue(pod, now);
            self.waiting.push_front(timed.request, pod);
        }
        self.scheduler.set_open(node, false);
        let time = now + exponential(&mut self.rng, interruptions.mean_outage);
        self.events.push(Reverse((time, Event::Up(node))));
    }

    fn give(&mut self, node: usize, now: u64) {
        let Some((interruptions, _)) = &self.timed.interruptions else { return };
        self.no_room.clear();
        self.scheduler.set_open(node, true);
        let time = now + exponential(&mut self.rng, interruptions.mean_uptime);
        self.events.push(Reverse((time, Event::Down(node))));
    }

    fn sample(&mut self, now: u64) {
        let fragments: f64 =
            self.scheduler.nodes().iter().map(|node| self.fragmentation.of(node)).sum();
        let gpus = (self.gpus as f64).max(1.0);
        self.run.samples.push(TimedSample {
            time: now,
            allocated: self.allocated as f64 / gpus,
            fragmented: fragments / gpus,
            queued: self.waiting.count() as u64,
            running: self.running,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Capacity;
    use crate::request::{GpuRequest, ModelSet};

    fn node(gpus: u8) -> Node {
        Node::empty(Capacity { cpu_milli: 64_000, memory_mib: 64, gpus, model: None })
    }

    fn pod(arrival: u64, duration: u64, gpus: u8) -> TimedPod {
        let request = Request {
            cpu_milli: 1000,
            memory_mib: 1,
            gpu: GpuRequest::Whole(gpus),
            models: ModelSet::ANY,
        };
        TimedPod { request, arrival, duration }
    }

    fn timed<'a>(nodes: &'a [Node], pods: &'a [TimedPod], discipline: Discipline) -> Timed<'a> {
        Timed { nodes, pods, models: 0, discipline, interruptions: None }
    }

    #[test]
    fn pods_wait_for_those_before_them() {
        #[track_caller]
        fn check(discipline: Discipline, waits: &[u64], makespan: u64) {
            // Two of two GPUs run until 200; one more wants both, and one wants one and could go first.
            let pods = [pod(100, 100, 1), pod(110, 20, 1), pod(120, 50, 2), pod(125, 10, 1)];
            let run = timed(&[node(2)], &pods, discipline).run(Policy::FirstFit, 0);
            assert_eq!((run.waits.as_slice(), run.makespan), (waits, makespan));
        }
        check(Discipline::Any, &[0, 0, 5, 80], 150);
        check(Discipline::Strict, &[0, 0, 80, 125], 160);
    }

    #[test]
    fn what_fits_nowhere_is_told() {
        let pods = [pod(0, 10, 3), pod(0, 10, 2)];
        let run = timed(&[node(2)], &pods, Discipline::Strict).run(Policy::Fgd, 0);
        assert_eq!((run.impossible, run.waits), (1, vec![0]));
        let none = timed(&[node(2)], &[], Discipline::Any).run(Policy::Fgd, 0);
        assert_eq!((none.waits.len(), none.makespan), (0, 0));
    }

    #[test]
    fn allocation_is_averaged_over_the_arrivals() {
        let pods = [pod(0, 50, 1), pod(100, 50, 2)];
        let run = timed(&[node(2)], &pods, Discipline::Any).run(Policy::BestFit, 0);
        assert_eq!((run.mean_allocated, run.makespan), (0.25, 150));
    }

    #[test]
    fn interrupted_pods_go_on_from_their_checkpoint() {
        let spot = BTreeSet::from([0]);
        let every = |checkpoint_interval| {
            let interruptions =
                Interruptions { mean_uptime: 50.0, mean_outage: 10.0, checkpoint_interval };
            let (pods, nodes) = ([pod(0, 1000, 1)], [node(1)]);
            let timed = Timed {
                interruptions: Some((interruptions, &spot)),
                ..timed(&nodes, &pods, Discipline::Any)
            };
            timed.run(Policy::FirstFit, 7)
        };
        let often = every(1);
        assert!(often.interrupted > 5 && often.makespan > 1000, "{often:?}");
        // Only the outages are lost.
        assert!(often.makespan < 1500, "{}", often.makespan);
        assert!(every(20).makespan > often.makespan);
        // Never long enough for one checkpoint: it is told, not played for ever.
        assert_eq!(every(100_000).unfinished, 1);
    }
}
