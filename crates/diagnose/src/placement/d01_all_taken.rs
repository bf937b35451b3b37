use std::collections::{BTreeMap, BTreeSet};

use trainyard_rules::Quantity;

use crate::diagnosis::diagnosis;
use crate::pending::{Class, Lack, Pending, amount, count, names, plan};
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// Others have all of a resource that the pod asks for
    ///
    /// ## Signature
    /// The pod is unschedulable. Nodes that would take it by taints, labels, ports and volumes have
    /// the resource, but less of it free than it asks for, together too.
    ///
    /// ## Cause
    /// The requests of the pods on those nodes add up to what the nodes have. Use does not matter:
    /// a GPU that is asked for is taken even while it is idle.
    ///
    /// ## How to mend it
    /// End or shrink one of the pods that are named, raise the pod's priority, or add a node.
    D01, Error,
    needs: [Pods, Nodes, AllPods],
    rules: ["SCL06", "TRN20"],
    yields_to: ["D07", "D09", "D12", "D14", "D56"],
    source: "kubernetes/kubernetes, plugin NodeResourcesFit; its message `Insufficient nvidia.com/gpu`",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        let Some(way) = pending.cheapest() else { continue };
        if way.obstacles != BTreeSet::from([Class::Short]) || pending.not_advertised().is_some() {
            continue;
        }
        let Some(lack) = pending.lack(way) else { continue };
        if super::d06_fragmented::is_split(&lack) {
            continue;
        }
        tell(view, pending, &lack, report);
    }
}

fn tell<'a>(view: &View<'a>, pending: &Pending<'a>, lack: &Lack<'_, 'a>, report: &mut Report) {
    let resource = lack.resource.as_str();
    let holders = holders(view, lack);
    let best = lack.nodes.first().map_or(Quantity::whole(0), |(_, free)| *free);
    let object = pending.pod.object;
    let nodes = count(lack.nodes.len(), "node");
    let finding = report.at(
        object.reference(),
        format!(
            "no node has {} of `{resource}` free: {nodes} would take the pod otherwise, with at most {} free",
            amount(resource, lack.wanted),
            amount(resource, best.max(Quantity::whole(0))),
        ),
    );
    finding.unscheduled(object);
    for (node, free) in lack.nodes.iter().take(3) {
        let path = format!("/status/allocatable/{}", resource.replace('/', "~1"));
        finding.field(node.object, &path);
        finding.because(format!(
            "{} has {} of it free after the requests of {}",
            node.object.reference(),
            amount(resource, *free),
            count(view.pods_on(node.name()).iter().filter(|it| !it.has_ended()).count(), "pod"),
        ));
    }
    if !holders.is_empty() {
        let told: Vec<String> = holders
            .iter()
            .take(4)
            .map(|(held, name)| format!("{name} ({})", amount(resource, *held)))
            .collect();
        finding.because(format!("`{resource}` is held by {}", told.join(", ")));
    }
    if let Some(plan) = plan(view, pending, lack).filter(|plan| !plan.moves.is_empty()) {
        finding.advise(super::d06_fragmented::plan_text(resource, &plan));
    }
    if let Some((held, name)) = holders.first() {
        finding.advise(format!(
            "free {} of `{resource}` on one of {}: {name} holds {}",
            amount(resource, lack.wanted),
            names(lack.nodes.iter().map(|(node, _)| node.name())),
            amount(resource, *held),
        ));
    }
    finding.advise(format!(
        "or add a node with {} of `{resource}`, or ask for less",
        amount(resource, lack.wanted)
    ));
    if let Some(other) = pending.otherwise() {
        finding.advise(other);
    }
}

/// Who holds the resource on the nodes that matter, the largest first, by what a person wrote.
fn holders(view: &View<'_>, lack: &Lack<'_, '_>) -> Vec<(Quantity, String)> {
    let mut by_owner: BTreeMap<String, Quantity> = BTreeMap::new();
    for (node, _) in &lack.nodes {
        for pod in view.pods_on(node.name()).iter().filter(|pod| !pod.has_ended()) {
            if let Some(held) = pod.requests().get(&lack.resource).filter(|it| !it.is_zero()) {
                let owner = view.top(pod.object).reference().to_string();
                let sum = by_owner.entry(owner).or_insert(Quantity::whole(0));
                *sum = sum.plus(*held);
            }
        }
    }
    let mut holders: Vec<(Quantity, String)> =
        by_owner.into_iter().map(|(name, held)| (held, name)).collect();
    holders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    holders
}
