//! The search: tries moves on the nodes, keeps the best, and takes the others back.

use std::collections::{BTreeMap, BTreeSet};

use super::{Defrag, IdleGpus, Move, Newcomer, Outcome, Preferred, Proposal, Purpose, UsualShape};
use crate::fragmentation::Fragmentation;
use crate::node::Node;
use crate::request::{GpuRequest, Request, WHOLE_GPU};
use crate::scheduler::{Placement, Scheduler};
use crate::target::TargetWorkload;

/// What moving one pod for usual shapes has to make usable at least, in thousandths of a GPU: less
/// is not worth an interruption. Ours.
const LEAST_GAIN: f64 = 100.0;

/// The most pods that move for one that comes: who moves more had better add a node. Ours.
const MOST_AT_ONCE: usize = 8;

/// Something that was done, so that it can be undone.
#[derive(Clone, Copy, Debug)]
enum Step {
    Moved { tenant: usize, from: Placement, to: Placement },
    Came { newcomer: usize, at: Placement },
}

/// What a trial came to.
#[derive(Clone, Debug)]
struct Trial {
    moves: Vec<(usize, Placement)>,
    /// Thousandths of GPUs that the pods have which move.
    milli: u32,
    /// Fragments that are gone, in thousandths of a GPU.
    gain: f64,
}

