use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::View;

use super::xids;

diagnosis! {
    /// A GPU has fallen off the bus
    ///
    /// ## Signature
    /// Xid 79: the kernel cannot reach the GPU over PCIe any more.
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
    for seen in xids::of(view, "D49") {
        let node = seen.node.clone();
        let finding = xids::tell(report, seen);
        finding.run(format!("kubectl drain {node} --ignore-daemonsets --delete-emptydir-data"));
    }
}
