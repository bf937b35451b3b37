use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::View;

use super::xids;

diagnosis! {
    /// The GPU's firmware or driver has stopped answering
    ///
    /// ## Signature
    /// Xid 119 or 120 (GSP), or another code after which the GPU must be reset or replaced (46, 62, 109, 110, 142, 143, 151, 155, 156, 158).
    ///
    /// ## Cause
    /// A fault in the GPU's system processor or in the driver.
    ///
    /// ## How to mend it
    /// Reset the GPU or reboot the node; update the driver if it comes again.
    D54, Error,
    needs: [Nodes, Events, Metrics, Probes],
    source: "NVIDIA, Xid catalogue; the sources of `data/xid-actions.json`",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for seen in xids::of(view, "D54") {
        let node = seen.node.clone();
        let is_gsp = matches!(seen.xid.code, 119 | 120);
        let finding = xids::tell(report, seen);
        finding.run(format!("kubectl drain {node} --ignore-daemonsets --delete-emptydir-data"));
        if is_gsp {
            finding.advise("if it comes again: another driver, or the module's option `NVreg_EnableGpuFirmware=0` where the GPU allows it");
        }
    }
}
