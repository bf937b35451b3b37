use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::View;

use super::xids;

diagnosis! {
    /// A memory error hit a program, or everything on the GPU
    ///
    /// ## Signature
    /// Xid 94 (contained) or 95 (uncontained).
    ///
    /// ## Cause
    /// An ECC error that could not be corrected. Contained: only the program that used that memory was
    /// ended. Uncontained: nothing on the GPU can be trusted.
    ///
    /// ## How to mend it
    /// 94: restart the pod. 95: reset the GPU before anything uses it again.
    D51, Error,
    needs: [Nodes, Events, Metrics, Probes],
    source: "NVIDIA, GPU memory error management; the sources of `data/xid-actions.json`",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for seen in xids::of(view, "D51") {
        let (node, is_uncontained) = (seen.node.clone(), seen.xid.code == 95);
        let finding = xids::tell(report, seen);
        if is_uncontained {
            finding.run(format!("kubectl cordon {node}"));
        } else {
            finding.advise("no other program was hit; look for D50 on the same GPU");
        }
    }
}
