use std::collections::BTreeSet;

use trainyard_rules::Quantity;

use crate::diagnosis::diagnosis;
use crate::patch;
use crate::pending::{Class, Lack, Plan, amount, count, plan};
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// Enough devices are free, but on several nodes
    ///
    /// ## Signature
    /// The pod is unschedulable. The nodes that would take it have together as many devices free as it
    /// asks for, and none of them has so many alone.
    ///
    /// ## Cause
    /// Small pods were spread over nodes; the scheduler moves nothing that runs.
    ///
    /// ## How to mend it
    /// Move the pods that are named (delete them, and their controller makes them anew; cordon the node
    /// first so that they go elsewhere), or use a scheduler that packs GPUs.
    D06, Error,
    needs: [Pods, Nodes, AllPods],
    rules: ["TRN19"],
    yields_to: ["D07", "D09", "D12", "D14", "D56"],
    source: "kubernetes/kubernetes, plugin NodeResourcesFit; the plan is computed from the snapshot",
    check: check,
}

/// Devices are whole; of CPU and memory a part everywhere is the usual state.
pub(super) fn is_split(lack: &Lack<'_, '_>) -> bool {
    let free = lack
        .nodes
        .iter()
        .fold(Quantity::whole(0), |sum, (_, free)| sum.plus((*free).max(Quantity::whole(0))));
    let block = lack.nodes.first().map_or(Quantity::whole(0), |(_, free)| *free);
    lack.resource.contains('/') && free >= lack.wanted && block < lack.wanted
}

pub(super) fn plan_text(resource: &str, plan: &Plan<'_>) -> String {
    let moves: Vec<String> = plan
        .moves
        .iter()
        .map(|(pod, held, to)| {
            format!("{} ({}) to `{to}`", pod.reference(), amount(resource, *held))
        })
        .collect();
    format!(
        "moving {} frees {} of `{resource}` on `{}`",
        moves.join(" and "),
        amount(resource, plan.freed),
        plan.node
    )
}

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        let Some(way) = pending.cheapest() else { continue };
        if way.obstacles != BTreeSet::from([Class::Short]) || pending.not_advertised().is_some() {
            continue;
        }
        let Some(lack) = pending.lack(way).filter(is_split) else { continue };
        let resource = lack.resource.as_str();
        let (largest, block) = lack
            .nodes
            .first()
            .map_or(("", Quantity::whole(0)), |(node, free)| (node.name(), *free));
        let free: Quantity = lack
            .nodes
            .iter()
            .fold(Quantity::whole(0), |sum, (_, free)| sum.plus((*free).max(Quantity::whole(0))));
        let object = pending.pod.object;
        let finding = report.at(
            object.reference(),
            format!(
                "the largest free block of `{resource}` is {}, on `{largest}`; the pod asks for {}, and {} are free on {} together",
                amount(resource, block),
                amount(resource, lack.wanted),
                amount(resource, free),
                count(lack.nodes.len(), "node"),
            ),
        );
        finding.unscheduled(object);
        for (node, free) in lack.nodes.iter().filter(|(_, free)| !free.is_zero()).take(4) {
            finding.because(format!(
                "{} has {} of {} free",
                node.object.reference(),
                amount(resource, *free),
                amount(resource, node.allocatable.get(resource).copied().unwrap_or(*free)),
            ));
        }
        match plan(view, pending, &lack).filter(|plan| !plan.moves.is_empty()) {
            Some(plan) => {
                finding.advise(plan_text(resource, &plan));
                let deletes: Vec<String> = plan
                    .moves
                    .iter()
                    .map(|(pod, ..)| {
                        let pod = pod.reference();
                        format!("kubectl {}delete {}", patch::place(&pod), patch::named(&pod))
                    })
                    .collect();
                let node = plan.node;
                finding.run(format!(
                    "kubectl cordon {node} && {} && kubectl uncordon {node}",
                    deletes.join(" && ")
                ));
            }
            None => {
                finding
                    .advise("no few pods can be moved to make room: ask for less, or add a node");
            }
        }
    }
}
