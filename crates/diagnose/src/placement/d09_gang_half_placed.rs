use crate::diagnosis::diagnosis;
use crate::pending::{amount, count};
use crate::report::Report;
use crate::view::View;

use super::gang::gangs;

diagnosis! {
    /// Only some pods of a group have a node; they hold it while the others wait
    ///
    /// ## Signature
    /// Pods of one PodGroup, JobSet, LeaderWorkerSet group, training job or indexed Job: at least one
    /// has a node, and at least one is unschedulable.
    ///
    /// ## Cause
    /// The scheduler places pods one by one. Without a gang the first ones hold GPUs and wait for
    /// peers that cannot come; two such jobs can block each other for ever.
    ///
    /// ## How to mend it
    /// Free what the waiting pods ask for, or end the job and start it again through a gang (a queue
    /// such as Kueue, or a scheduler that knows PodGroups).
    D09, Error,
    needs: [Pods, Nodes],
    rules: ["TRN08"],
    yields_to: ["D56"],
    source: "kubernetes-sigs/scheduler-plugins, coscheduling; volcano-sh/volcano, gang; judgement",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for (gang, pods) in gangs(view) {
        let waiting: Vec<_> = view
            .pending()
            .iter()
            .filter(|pending| {
                pods.iter().any(|pod| pod.object.reference() == pending.pod.object.reference())
            })
            .collect();
        let placed: Vec<_> = pods.iter().filter(|pod| !pod.node_name().is_empty()).collect();
        let (Some(first), false) = (waiting.first(), placed.is_empty()) else { continue };
        let mut held = std::collections::BTreeMap::new();
        for (resource, amount) in placed.iter().flat_map(|pod| pod.gpus()) {
            let sum = held.entry(resource).or_insert(trainyard_rules::Quantity::whole(0));
            *sum = sum.plus(amount);
        }
        let holds: Vec<String> =
            held.iter().map(|(name, sum)| format!("{} of `{name}`", amount(name, *sum))).collect();
        let holds = if holds.is_empty() {
            String::new()
        } else {
            format!(" and hold {}", holds.join(" and "))
        };
        let finding = report.at(
            gang.clone(),
            format!(
                "{} of {} have a node{holds}; {} cannot be scheduled",
                placed.len(),
                count(pods.len(), "pod"),
                waiting.len(),
            ),
        );
        finding.also(waiting.iter().map(|it| it.pod.object.reference()));
        finding.unscheduled(first.pod.object);
        for pod in placed.iter().take(3) {
            finding.field(pod.object, "/spec/nodeName");
        }
        if let Some(group) = view.get(&gang).filter(|it| it.kind() == "PodGroup") {
            finding.field(group, "/spec/minMember");
            finding.field(group, "/status/phase");
        }
        let lack = first.cheapest().and_then(|way| first.lack(way));
        if let Some(lack) = lack {
            finding.advise(format!(
                "free {} of `{}` for each of {}",
                amount(&lack.resource, lack.wanted),
                lack.resource,
                count(waiting.len(), "pod"),
            ));
        } else if let Some(other) = first.ways.first().map(|_| first.message()) {
            finding.advise(format!("mend what the scheduler says of the waiting pods: {other}"));
        }
        finding.advise("start such jobs as a gang, so that all or none of their pods get nodes");
    }
}
