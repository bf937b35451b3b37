use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::has_any;
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// The kubelet refused the pod: it could not allocate its devices
    ///
    /// ## Signature
    /// The pod failed with the reason `UnexpectedAdmissionError`, and the message says that an
    /// allocation failed or that too few devices are available.
    ///
    /// ## Cause
    /// Kubelet or device plugin had just restarted and counted devices anew, or two pods were given the
    /// last device. The pod does not come back: only its controller makes another.
    ///
    /// ## How to mend it
    /// Delete the pod. If it happens again and again, restart the device plugin's pod of that node
    /// after the kubelet.
    D16, Error,
    needs: [Pods],
    source: "NVIDIA/gpu-operator#481, #596; kubernetes/kubernetes, device manager",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods() {
        let message = pod.object.text("/status/message");
        let refused = pod.object.text("/status/reason") == "UnexpectedAdmissionError"
            && has_any(message, &["allocate failed", "unavailable", "allocation"])
            && !super::d17_too_many_shares::is_too_large(message);
        if !refused {
            continue;
        }
        let object = pod.object.reference();
        let node = pod.node_name();
        let finding = report.at(
            object.clone(),
            format!("the kubelet of `{node}` could not allocate its devices; the pod will not start again"),
        );
        finding.sure(Confidence::Likely);
        finding.field(pod.object, "/status/reason");
        finding.field(pod.object, "/status/message");
        for (resource, _) in pod.gpus() {
            if let Some(node) = view.node(node) {
                finding.field(
                    node.object,
                    &format!("/status/allocatable/{}", resource.replace('/', "~1")),
                );
            }
        }
        finding.run(format!("kubectl -n {} delete pod {}", object.namespace, object.name));
        finding.advise(format!(
            "if it goes on: restart the device plugin's pod on `{node}`, after the kubelet"
        ));
    }
}
