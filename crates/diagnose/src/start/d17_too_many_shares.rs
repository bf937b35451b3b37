use serde_json::json;

use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any};
use crate::patch;
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// The pod asks for several shares of a GPU, and the device plugin allows one
    ///
    /// ## Signature
    /// The pod failed with `UnexpectedAdmissionError`, and the message says that the request is too
    /// large: the maximum for shared resources is 1.
    ///
    /// ## Cause
    /// The plugin runs with `failRequestsGreaterThanOne`: several time slices give no more computing
    /// time, so it refuses them.
    ///
    /// ## How to mend it
    /// Ask for 1.
    D17, Error,
    needs: [Pods],
    rules: ["GPU06"],
    source: "NVIDIA/k8s-device-plugin README, failRequestsGreaterThanOne",
    check: check,
}

pub(super) fn is_too_large(message: &str) -> bool {
    has_any(message, &["too large"]) || has_all(message, &["maximum request size", "shared"])
}

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods() {
        let refused = pod.object.text("/status/reason") == "UnexpectedAdmissionError";
        if !refused || !is_too_large(pod.object.text("/status/message")) {
            continue;
        }
        let asks = pod.gpus();
        let (resource, count) = match asks.first() {
            Some((resource, count)) => (resource.as_str(), count.units()),
            None => ("nvidia.com/gpu.shared", 2),
        };
        let finding = report.at(
            pod.object.reference(),
            format!(
                "asks for {count} of `{resource}`; the device plugin gives one share to a container"
            ),
        );
        finding.field(pod.object, "/status/reason");
        finding.field(pod.object, "/status/message");
        let own = pod.containers().into_iter().find(|it| it.resource("limits", resource).is_some());
        if let Some(container) = own {
            finding.value(
                pod.object,
                &format!("spec.containers[{}].resources.limits.{resource}", container.name()),
                count,
            );
            let change = json!({"containers": [{
                "name": container.name(), "resources": {"limits": {resource: "1"}, "requests": {resource: "1"}},
            }]});
            finding.mend(patch::pod_spec(view, pod, change));
        }
    }
}
