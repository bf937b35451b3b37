use crate::diagnosis::diagnosis;
use crate::matching::has_all;
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// The node's container runtime does not know `nvidia`
    ///
    /// ## Signature
    /// Event `FailedCreatePodSandBox` of a pod that is not running, with `no runtime for "nvidia" is
    /// configured`.
    ///
    /// ## Cause
    /// The container toolkit has not written its runtime into containerd's or CRI-O's configuration, or
    /// the runtime was not restarted after it.
    ///
    /// ## How to mend it
    /// Bring the toolkit's pod of that node up, or run `nvidia-ctk runtime configure` and restart the
    /// runtime.
    D15, Error,
    needs: [Pods, Events],
    rules: ["GPU23"],
    source: "NVIDIA/gpu-operator issues; containerd's message",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods().iter().filter(|pod| !pod.has_ended() && pod.phase() != "Running") {
        let event = view.events_of(pod.object).iter().find(|event| {
            event.reason == "FailedCreatePodSandBox"
                && has_all(event.message, &["no runtime for", "configured"])
        });
        let Some(event) = event else { continue };
        let node = pod.node_name();
        let class = match pod.object.text("/spec/runtimeClassName") {
            "" => "nvidia",
            name => name,
        };
        let finding = report.at(
            pod.object.reference(),
            format!("the container runtime of node `{node}` has no runtime `{class}`"),
        );
        finding.event(event);
        finding.field(pod.object, "/spec/runtimeClassName");
        finding.field(pod.object, "/spec/nodeName");
        let toolkit =
            view.pods_on(node).iter().find(|it| crate::node::operand(it) == Some("toolkit"));
        match toolkit {
            Some(toolkit) => {
                let at = toolkit.object.reference();
                finding.field(toolkit.object, "/status/phase");
                finding.run(format!(
                    "kubectl -n {} logs {} --all-containers --tail 50",
                    at.namespace, at.name
                ));
                finding.run(format!("kubectl -n {} delete pod {}", at.namespace, at.name));
            }
            None => {
                finding.because(format!("no container toolkit pod runs on `{node}`"));
                finding.advise(format!(
                    "on `{node}`: nvidia-ctk runtime configure --runtime=containerd && systemctl restart containerd"
                ));
            }
        }
    }
}
