//! A snapshot as those see it who pack pods: nodes, what runs there, what waits, and who may go where.
//!
//! By the scheduler's filters of [`schedule`](crate::schedule), of which rules and room are kept apart:
//! room is what moves change. Rules about other pods change with moves too; so pods that have such
//! rules stay where they are, and hold for all others as they stand.

mod gpus;
mod stays;
mod welcome;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use trainyard_packing::{
    Asked, Defrag, Fleet, Machine, Model, ModelSet, Newcomer, Policy, Request, Site, Tenant,
    TooManyModels, Welcome,
};
use trainyard_rules::Quantity;

use self::stays::{Budgets, stays};
use self::welcome::Rules;
use crate::answer::ObjectRef;
use crate::pending::amount;
use crate::placement::gang::gang_of;
use crate::schedule::{Amounts, Space};
use crate::snapshot::Snapshot;
use crate::view::{Node, Pod, View, is_gpu_resource};

/// Which pods may be moved, beyond those whose controller makes them anew at no loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Moving {
    /// None of a Job: what it did since its last checkpoint would be lost.
    #[default]
    Services,
    /// Pods of Jobs that run alone too.
    Jobs,
}

/// A cluster with what runs and waits there.
#[derive(Debug, Clone, Default)]
pub struct Occupancy {
    pub fleet: Fleet,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// The nodes, in the order of their names.
    pub sites: Vec<Site>,
    /// The pods that run.
    pub tenants: Vec<Tenant>,
    /// The same pods, for people.
    pub occupants: Vec<Occupant>,
    /// The pods that wait for a node: by priority, and then as they came.
    pub newcomers: Vec<Newcomer>,
    /// The same pods, for people.
    pub waiting: Vec<Waiting>,
    /// How many pods each PodDisruptionBudget lets go.
    pub budgets: Vec<u32>,
    /// What is left out, and why.
    pub aside: Vec<Aside>,
}

impl Occupancy {
    /// What can be asked about moves.
    pub fn defrag(&self, policy: Policy, most_moves: usize) -> Defrag<'_> {
        Defrag {
            sites: &self.sites,
            tenants: &self.tenants,
            newcomers: &self.newcomers,
            budgets: &self.budgets,
            models: self.fleet.models(),
            policy,
            most_moves,
        }
    }
}

/// A pod that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Occupant {
    pub pod: ObjectRef,
    /// What a person wrote, where that is known: the last of its owners.
    pub owner: ObjectRef,
    pub node: String,
    /// What it asks for, in words.
    pub asks: String,
    pub has_gpu: bool,
    /// Why it cannot be moved.
    pub stays: Option<String>,
}

/// A pod that waits for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    pub pod: ObjectRef,
    pub owner: ObjectRef,
    /// What it asks for, in words.
    pub asks: String,
    pub has_gpu: bool,
    /// What it starts with or not at all.
    pub gang: Option<ObjectRef>,
}

/// A node or pod that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Aside {
    pub object: ObjectRef,
    pub why: String,
}

/// Why a snapshot does not tell what is where.
#[derive(Debug, thiserror::Error)]
pub enum OccupancyError {
    #[error("{what} could not be read: {reason}")]
    Unread { what: String, reason: String },
    #[error("there are more kinds of GPUs than can be told apart")]
    TooManyKinds(#[from] TooManyModels),
}

/// What must have been read: without it what is free is not known.
const NEEDED: [&str; 3] = ["nodes", "pods", "pods of other namespaces"];

/// Reads a snapshot.
///
/// # Errors
///
/// Nodes or pods that were not read, and more kinds of GPUs than are told apart.
pub fn occupancy(snapshot: &Snapshot, moving: Moving) -> Result<Occupancy, OccupancyError> {
    if let Some(unread) = snapshot.unread.iter().find(|it| NEEDED.contains(&it.what.as_str())) {
        let (what, reason) = (unread.what.clone(), unread.reason.clone());
        return Err(OccupancyError::Unread { what, reason });
    }
    let view = View::new(snapshot);
    let mut reader = Reader::new(&view, moving)?;
    reader.tenants();
    reader.newcomers();
    Ok(reader.seen)
}

struct Reader<'v, 'a> {
    view: &'v View<'a>,
    moving: Moving,
    index: BTreeMap<&'a str, usize>,
    /// Resources beyond cores, memory and GPUs that pods ask for.
    others: Vec<String>,
    budgets: Budgets<'a>,
    rules: Rules<'v, 'a>,
    seen: Occupancy,
}

impl<'v, 'a> Reader<'v, 'a> {
    fn new(view: &'v View<'a>, moving: Moving) -> Result<Self, TooManyModels> {
        let mut nodes: Vec<&Node<'a>> = view.nodes().iter().collect();
        nodes.sort_by_key(|node| node.name());
        nodes.dedup_by_key(|node| node.name());
        let alive = view.pods().iter().filter(|pod| !pod.has_ended());
        let names: BTreeSet<String> = alive.flat_map(|pod| pod.requests().into_keys()).collect();
        let is_other =
            |name: &String| !matches!(name.as_str(), "cpu" | "memory") && !is_gpu_resource(name);
        let others: Vec<String> = names.into_iter().filter(is_other).collect();
        let budgets = Budgets::of(view);
        let mut seen = Occupancy { budgets: budgets.allowed(), ..Occupancy::default() };
        for node in &nodes {
            let has = |name: &str| node.allocatable.get(name).copied();
            let machine = Machine {
                cpu_milli: floor(has("cpu"), 1000, 1),
                memory_mib: floor(has("memory"), 1, 1 << 20),
                units: gpus::units(node),
            };
            let (empty, why) = seen.fleet.add(&machine)?;
            if let Some(why) = why {
                let object = node.object.reference();
                seen.aside.push(Aside { object, why: format!("its GPUs are left out: {why}") });
            }
            seen.nodes.push(node.name().to_owned());
            seen.sites.push(Site {
                node: empty,
                others: others.iter().map(|name| floor(has(name), 1, 1)).collect(),
                is_open: node.is_ready()
                    && node.object.at("/spec/unschedulable") != Some(&Value::Bool(true)),
            });
        }
        let index = nodes.iter().enumerate().map(|(at, node)| (node.name(), at)).collect();
        let models = seen.sites.iter().map(|site| site.node.capacity().model);
        let rules = Rules::new(view, Space::of(view), nodes.into_iter().zip(models).collect());
        Ok(Self { view, moving, index, others, budgets, rules, seen })
    }

