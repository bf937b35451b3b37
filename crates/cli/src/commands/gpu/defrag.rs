//! `trainyard gpu defrag`: which few pods to move so that others find room.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use miette::miette;
use serde_json::{Value, json};
use trainyard_diagnose::{Moving, Occupancy, OccupancyError, occupancy};
use trainyard_packing::{Outcome, Policy, Proposal, Purpose, Request};

use crate::commands::dump::Places;
use crate::failure::failure;
use crate::print::print_line;
use crate::table::table;

/// Propose few moves of pods that make room for those that wait, or for those that usually come
///
/// Reads only. Looks at pods that a controller makes anew, that no PodDisruptionBudget, annotation,
/// volume of a node or required rule about other pods holds, and at the nodes where the scheduler's
/// filters let them go. A move makes room for a pod that waits, or for one more pod of a shape that
/// runs or waits often, by FGD's measure of fragments. Exit code 0: nothing to move. 1: moves are
/// proposed. 2: the cluster could not be read.
#[derive(Args)]
pub(super) struct Defrag {
    /// Only propose; needed, since nothing else is done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    places: Places,
    /// The most moves that are proposed
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(..=1000))]
    moves: u16,
    /// Move pods of Jobs that run alone too: they lose what they did since their last checkpoint
    #[arg(long)]
    jobs: bool,
    /// Where pods that move go
    #[arg(long, value_name = "POLICY", default_value = "least-stranding")]
    policy: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

