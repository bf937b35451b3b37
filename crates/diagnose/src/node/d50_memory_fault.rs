use crate::answer::{Confidence, Evidence, ObjectRef};
use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::slow::{gpu_of, node_of};
use crate::view::{View, list, number};

use super::xids;

diagnosis! {
    /// A GPU's memory has a fault
    ///
    /// ## Signature
    /// Xid 48, 63, 64 or 140, or a row of memory that waits to be remapped or could not be.
    ///
    /// ## Cause
    /// A cell of memory failed. A spare row takes its place after the next reset; 64 says that there
    /// was none left.
    ///
    /// ## How to mend it
    /// 63: reset the GPU when it is idle. 64, a remapping that failed, or the same again: have the GPU
    /// replaced.
    D50, Error,
    needs: [Nodes, Events, Metrics, Probes],
    source: "NVIDIA, GPU memory error management; the sources of `data/xid-actions.json`",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let mut told = std::collections::BTreeSet::new();
    for seen in xids::of(view, "D50") {
        told.insert(seen.node.clone());
        let is_worn = seen.xid.code == 64;
        let finding = xids::tell(report, seen);
        if is_worn {
            finding.advise("have the GPU replaced: it has no spare rows left");
        }
    }
    for probe in view.probes() {
        for gpu in list(&probe.result, "/gpus") {
            let is = |at: &str| gpu.pointer(at) == Some(&true.into());
            let index = number(gpu, "/index").unwrap_or(0);
            let evidence = |field: &str| Evidence::Probe {
                node: probe.node.clone(),
                path: format!("gpus[{index}].remappedRows.{field}"),
                value: true.into(),
            };
            if is("/remappedRows/failed") {
                remap(report, &probe.node, &format!("GPU {index}"), true, evidence("failed"));
            } else if is("/remappedRows/pending") && !told.contains(&probe.node) {
                remap(report, &probe.node, &format!("GPU {index}"), false, evidence("pending"));
            }
        }
    }
    for sample in view.samples("DCGM_FI_DEV_ROW_REMAP_FAILURE").filter(|it| it.value >= 1.0) {
        if let Some(node) = node_of(sample) {
            remap(report, node, &gpu_of(sample), true, crate::slow::metric(sample));
        }
    }
    for sample in view.samples("DCGM_FI_DEV_ROW_REMAP_PENDING").filter(|it| it.value >= 1.0) {
        if let Some(node) = node_of(sample).filter(|node| !told.contains(*node)) {
            remap(report, node, &gpu_of(sample), false, crate::slow::metric(sample));
        }
    }
}

fn remap(report: &mut Report, node: &str, gpu: &str, failed: bool, evidence: Evidence) {
    let message = if failed {
        format!("{gpu} could not remap a faulty row of its memory")
    } else {
        format!("{gpu} has a faulty row of memory, which the next reset remaps")
    };
    let finding = report.at(ObjectRef::new("Node", "", node), message);
    finding.sure(Confidence::Certain).evidence(evidence);
    if failed {
        finding.run(format!("kubectl drain {node} --ignore-daemonsets --delete-emptydir-data"));
        finding.advise("have the GPU replaced");
    } else {
        finding.advise(
            "reset the GPU when it is idle (`nvidia-smi --gpu-reset -i INDEX`), or reboot the node",
        );
    }
}
