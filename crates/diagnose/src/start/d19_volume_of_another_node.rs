use crate::diagnosis::diagnosis;
use crate::matching::{between, has_any};
use crate::report::Report;
use crate::view::{View, text};

diagnosis! {
    /// A volume for one node is still attached to another
    ///
    /// ## Signature
    /// Event `FailedAttachVolume` with `Multi-Attach error` of a pod that is not running.
    ///
    /// ## Cause
    /// The claim is ReadWriteOnce: one node at a time. Replicas or workers came to two nodes, or the
    /// node that had it is gone and not yet given up.
    ///
    /// ## How to mend it
    /// Use a ReadWriteMany (or ReadOnlyMany) claim, keep the pods on one node, or end the other pod.
    D19, Error,
    needs: [Pods, Events],
    rules: ["TRN04"],
    source: "kubernetes/kubernetes, attach-detach controller",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods().iter().filter(|pod| pod.phase() == "Pending") {
        let event = view.events_of(pod.object).iter().find(|event| {
            event.reason == "FailedAttachVolume" && has_any(event.message, &["multi-attach"])
        });
        let Some(event) = event else { continue };
        let volume = between(event.message, "volume \"", "\"").unwrap_or_default();
        let claim = crate::schedule::claims(view, pod)
            .into_iter()
            .find(|claim| claim.text("/spec/volumeName") == volume);
        let other = claim.and_then(|claim| {
            view.pods().iter().find(|other| {
                other.object.namespace() == pod.object.namespace()
                    && other.object.name() != pod.object.name()
                    && !other.has_ended()
                    && !other.node_name().is_empty()
                    && other.node_name() != pod.node_name()
                    && other
                        .object
                        .list("/spec/volumes")
                        .iter()
                        .any(|it| text(it, "/persistentVolumeClaim/claimName") == claim.name())
            })
        });
        let named = claim
            .map_or_else(|| format!("volume `{volume}`"), |it| format!("claim `{}`", it.name()));
        let holder = other.map_or_else(String::new, |it| {
            format!(", which {} uses on `{}`", it.object.reference(), it.node_name())
        });
        let finding = report.at(
            pod.object.reference(),
            format!("waits on `{}` for the {named}{holder}", pod.node_name()),
        );
        finding.event(event);
        if let Some(claim) = claim {
            finding.field(claim, "/spec/accessModes");
        }
        if let Some(other) = other {
            finding.field(other.object, "/spec/nodeName");
            finding.run(format!(
                "kubectl -n {} delete pod {}",
                other.object.namespace(),
                other.object.name()
            ));
        }
        finding.advise("use a ReadWriteMany claim, or keep the pods on one node by affinity");
    }
}
