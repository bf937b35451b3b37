use serde_json::Value;

use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::has_any;
use crate::report::Report;
use crate::view::{Object, View, text};

diagnosis! {
    /// The work waits in a queue, or for somebody to lift a gate
    ///
    /// ## Signature
    /// A Kueue Workload whose condition `QuotaReserved` is false or whose `Admitted` is; or a pod
    /// with scheduling gates and no Workload.
    ///
    /// ## Cause
    /// By the condition's reason and words: the queue does not exist or is stopped, no flavour fits, the
    /// request is above what the queue may ever get, or others have the quota now.
    ///
    /// ## How to mend it
    /// By the cause; quota that others use comes free by itself.
    D08, Warning,
    needs: [Pods, Resource("workloads.kueue.x-k8s.io"), Resource("clusterqueues.kueue.x-k8s.io")],
    rules: ["TRN21"],
    source: "kubernetes-sigs/kueue, apis/kueue: conditions and reasons of Workload",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for workload in view.of_kind("Workload").iter().filter(|it| is_kueue(**it)) {
        let Some(condition) = waiting(*workload) else { continue };
        let (reason, message) = (text(condition, "/reason"), text(condition, "/message"));
        let queue = queue_name(*workload);
        let subject = view.owner(*workload).unwrap_or(*workload);
        let (why, fix) = explain(view, *workload, reason, message, queue);
        let finding =
            report.at(subject.reference(), format!("waits in the queue `{queue}`: {why}"));
        if subject.kind() != "Pod" {
            let pods = view
                .pods()
                .iter()
                .filter(|it| view.top(it.object).reference() == subject.reference());
            finding.also(pods.filter(|it| it.is_gated()).map(|it| it.object.reference()));
        }
        finding.value(*workload, "status.conditions.QuotaReserved.reason", reason);
        finding.value(*workload, "status.conditions.QuotaReserved.message", message);
        if let Some(cluster_queue) = cluster_queue(view, *workload) {
            finding.field(cluster_queue, "/spec/resourceGroups");
            finding.field(cluster_queue, "/status/flavorsUsage");
        }
        finding.advise(fix);
    }
    for pod in view.pods().iter().filter(|pod| pod.is_gated() && !pod.has_ended()) {
        let top = view.top(pod.object).reference();
        let is_queued =
            view.of_kind("Workload").iter().filter_map(|it| view.owner(*it)).any(|owner| {
                let owner = owner.reference();
                owner == pod.object.reference() || owner == top
            });
        if pod.object.is_ending() || is_queued {
            continue;
        }
        let gates: Vec<&str> =
            pod.object.list("/spec/schedulingGates").iter().map(|it| text(it, "/name")).collect();
        let finding = report.at(
            pod.object.reference(),
            format!("is not scheduled until somebody lifts the gate `{}`", gates.join("`, `")),
        );
        finding.field(pod.object, "/spec/schedulingGates");
        let is_kueue = gates.iter().any(|gate| gate.contains("kueue"));
        if is_kueue {
            finding.sure(Confidence::Likely);
            finding.because(
                "no Workload is there for it: Kueue has not seen the pod, or may not be read",
            );
            finding.advise(
                "label it with `kueue.x-k8s.io/queue-name` of a LocalQueue in its namespace",
            );
        } else {
            finding.advise("look at the controller that sets the gate");
        }
    }
}

fn is_kueue(workload: Object<'_>) -> bool {
    workload.text("/apiVersion").starts_with("kueue.x-k8s.io/")
}

/// The condition that says why it waits.
fn waiting(workload: Object<'_>) -> Option<&Value> {
    let is = |name: &str, status: &str| workload.condition_status(name) == status;
    if is("Finished", "True") || is("Admitted", "True") {
        return None;
    }
    workload
        .condition("QuotaReserved")
        .filter(|it| text(it, "/status") == "False")
        .or_else(|| workload.condition("Admitted").filter(|it| text(it, "/status") == "False"))
}

fn queue_name(workload: Object<'_>) -> &str {
    workload.text("/spec/queueName")
}

fn cluster_queue<'a>(view: &View<'a>, workload: Object<'a>) -> Option<Object<'a>> {
    let local = view.find("LocalQueue", workload.namespace(), queue_name(workload))?;
    view.find("ClusterQueue", "", local.text("/spec/clusterQueue"))
}

fn explain(
    view: &View<'_>,
    workload: Object<'_>,
    reason: &str,
    message: &str,
    queue: &str,
) -> (String, String) {
    let says = |parts: &[&str]| has_any(message, parts) || has_any(reason, parts);
    let local = view.find("LocalQueue", workload.namespace(), queue);
    if local.is_none() && says(&["doesn't exist", "does not exist"]) {
        return (
            format!("there is no LocalQueue `{queue}` in its namespace"),
            "make the LocalQueue, or correct the label `kueue.x-k8s.io/queue-name`".into(),
        );
    }
    if says(&["inactive", "stopped"]) {
        return (
            "its queue is stopped or inactive".into(),
            "see the conditions of its ClusterQueue: a flavour or check that is missing, or `stopPolicy`".into(),
        );
    }
    if says(&["exceedsmaxquota", "insufficient quota", "exceed"])
        && says(&["exceedsmaxquota", "maximum capacity", "request > "])
    {
        return (
            "it asks for more than the queue may ever get".into(),
            "ask for less, or raise nominal quota or borrowing limit of the ClusterQueue".into(),
        );
    }
    if says(&["nomatchingflavor", "untolerated taint", "doesn't match node affinity", "flavor"])
        && !says(&["insufficient unused", "waitingforquota"])
    {
        return (
            "no flavour of its queue fits it".into(),
            "add the flavour's tolerations or node selector, or a flavour that covers the resource"
                .into(),
        );
    }
    if says(&["topology"]) {
        return (
            "no part of the topology has enough room".into(),
            "ask for a wider topology level, or wait until nodes of one block are free".into(),
        );
    }
    (
        "others use the quota".into(),
        "wait, raise its priority, or raise the quota of its ClusterQueue".into(),
    )
}