impl Defrag {
    pub(super) fn run(&self) -> miette::Result<ExitCode> {
        if !self.dry_run {
            return Err(miette!(
                help = "`trainyard gpu defrag --dry-run` prints the moves; `kubectl cordon NODE` and the eviction of a pod carry one out",
                "`trainyard gpu defrag` moves nothing: where a pod that is evicted starts again is up to Kubernetes' scheduler, so that the moves can be proposed and not promised; add --dry-run"
            ));
        }
        let policy: Policy = self.policy.parse().map_err(failure)?;
        let snapshot = self.places.read()?;
        let moving = if self.jobs { Moving::Jobs } else { Moving::Services };
        let mut seen = occupancy(&snapshot, moving).map_err(not_known)?;
        // Nobody moves for pods without GPUs.
        let wants_gpu: Vec<bool> = seen.waiting.iter().map(|it| it.has_gpu).collect();
        seen.waiting.retain(|it| it.has_gpu);
        let mut wants_gpu = wants_gpu.into_iter();
        seen.newcomers.retain(|_| wants_gpu.next() == Some(true));
        let proposal = seen.defrag(policy, usize::from(self.moves)).propose();
        let answer = Answer { seen: &seen, proposal: &proposal };
        match self.output {
            Output::Json => {
                print_line(&serde_json::to_string_pretty(&answer.json()).map_err(failure)?)?;
            }
            Output::Table => print_line(&answer.text())?,
        }
        Ok(if proposal.moves.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// The report of a cluster of which too little was read.
pub(in crate::commands) fn not_known(error: OccupancyError) -> miette::Report {
    let help = match &error {
        OccupancyError::Unread { .. } => {
            "what is free follows from all nodes and from the pods of all namespaces: ask for `list` of both (`kubectl auth can-i list pods -A`), or dump them (`kubectl get nodes,pods,pdb,pv,pvc -A -o yaml`) and use --from"
        }
        OccupancyError::TooManyKinds(_) => "dump a part of the nodes and use --from",
    };
    miette!(help = help, "{}", failure(error))
}

struct Answer<'a> {
    seen: &'a Occupancy,
    proposal: &'a Proposal,
}

impl Answer<'_> {
    fn node(&self, at: usize) -> &str {
        self.seen.nodes.get(at).map_or("", String::as_str)
    }

    /// What moves are for, and how many of them.
    fn moves_by_newcomer(&self) -> BTreeMap<usize, usize> {
        let mut moves = BTreeMap::new();
        for step in &self.proposal.moves {
            if let Purpose::Newcomer(at) = step.purpose {
                *moves.entry(at).or_insert(0) += 1;
            }
        }
        moves
    }

    fn shape(&self, request: &Request) -> String {
        let cores = f64::from(request.cpu_milli) / 1000.0;
        let memory = f64::from(request.memory_mib) / 1024.0;
        format!("{}, {cores} cores, {memory:.1} GiB", self.seen.fleet.words(request))
    }

    /// Pods with GPUs that stay, and why, but for those of nodes that have no others.
    fn stays(&self) -> Vec<(&trainyard_diagnose::Occupant, &str)> {
        let all = self.seen.occupants.iter().filter(|it| it.has_gpu);
        all.filter_map(|it| Some((it, it.stays.as_deref()?))).collect()
    }

    fn so_that(&self, purpose: Purpose) -> String {
        match purpose {
            Purpose::Newcomer(at) => {
                let pod = self.seen.waiting.get(at).map(|it| &it.pod);
                let node = match self.proposal.outcomes.get(at) {
                    Some(Outcome::FitsAfterMoves(node)) => format!(" on {}", self.node(*node)),
                    _ => String::new(),
                };
                pod.map_or_else(String::new, |pod| {
                    format!("{}/{} fits{node}", pod.namespace, pod.name)
                })
            }
            Purpose::Shape(at) => {
                let shape = self.proposal.shapes.get(at);
                let words = shape.map(|it| self.seen.fleet.words(&it.request)).unwrap_or_default();
                format!("one more pod with {words} fits")
            }
        }
    }

    fn after(&self, at: usize) -> String {
        let moves = self.moves_by_newcomer();
        match self.proposal.outcomes.get(at) {
            Some(Outcome::Fits(node)) => format!("fits on {} as it is", self.node(*node)),
            Some(Outcome::FitsAfterMoves(node)) => {
                let count = moves.get(&at).copied().unwrap_or(0);
                let moves = if count == 1 { "move" } else { "moves" };
                format!("fits on {} after {count} {moves}", self.node(*node))
            }
            Some(Outcome::NoRoom) => {
                match self.seen.waiting.get(at).and_then(|it| it.gang.as_ref()) {
                    Some(gang) => format!("no few moves make room for all of {gang}"),
                    None => "no few moves make room".to_owned(),
                }
            }
            _ => "no node takes it, even empty: `trainyard doctor` says why".to_owned(),
        }
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        let name = |pod: &trainyard_diagnose::ObjectRef| format!("{}/{}", pod.namespace, pod.name);
        if self.proposal.moves.is_empty() {
            parts.push("no moves: none of few would free enough".to_owned());
        } else {
            let rows = self.proposal.moves.iter().enumerate().filter_map(|(at, step)| {
                let it = self.seen.occupants.get(step.tenant)?;
                Some(vec![
                    (at + 1).to_string(),
                    name(&it.pod),
                    format!("{}/{}", it.owner.kind, it.owner.name),
                    it.asks.clone(),
                    self.node(step.from).to_owned(),
                    self.node(step.to).to_owned(),
                    self.so_that(step.purpose),
                ])
            });
            let header = ["MOVE", "POD", "OF", "ASKS FOR", "FROM", "TO", "SO THAT"];
            parts.push(table(&header, rows));
        }
        let waiting: Vec<Vec<String>> = self
            .seen
            .waiting
            .iter()
            .enumerate()
            .map(|(at, it)| vec![name(&it.pod), it.asks.clone(), self.after(at)])
            .collect();
        if !waiting.is_empty() {
            parts.push(table(&["WAITING POD", "ASKS FOR", "OUTCOME"], waiting));
        }
        if !self.proposal.shapes.is_empty() {
            let rows = self.proposal.shapes.iter().map(|it| {
                vec![
                    self.shape(&it.request),
                    format!("{:.0}", 100.0 * it.part),
                    it.fit_before.to_string(),
                    it.fit_after.to_string(),
                ]
            });
            parts.push(table(&["USUAL SHAPE", "% OF PODS", "FIT NOW", "FIT AFTER"], rows));
        }
        let (before, after) = (self.proposal.before, self.proposal.after);
        parts.push(format!(
            "{} GPUs are idle; the usual shapes cannot use {:.2} of them now, {:.2} after the moves",
            rounded(before.idle),
            before.fragmented,
            after.fragmented
        ));
        let rows = self
            .stays()
            .into_iter()
            .map(|(it, why)| vec![name(&it.pod), it.node.clone(), it.asks.clone(), why.to_owned()]);
        let stays: Vec<Vec<String>> = rows.collect();
        if !stays.is_empty() {
            parts.push(table(&["STAYS", "NODE", "ASKS FOR", "WHY"], stays));
        }
        let mut notes: Vec<String> = self
            .seen
            .aside
            .iter()
            .map(|it| format!("left out: {}: {}", it.object, it.why))
            .collect();
        notes.extend(
            self.proposal.overfull.iter().map(|at| {
                format!("left out: Node/{}: more runs there than it has", self.node(*at))
            }),
        );
        if !notes.is_empty() {
            parts.push(notes.join("\n"));
        }
        parts.join("\n\n")
    }

    fn json(&self) -> Value {
        let moves: Vec<Value> = self
            .proposal
            .moves
            .iter()
            .filter_map(|step| {
                let it = self.seen.occupants.get(step.tenant)?;
                let purpose = match step.purpose {
                    Purpose::Newcomer(at) => {
                        json!({"waitingPod": self.seen.waiting.get(at).map(|it| &it.pod)})
                    }
                    Purpose::Shape(at) => json!({"usualShape": at}),
                };
                Some(json!({
                    "pod": it.pod, "owner": it.owner, "asks": it.asks,
                    "from": self.node(step.from), "to": self.node(step.to), "for": purpose,
                }))
            })
            .collect();
        let moves_for = self.moves_by_newcomer();
        let waiting: Vec<Value> = self
            .seen
            .waiting
            .iter()
            .enumerate()
            .map(|(at, it)| {
                let (outcome, node) = match self.proposal.outcomes.get(at) {
                    Some(Outcome::Fits(node)) => ("Fits", Some(self.node(*node))),
                    Some(Outcome::FitsAfterMoves(node)) => {
                        ("FitsAfterMoves", Some(self.node(*node)))
                    }
                    Some(Outcome::NoRoom) => ("NoRoom", None),
                    _ => ("Nowhere", None),
                };
                json!({
                    "pod": it.pod, "owner": it.owner, "asks": it.asks, "gang": it.gang,
                    "outcome": outcome, "node": node,
                    "moves": moves_for.get(&at).copied().unwrap_or(0),
                })
            })
            .collect();
        let shapes: Vec<Value> = self
            .proposal
            .shapes
            .iter()
            .map(|it| {
                json!({
                    "gpus": self.seen.fleet.words(&it.request), "cpuMilli": it.request.cpu_milli,
                    "memoryMib": it.request.memory_mib, "part": it.part,
                    "fitNow": it.fit_before, "fitAfter": it.fit_after,
                })
            })
            .collect();
        let stays: Vec<Value> = self
            .stays()
            .into_iter()
            .map(|(it, why)| json!({"pod": it.pod, "node": it.node, "asks": it.asks, "why": why}))
            .collect();
        let overfull: Vec<&str> = self.proposal.overfull.iter().map(|at| self.node(*at)).collect();
        json!({
            "moves": moves, "waiting": waiting, "usualShapes": shapes,
            "gpus": {"before": self.proposal.before, "after": self.proposal.after},
            "stays": stays, "leftOut": self.seen.aside, "overfullNodes": overfull,
        })
    }
}

/// A number of GPUs: whole ones without a fraction.
fn rounded(gpus: f64) -> String {
    if (gpus - gpus.round()).abs() < 0.005 { format!("{gpus:.0}") } else { format!("{gpus:.2}") }
}
