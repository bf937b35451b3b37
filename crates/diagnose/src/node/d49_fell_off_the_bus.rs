use crate::answer::{Evidence, ObjectRef};
use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::{View, list, number};

use super::xids;

diagnosis! {
    /// A GPU has fallen off the bus
    ///
    /// ## Signature
    /// Xid 79: the kernel cannot reach the GPU over PCIe any more; or the node's probe says that a GPU is
    /// lost.
    ///
    /// ## Cause
    /// Power, heat, the slot or riser, or the GPU itself.
    ///
    /// ## How to mend it
    /// Drain the node and power-cycle it; a reset does not bring the GPU back. If it comes again, have it replaced.
    D49, Error,
    needs: [Nodes, Events, Metrics, Probes],
    source: "NVIDIA, Xid catalogue; the sources of `data/xid-actions.json`",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let mut told = std::collections::BTreeSet::new();
    for seen in xids::of(view, "D49") {
        let node = seen.node.clone();
        told.insert(node.clone());
        let finding = xids::tell(report, seen);
        finding.run(format!("kubectl drain {node} --ignore-daemonsets --delete-emptydir-data"));
    }
    for probe in view.probes().iter().filter(|probe| !told.contains(&probe.node)) {
        let lost =
            list(&probe.result, "/gpus").iter().find(|gpu| gpu.get("lost") == Some(&true.into()));
        let Some(index) = lost.map(|gpu| number(gpu, "/index").unwrap_or(0)) else { continue };
        let finding = report.at(
            ObjectRef::new("Node", "", &probe.node),
            format!("GPU {index} has fallen off the bus"),
        );
        finding.evidence(Evidence::Probe {
            node: probe.node.clone(),
            path: format!("gpus[{index}].lost"),
            value: true.into(),
        });
        finding.advise("power-cycle the node; if it comes back, have the GPU replaced");
        finding.run(format!(
            "kubectl drain {} --ignore-daemonsets --delete-emptydir-data",
            probe.node
        ));
    }
}
