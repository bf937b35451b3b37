use crate::diagnosis::diagnosis;
use crate::matching::has_any;
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// The cluster autoscaler adds no node for the pod
    ///
    /// ## Signature
    /// The pod is unschedulable for want of room, and has an event `NotTriggerScaleUp`, or Karpenter's
    /// `FailedScheduling` of the reporter `karpenter`.
    ///
    /// ## Cause
    /// No group of nodes fits: all are at their maximum size, none has such a GPU, labels or taints of
    /// the group differ, or the pod's priority is below the autoscaler's cutoff (-10).
    ///
    /// ## How to mend it
    /// By the reason that the event gives for each group.
    D12, Error,
    needs: [Pods, Events],
    rules: ["SCL15", "SCL06"],
    yields_to: ["D03", "D04", "D05", "D09", "D14"],
    source: "kubernetes/autoscaler, cluster-autoscaler FAQ: NotTriggerScaleUp; --expendable-pods-priority-cutoff",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        let object = pending.pod.object;
        let event = view.events_of(object).iter().find(|event| {
            event.reason == "NotTriggerScaleUp"
                || event.reason == "FailedScheduling"
                    && has_any(event.message, &["nodepool", "provisioner"])
        });
        let Some(event) = event else { continue };
        let priority = object.number("/spec/priority").unwrap_or(0);
        let (why, fix) = if priority < -10 {
            (
                format!("its priority {priority} is below -10"),
                "give it a PriorityClass of at least -10",
            )
        } else if has_any(
            event.message,
            &[
                "max node group size reached",
                "max cluster",
                "limits exceeded",
                "exceed limit",
                "all available instance types exceed limits",
            ],
        ) {
            (
                "every group that fits is at its maximum size".to_owned(),
                "raise the group's maximum size",
            )
        } else if has_any(event.message, &["in backoff", "backoff after failed scale-up"]) {
            (
                "a group failed to add a node a moment ago".to_owned(),
                "look at the cloud's capacity or quota for that machine type",
            )
        } else if has_any(event.message, &["insufficient", "no instance type"]) {
            (
                "no group has machines that are large enough".to_owned(),
                "add a group whose machines have what the pod asks for",
            )
        } else {
            (
                "no group of nodes fits it".to_owned(),
                "add a group of nodes with what the event names",
            )
        };
        let finding = report.at(object.reference(), format!("the autoscaler adds no node: {why}"));
        finding.unscheduled(object);
        finding.event(event);
        if priority != 0 {
            finding.field(object, "/spec/priority");
        }
        finding.advise(fix);
    }
}