pub(crate) struct Search<'a> {
    asked: &'a Defrag<'a>,
    scheduler: Scheduler,
    fragmentation: Fragmentation,
    /// Where each pod that runs is; `None` for those on nodes that are overfull.
    places: Vec<Option<Placement>>,
    /// Those that may move, by node; who has moved stays.
    movable: BTreeMap<usize, Vec<usize>>,
    has_moved: Vec<bool>,
    others: Vec<Vec<u64>>,
    budgets: Vec<u32>,
    overfull: BTreeSet<usize>,
    steps: Vec<Step>,
    purposes: Vec<(usize, Purpose)>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(asked: &'a Defrag<'a>, target: &TargetWorkload) -> Self {
        let nodes = asked.sites.iter().map(|site| site.node).collect();
        let mut scheduler = Scheduler::new(nodes, asked.models, asked.policy, target, 0);
        scheduler.break_ties_by_fullness();
        let mut search = Self {
            asked,
            scheduler,
            fragmentation: Fragmentation::new(target, asked.models),
            places: vec![None; asked.tenants.len()],
            movable: BTreeMap::new(),
            has_moved: vec![false; asked.tenants.len()],
            others: asked.sites.iter().map(|site| site.others.clone()).collect(),
            budgets: asked.budgets.to_vec(),
            overfull: BTreeSet::new(),
            steps: Vec::new(),
            purposes: Vec::new(),
        };
        search.settle();
        search
    }

    /// Puts what runs to where it runs. Kubernetes does not say on which GPUs of a node that is; they
    /// are chosen as the policy would.
    fn settle(&mut self) {
        let mut order: Vec<usize> = (0..self.asked.tenants.len()).collect();
        // Large requests first, so that shares fill what is left.
        let milli = |at: &usize| self.asked.tenants.get(*at).map(|it| it.request.gpu.milli());
        order.sort_by_key(|at| (std::cmp::Reverse(milli(at)), *at));
        for at in order {
            let Some(tenant) = self.asked.tenants.get(at) else { continue };
            let placement = self.scheduler.place_on(&tenant.request, tenant.site);
            let has_others = self.take_others(tenant.site, &tenant.others);
            if let (Some(placement), true) = (placement, has_others) {
                if let Some(place) = self.places.get_mut(at) {
                    *place = Some(placement);
                }
                if tenant.may_go.is_some() {
                    self.movable.entry(tenant.site).or_default().push(at);
                }
            } else {
                self.overfull.insert(tenant.site);
            }
        }
        for (at, site) in self.asked.sites.iter().enumerate() {
            if !site.is_open || self.overfull.contains(&at) {
                self.scheduler.set_open(at, false);
            }
        }
        for node in &self.overfull {
            self.movable.remove(node);
        }
        for tenants in self.movable.values_mut() {
            tenants.sort_unstable();
        }
    }

    pub(crate) fn propose(mut self, mut shapes: Vec<UsualShape>) -> Proposal {
        for shape in &mut shapes {
            shape.fit_before = self.how_many_fit(&shape.request);
        }
        let before = self.idle();
        let outcomes = self.let_newcomers_in();
        self.make_room_for_shapes(&shapes);
        let moves = self.moves();
        let came: Vec<(usize, Placement)> = self
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Came { newcomer, at } => Some((*newcomer, *at)),
                Step::Moved { .. } => None,
            })
            .collect();
        for (newcomer, at) in came {
            if let Some(newcomer) = self.asked.newcomers.get(newcomer) {
                self.scheduler.remove(&newcomer.request, at);
            }
        }
        for shape in &mut shapes {
            shape.fit_after = self.how_many_fit(&shape.request);
        }
        let after = self.idle();
        Proposal {
            moves,
            outcomes,
            shapes,
            before,
            after,
            overfull: self.overfull.into_iter().collect(),
        }
    }

    pub(crate) fn open_nodes(&self) -> Vec<Node> {
        let nodes = self.scheduler.nodes().iter().enumerate();
        nodes.filter(|(at, _)| self.is_open(*at)).map(|(_, node)| *node).collect()
    }

    pub(crate) fn prefer(mut self, newcomer: &Newcomer, count: u32) -> Preferred {
        let mut preferred = Preferred::default();
        for is_first in [true, false] {
            let sites = &mut preferred.sites;
            let known = sites.len();
            for _ in 0..count {
                let Some(placement) = self.place(newcomer) else { break };
                if !sites.contains(&placement.node) {
                    sites.push(placement.node);
                }
                preferred.placed += u32::from(is_first);
            }
            if is_first {
                preferred.idle = self.idle().idle;
            }
            for site in sites.get(known..).unwrap_or_default() {
                self.scheduler.set_open(*site, false);
            }
        }
        preferred
    }

    fn moves(&self) -> Vec<Move> {
        let moved = self.steps.iter().filter_map(|step| match step {
            Step::Moved { tenant, from, to } => Some((*tenant, from.node, to.node)),
            Step::Came { .. } => None,
        });
        moved
            .filter_map(|(tenant, from, to)| {
                let (_, purpose) = self.purposes.iter().find(|(moved, _)| *moved == tenant)?;
                Some(Move { tenant, from, to, purpose: *purpose })
            })
            .collect()
    }

    fn idle(&self) -> IdleGpus {
        let gpus = |milli: f64| milli / f64::from(WHOLE_GPU);
        let open = || {
            let nodes = self.scheduler.nodes().iter().enumerate();
            nodes.filter(|(at, _)| self.is_open(*at)).map(|(_, node)| node)
        };
        IdleGpus {
            idle: gpus(open().map(|node| f64::from(node.gpu_left())).sum()),
            // Sums of many small parts end a little below nothing.
            fragmented: gpus(open().map(|node| self.fragmentation.of(node)).sum::<f64>().max(0.0)),
        }
    }

    fn is_open(&self, site: usize) -> bool {
        self.asked.sites.get(site).is_some_and(|it| it.is_open) && !self.overfull.contains(&site)
    }

    /// How many pods of a shape would fit, if only such came.
    fn how_many_fit(&self, request: &Request) -> u64 {
        let nodes = self.scheduler.nodes().iter().enumerate();
        nodes
            .filter(|(at, _)| self.is_open(*at))
            .map(|(_, node)| {
                let (mut node, mut count) = (*node, 0);
                while node.fits(request)
                    && let Some(after) =
                        node.tightest(request.gpu).and_then(|devices| node.with(request, devices))
                {
                    (node, count) = (after, count + 1);
                }
                count
            })
            .sum()
    }

    fn let_newcomers_in(&mut self) -> Vec<Outcome> {
        let newcomers = self.asked.newcomers;
        let mut outcomes = vec![Outcome::NoRoom; newcomers.len()];
        // Those who fit as it is come first: nobody moves for them.
        for (at, newcomer) in newcomers.iter().enumerate() {
            if newcomer.gang.is_none()
                && let Some(placement) = self.place(newcomer)
                && let Some(outcome) = outcomes.get_mut(at)
            {
                self.steps.push(Step::Came { newcomer: at, at: placement });
                *outcome = Outcome::Fits(placement.node);
            }
        }
        // There is less and less room: what failed once fails again.
        let mut failed: Vec<(&Newcomer, Outcome)> = Vec::new();
        let mut at = 0;
        while let Some(first) = newcomers.get(at) {
            let rest = newcomers.get(at..).unwrap_or_default().iter();
            let count = match first.gang {
                None => 1,
                gang => rest.take_while(|it| it.gang == gang).count(),
            };
            let group = at..at + count;
            at += count;
            if matches!(outcomes.get(group.start), Some(Outcome::Fits(_))) {
                continue;
            }
            let mut fails = failed.iter().find(|(it, _)| is_alike(it, first)).map(|(_, why)| *why);
            let (steps, purposes) = (self.steps.len(), self.purposes.len());
            for newcomer in group.clone() {
                if fails.is_some() {
                    break;
                }
                let outcome = self.let_in(newcomer);
                if let Some(slot) = outcomes.get_mut(newcomer) {
                    *slot = outcome;
                }
                if matches!(outcome, Outcome::NoRoom | Outcome::Nowhere) {
                    fails = Some(outcome);
                    if newcomer == group.start {
                        failed.push((first, outcome));
                    }
                }
            }
            if let Some(why) = fails {
                self.undo_to(steps);
                self.purposes.truncate(purposes);
                outcomes.get_mut(group).into_iter().flatten().for_each(|slot| *slot = why);
            }
        }
        outcomes
    }

    fn let_in(&mut self, at: usize) -> Outcome {
        let Some(newcomer) = self.asked.newcomers.get(at) else { return Outcome::Nowhere };
        if let Some(placement) = self.place(newcomer) {
            self.steps.push(Step::Came { newcomer: at, at: placement });
            return Outcome::Fits(placement.node);
        }
        let may_ever = |site: usize| {
            self.is_open(site)
                && newcomer.may_go.get(site) == Some(&true)
                && self.asked.sites.get(site).is_some_and(|it| it.node.fits(&newcomer.request))
        };
        let sites: Vec<usize> = (0..self.asked.sites.len()).filter(|it| may_ever(*it)).collect();
        if sites.is_empty() {
            return Outcome::Nowhere;
        }
        let mut most = self.moves_left().min(MOST_AT_ONCE);
        let mut best: Option<(usize, Trial)> = None;
        for site in sites {
            let Some(trial) = self.try_room(&newcomer.request, &newcomer.others, site, most) else {
                continue;
            };
            let is_better = best.as_ref().is_none_or(|(_, best)| {
                let cost = |it: &Trial| (it.moves.len(), it.milli, -it.gain);
                cost(&trial) < cost(best)
            });
            if is_better {
                most = trial.moves.len();
                best = Some((site, trial));
            }
        }
        let Some((site, trial)) = best else { return Outcome::NoRoom };
        self.carry_out(&trial, Purpose::Newcomer(at));
        let placement = self.scheduler.place_on(&newcomer.request, site);
        match placement {
            Some(placement) => {
                self.take_others(site, &newcomer.others);
                self.steps.push(Step::Came { newcomer: at, at: placement });
                Outcome::FitsAfterMoves(site)
            }
            None => Outcome::NoRoom,
        }
    }

    fn make_room_for_shapes(&mut self, shapes: &[UsualShape]) {
        while self.moves_left() > 0 {
            let most = self.moves_left().min(MOST_AT_ONCE);
            let mut best: Option<(f64, usize, Trial)> = None;
            for (at, shape) in shapes.iter().enumerate() {
                for site in 0..self.asked.sites.len() {
                    let could = self.is_open(site)
                        && self.movable.contains_key(&site)
                        && self
                            .asked
                            .sites
                            .get(site)
                            .is_some_and(|it| it.node.fits(&shape.request))
                        && self.scheduler.nodes().get(site).is_some_and(|it| it.gpu_left() > 0);
                    if !could {
                        continue;
                    }
                    let Some(trial) = self.try_room(&shape.request, &[], site, most) else {
                        continue;
                    };
                    let each = trial.gain / trial.moves.len().max(1) as f64;
                    if !trial.moves.is_empty()
                        && each >= LEAST_GAIN
                        && best.as_ref().is_none_or(|(most, ..)| each > *most)
                    {
                        best = Some((each, at, trial));
                    }
                }
            }
            let Some((_, shape, trial)) = best else { return };
            self.carry_out(&trial, Purpose::Shape(shape));
        }
    }

    fn moves_left(&self) -> usize {
        let moved = self.steps.iter().filter(|step| matches!(step, Step::Moved { .. })).count();
        self.asked.most_moves.saturating_sub(moved)
    }

    fn carry_out(&mut self, trial: &Trial, purpose: Purpose) {
        let first = self.steps.len();
        for (tenant, _) in &trial.moves {
            self.lift(*tenant);
        }
        for (tenant, to) in &trial.moves {
            self.set_down(*tenant, *to);
        }
        let moved = trial.moves.iter().map(|(tenant, _)| (*tenant, purpose));
        self.purposes.extend(moved);
        debug_assert_eq!(self.steps.len(), first + trial.moves.len());
    }

    /// The moves that make room for a request on a node, at most so many. Leaves all as it was.
    fn try_room(
        &mut self,
        request: &Request,
        others: &[u64],
        site: usize,
        most: usize,
    ) -> Option<Trial> {
        let steps = self.steps.len();
        let lifted = self.lift_until_room(request, others, site, most);
        let moves = lifted.as_deref().and_then(|lifted| self.set_down_elsewhere(lifted, site));
        let trial = moves.map(|moves| {
            let mut touched: BTreeSet<usize> = moves.iter().map(|(_, to)| to.node).collect();
            touched.insert(site);
            let after = self.fragments(&touched);
            (moves, touched, after)
        });
        self.undo_to(steps);
        // Those that found no place are not among the steps.
        for tenant in lifted.into_iter().flatten() {
            self.put_back(tenant);
        }
        let (moves, touched, after) = trial?;
        let gain = self.fragments(&touched) - after;
        let tenants = moves.iter().filter_map(|(at, _)| self.asked.tenants.get(*at));
        Some(Trial { milli: tenants.map(|it| it.request.gpu.milli()).sum(), gain, moves })
    }

    fn fragments(&self, sites: &BTreeSet<usize>) -> f64 {
        let nodes = sites.iter().filter_map(|site| self.scheduler.nodes().get(*site));
        nodes.map(|node| self.fragmentation.of(node)).sum()
    }

    /// Takes pods off a node until a request has room there: whichever brings it nearest, the
    /// smallest of those. Returns them; `None` where it takes more than so many.
    fn lift_until_room(
        &mut self,
        request: &Request,
        others: &[u64],
        site: usize,
        most: usize,
    ) -> Option<Vec<usize>> {
        let mut lifted: Vec<usize> = Vec::new();
        let mut lack = self.lack(request, others, site);
        while lack > 0.0 {
            let tenants = self.movable.get(&site).cloned().unwrap_or_default();
            let mut best: Option<(f64, (u32, u32, usize))> = None;
            for tenant in tenants {
                if lifted.contains(&tenant) || !self.may_move(tenant) || lifted.len() >= most {
                    continue;
                }
                let Some(asked) = self.asked.tenants.get(tenant) else { continue };
                self.lift(tenant);
                let left = self.lack(request, others, site);
                self.put_back(tenant);
                let size = (asked.request.gpu.milli(), asked.request.cpu_milli, tenant);
                if left < lack
                    && best.is_none_or(|(least, smallest)| {
                        left < least || left <= least && size < smallest
                    })
                {
                    best = Some((left, size));
                }
            }
            let Some((left, (_, _, tenant))) = best else {
                for tenant in lifted {
                    self.put_back(tenant);
                }
                return None;
            };
            self.lift(tenant);
            lifted.push(tenant);
            lack = left;
        }
        // A large one that came late may make earlier ones needless.
        let mut needed = Vec::with_capacity(lifted.len());
        for tenant in lifted {
            self.put_back(tenant);
            if self.lack(request, others, site) > 0.0 {
                self.lift(tenant);
                needed.push(tenant);
            }
        }
        Some(needed)
    }

    /// Places pods that were lifted on other nodes, the largest first. Those that found a place before
    /// one did not are steps that can be undone.
    fn set_down_elsewhere(
        &mut self,
        lifted: &[usize],
        from: usize,
    ) -> Option<Vec<(usize, Placement)>> {
        let mut order = lifted.to_vec();
        let milli = |at: &usize| self.asked.tenants.get(*at).map(|it| it.request.gpu.milli());
        order.sort_by_key(|at| (std::cmp::Reverse(milli(at)), *at));
        let mut moves = Vec::with_capacity(order.len());
        for tenant in order {
            let asked = self.asked.tenants.get(tenant)?;
            let may_go = asked.may_go.as_ref()?;
            let others = &self.others;
            let placement = self.scheduler.place_where(&asked.request, |site| {
                site != from
                    && may_go.get(site) == Some(&true)
                    && has(others.get(site), &asked.others)
            })?;
            self.note(tenant, placement);
            moves.push((tenant, placement));
        }
        Some(moves)
    }

    /// Takes a pod off its node for a while.
    fn lift(&mut self, tenant: usize) {
        let (Some(asked), Some(Some(place))) =
            (self.asked.tenants.get(tenant), self.places.get(tenant))
        else {
            return;
        };
        self.scheduler.remove(&asked.request, *place);
        self.give_others(place.node, &asked.others);
        for budget in &asked.budgets {
            if let Some(budget) = self.budgets.get_mut(*budget) {
                *budget = budget.saturating_sub(1);
            }
        }
        if let Some(moved) = self.has_moved.get_mut(tenant) {
            *moved = true;
        }
    }

    /// Puts a pod that was lifted back to where it was.
    fn put_back(&mut self, tenant: usize) {
        let (Some(asked), Some(Some(place))) =
            (self.asked.tenants.get(tenant), self.places.get(tenant).copied())
        else {
            return;
        };
        if self.has_moved.get(tenant) != Some(&true) {
            return;
        }
        self.scheduler.put(&asked.request, place);
        self.take_others(place.node, &asked.others);
        for budget in &asked.budgets {
            if let Some(budget) = self.budgets.get_mut(*budget) {
                *budget += 1;
            }
        }
        if let Some(moved) = self.has_moved.get_mut(tenant) {
            *moved = false;
        }
    }

    /// Sets a pod that was lifted down on another node.
    fn set_down(&mut self, tenant: usize, to: Placement) {
        if let Some(asked) = self.asked.tenants.get(tenant) {
            self.scheduler.put(&asked.request, to);
            self.note(tenant, to);
        }
    }

    /// Notes that a pod is on another node now.
    fn note(&mut self, tenant: usize, to: Placement) {
        let (Some(asked), Some(Some(from))) =
            (self.asked.tenants.get(tenant), self.places.get(tenant).copied())
        else {
            return;
        };
        self.take_others(to.node, &asked.others);
        if let Some(place) = self.places.get_mut(tenant) {
            *place = Some(to);
        }
        self.steps.push(Step::Moved { tenant, from, to });
    }

    /// Undoes all steps but the first so many.
    fn undo_to(&mut self, steps: usize) {
        while self.steps.len() > steps {
            match self.steps.pop() {
                Some(Step::Moved { tenant, from, to }) => {
                    let Some(asked) = self.asked.tenants.get(tenant) else { continue };
                    self.scheduler.remove(&asked.request, to);
                    self.give_others(to.node, &asked.others);
                    if let Some(place) = self.places.get_mut(tenant) {
                        *place = Some(from);
                    }
                    self.put_back(tenant);
                }
                Some(Step::Came { newcomer, at }) => {
                    let Some(asked) = self.asked.newcomers.get(newcomer) else { continue };
                    self.scheduler.remove(&asked.request, at);
                    self.give_others(at.node, &asked.others);
                }
                None => return,
            }
        }
    }

    fn may_move(&self, tenant: usize) -> bool {
        let Some(asked) = self.asked.tenants.get(tenant) else { return false };
        let allows = |budget: &usize| self.budgets.get(*budget).is_some_and(|left| *left > 0);
        self.has_moved.get(tenant) == Some(&false) && asked.budgets.iter().all(allows)
    }

    fn place(&mut self, newcomer: &Newcomer) -> Option<Placement> {
        let others = &self.others;
        let placement = self.scheduler.place_where(&newcomer.request, |site| {
            newcomer.may_go.get(site) == Some(&true) && has(others.get(site), &newcomer.others)
        })?;
        self.take_others(placement.node, &newcomer.others);
        Some(placement)
    }

    /// How far a request is from having room on a node: for each resource the part of it that is
    /// missing, in the sum; 0 where it has room.
    fn lack(&self, request: &Request, others: &[u64], site: usize) -> f64 {
        let Some(node) = self.scheduler.nodes().get(site) else { return f64::INFINITY };
        let empty = Vec::new();
        let left = self.others.get(site).unwrap_or(&empty);
        let others = others.iter().zip(left).map(|(asked, left)| missing(*asked, *left));
        missing(request.cpu_milli.into(), node.cpu_left().into())
            + missing(request.memory_mib.into(), node.memory_left().into())
            + missing_gpus(request.gpu, node)
            + others.sum::<f64>()
    }

    fn take_others(&mut self, site: usize, asked: &[u64]) -> bool {
        let Some(left) = self.others.get_mut(site) else { return asked.is_empty() };
        let has_room = left.iter().zip(asked).all(|(left, asked)| asked <= left);
        for (left, asked) in left.iter_mut().zip(asked) {
            *left = left.saturating_sub(*asked);
        }
        has_room
    }

    fn give_others(&mut self, site: usize, asked: &[u64]) {
        let Some(left) = self.others.get_mut(site) else { return };
        for (left, asked) in left.iter_mut().zip(asked) {
            *left = left.saturating_add(*asked);
        }
    }
}

fn has(left: Option<&Vec<u64>>, asked: &[u64]) -> bool {
    left.is_some_and(|left| left.iter().zip(asked).all(|(left, asked)| asked <= left))
}

/// The part of what is asked for that is missing.
fn missing(asked: u64, left: u64) -> f64 {
    if asked == 0 { 0.0 } else { asked.saturating_sub(left) as f64 / asked as f64 }
}

fn missing_gpus(gpu: GpuRequest, node: &Node) -> f64 {
    match gpu {
        GpuRequest::None => 0.0,
        GpuRequest::Share(milli) => {
            let most = node.gpus_left().iter().max().copied().unwrap_or(0);
            missing(milli.into(), most.into())
        }
        GpuRequest::Whole(count) => missing(count.into(), node.free_gpus().into()),
    }
}

/// Whether one finds no room where the other does not.
fn is_alike(a: &Newcomer, b: &Newcomer) -> bool {
    a.request == b.request && a.others == b.others && a.may_go == b.may_go
}
