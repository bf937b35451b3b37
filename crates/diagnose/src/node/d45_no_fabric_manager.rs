use crate::answer::{Evidence, ObjectRef};
use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any};
use crate::report::Report;
use crate::view::{View, list, number, text};

diagnosis! {
    /// The fabric manager does not run, so NVSwitch GPUs cannot start
    ///
    /// ## Signature
    /// A log says `system not yet initialized` (CUDA error 802), or the node's probe says that the
    /// fabric's state is `in progress` or `not started`.
    ///
    /// ## Cause
    /// GPUs that are joined by NVSwitches need NVIDIA's fabric manager, of the very version of the
    /// driver, before CUDA works.
    ///
    /// ## How to mend it
    /// Install or restart `nvidia-fabricmanager` of the driver's version.
    D45, Error,
    needs: [Pods, Logs, Probes],
    source: "NVIDIA/gpu-operator, validator; NVIDIA, fabric manager guide; NVML: nvmlGpuFabricState",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let mut told: Vec<&str> = Vec::new();
    for probe in view.probes() {
        let gpus = list(&probe.result, "/gpus").iter();
        let bad = gpus
            .into_iter()
            .find(|gpu| has_any(text(gpu, "/fabric/state"), &["in progress", "not started"]));
        if let Some(gpu) = bad {
            let state = text(gpu, "/fabric/state");
            told.push(&probe.node);
            let finding = report.at(
                ObjectRef::new("Node", "", &probe.node),
                format!("the NVSwitch fabric is not up: its state is `{state}`"),
            );
            finding.evidence(Evidence::Probe {
                node: probe.node.clone(),
                path: format!("gpus[{}].fabric.state", number(gpu, "/index").unwrap_or(0)),
                value: state.into(),
            });
            mend(finding, &probe.node);
        }
    }
    for pod in
        view.pods().iter().filter(|pod| !pod.object.is_ending() && pod.phase() != "Succeeded")
    {
        let node = pod.node_name();
        if told.contains(&node) || node.is_empty() {
            continue;
        }
        let line = view.logs_of(pod).iter().find_map(|tail| {
            let is = |line: &&String| {
                has_any(line, &["system not yet initialized", "cudaerrorsystemnotready"])
                    || has_all(line, &["error 802", "cuda"])
            };
            Some((*tail, tail.lines.iter().rev().find(is)?))
        });
        let Some((tail, line)) = line else { continue };
        told.push(node);
        let finding = report.at(
            ObjectRef::new("Node", "", node),
            "CUDA does not start: the fabric manager is not up",
        );
        finding.log(tail, line);
        mend(finding, node);
    }
}

fn mend(finding: &mut crate::Finding, node: &str) {
    finding.advise(format!(
        "on `{node}`: systemctl restart nvidia-fabricmanager (its version must be the driver's); with the GPU operator it is in the driver's pod"
    ));
}