    fn tenants(&mut self) {
        let view = self.view;
        for pod in view.pods().iter().filter(|pod| !pod.has_ended()) {
            let Some(site) = self.index.get(pod.node_name()).copied() else { continue };
            let amounts = pod.requests();
            let asked = asked(&amounts);
            let model = self.seen.sites.get(site).and_then(|it| it.node.capacity().model);
            let has_gpu = asks_for_gpu(&asked);
            let (budgets, mut stays) = stays(view, pod, self.moving, &self.budgets);
            let mut request = self.seen.fleet.request(&asked, model).unwrap_or_else(|why| {
                // What it has of GPUs is not known: nothing more is put there.
                let without = Asked { units: BTreeMap::new(), ..asked.clone() };
                if model.is_some() {
                    if let Some(site) = self.seen.sites.get_mut(site) {
                        site.is_open = false;
                    }
                    let object = pod.object.reference();
                    let why = format!("its node gets no other pods: {why}");
                    self.seen.aside.push(Aside { object, why });
                }
                stays.get_or_insert_with(|| why.to_string());
                self.seen.fleet.request(&without, None).expect("a pod without GPUs is modelled")
            });
            // Of what makes no GPU usable, nothing need move.
            let matters = has_gpu || model.is_some() && stays.is_none();
            let allowed = if matters { self.rules.welcome(pod) } else { self.rules.nowhere() };
            if has_gpu {
                request.models = models(request.models, allowed.models, model);
            }
            if matters && stays.is_none() && !self.is_elsewhere(&request, &allowed.nodes, site) {
                stays = Some(self.rules.why_nowhere_else(pod, site));
            }
            let may_go = (matters && stays.is_none()).then_some(allowed.nodes);
            self.seen.tenants.push(Tenant {
                request,
                others: self.others(&amounts),
                site,
                may_go,
                budgets,
            });
            self.seen.occupants.push(Occupant {
                pod: pod.object.reference(),
                owner: owner(view, pod),
                node: pod.node_name().to_owned(),
                asks: words(&amounts),
                has_gpu,
                stays,
            });
        }
    }

    fn newcomers(&mut self) {
        let view = self.view;
        let mut found = Vec::new();
        for pod in view.pods().iter().filter(|pod| pod.is_waiting_for_node()) {
            let amounts = pod.requests();
            let aside = |why: String| Aside { object: pod.object.reference(), why };
            if !pod.object.list("/spec/resourceClaims").is_empty() {
                let why = "it claims devices, and claims are not counted";
                self.seen.aside.push(aside(why.to_owned()));
                continue;
            }
            let asked = asked(&amounts);
            let mut request = match self.seen.fleet.request(&asked, None) {
                Ok(request) => request,
                Err(why) => {
                    self.seen.aside.push(aside(why.to_string()));
                    continue;
                }
            };
            let allowed = self.rules.welcome(pod);
            let has_gpu = asks_for_gpu(&asked);
            if has_gpu {
                request.models = models(request.models, allowed.models, None);
            }
            let gang = gang_of(view, pod);
            let waiting = Waiting {
                pod: pod.object.reference(),
                owner: owner(view, pod),
                asks: words(&amounts),
                has_gpu,
                gang: gang.clone(),
            };
            let others = self.others(&amounts);
            let newcomer = Newcomer { request, others, may_go: allowed.nodes, gang: None };
            let priority = pod.object.number("/spec/priority").unwrap_or(0);
            found.push((Reverse(priority), pod.object.created(), waiting, newcomer));
        }
        // Who is of a gang comes with the first of it.
        let mut first: BTreeMap<ObjectRef, (Reverse<i64>, &str)> = BTreeMap::new();
        for (priority, created, waiting, _) in &found {
            if let Some(gang) = &waiting.gang {
                let key = (*priority, *created);
                let entry = first.entry(gang.clone()).or_insert(key);
                *entry = key.min(*entry);
            }
        }
        let numbers: BTreeMap<ObjectRef, usize> =
            first.keys().enumerate().map(|(at, gang)| (gang.clone(), at)).collect();
        found.sort_by_cached_key(|(priority, created, waiting, _)| {
            let gang = waiting.gang.as_ref();
            let key = gang.and_then(|gang| first.get(gang)).copied();
            (key.unwrap_or((*priority, *created)), waiting.gang.clone(), waiting.pod.clone())
        });
        for (_, _, waiting, mut newcomer) in found {
            newcomer.gang = waiting.gang.as_ref().and_then(|gang| numbers.get(gang)).copied();
            self.seen.newcomers.push(newcomer);
            self.seen.waiting.push(waiting);
        }
    }

    fn others(&self, amounts: &Amounts) -> Vec<u64> {
        self.others.iter().map(|name| ceil(amounts.get(name).copied(), 1, 1)).collect()
    }

    /// Whether there is another node that takes pods among those where it may run.
    fn is_elsewhere(&self, request: &Request, allowed: &Welcome, own: usize) -> bool {
        let takes = |at: usize| {
            let site = self.seen.sites.get(at).filter(|site| site.is_open);
            site.is_some_and(|site| site.node.fits(request))
        };
        allowed.iter().enumerate().any(|(at, may)| *may && at != own && takes(at))
    }
}

/// The models of a pod's units on the nodes where it may run, and on its own.
fn models(of_resource: ModelSet, allowed: ModelSet, own: Option<Model>) -> ModelSet {
    let here = own.map_or(allowed, |own| allowed.with(own));
    match of_resource.and(here) {
        ModelSet::EMPTY => of_resource,
        some => some,
    }
}

/// The last of its owners that is known, or the name of one that is not.
fn owner<'a>(view: &View<'a>, pod: &Pod<'a>) -> ObjectRef {
    let top = view.top(pod.object).reference();
    let named = || pod.object.controller().unwrap_or_else(|| pod.object.reference());
    if top.kind == "Pod" { named() } else { top }
}

fn asks_for_gpu(asked: &Asked) -> bool {
    asked.units.values().any(|units| *units > 0)
}

fn asked(amounts: &Amounts) -> Asked {
    let gpus = amounts.iter().filter(|(name, count)| is_gpu_resource(name) && !count.is_zero());
    Asked {
        cpu_milli: ceil(amounts.get("cpu").copied(), 1000, 1),
        memory_mib: ceil(amounts.get("memory").copied(), 1, 1 << 20),
        units: gpus.map(|(name, count)| (name.clone(), ceil(Some(*count), 1, 1))).collect(),
    }
}

/// What there is of something, in parts of its unit: what is less than a part is nothing.
fn floor(amount: Option<Quantity>, times: i64, divided_by: u64) -> u64 {
    let whole = amount.map_or(0, |amount| amount.times(times).units());
    u64::try_from(whole).unwrap_or(0) / divided_by
}

/// What is asked of something, in parts of its unit: what is less than a part is one.
fn ceil(amount: Option<Quantity>, times: i64, divided_by: u64) -> u64 {
    let Some(amount) = amount else { return 0 };
    let amount = amount.times(times);
    let whole = u64::try_from(amount.units()).unwrap_or(0);
    let whole = if amount.is_whole() { whole } else { whole.saturating_add(1) };
    whole.div_ceil(divided_by)
}

/// `2 nvidia.com/gpu, 4 cores, 16 GiB`.
fn words(amounts: &Amounts) -> String {
    let gpus = amounts.iter().filter(|(name, count)| is_gpu_resource(name) && !count.is_zero());
    let mut parts: Vec<String> =
        gpus.map(|(name, count)| format!("{} {name}", amount(name, *count))).collect();
    if let Some(cpu) = amounts.get("cpu").filter(|cpu| !cpu.is_zero()) {
        let cores = cpu.as_f64();
        parts.push(format!("{cores} core{}", if cores == 1.0 { "" } else { "s" }));
    }
    parts.extend(amounts.get("memory").filter(|it| !it.is_zero()).map(ToString::to_string));
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests;
