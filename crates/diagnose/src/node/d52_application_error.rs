use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::View;

use super::xids;

diagnosis! {
    /// A program made the GPU fault
    ///
    /// ## Signature
    /// Xid 13, 31, 43, 45 or 68: exceptions of the program that ran.
    ///
    /// ## Cause
    /// Mostly the program: an access out of bounds, a faulty kernel, a library of another version. The same code on many nodes at once is the program; on one node again and again, with different programs, it may be the GPU.
    ///
    /// ## How to mend it
    /// Restart the pod; run it under compute-sanitizer if it comes again.
    D52, Warning,
    needs: [Nodes, Events, Metrics, Probes],
    source: "NVIDIA, Xid catalogue; the sources of `data/xid-actions.json`",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let seen = xids::of(view, "D52");
    let nodes: std::collections::BTreeSet<String> = seen.iter().map(|it| it.node.clone()).collect();
    for seen in seen {
        let finding = xids::tell(report, seen);
        finding.sure(crate::Confidence::Likely);
        if nodes.len() > 1 {
            finding.because(format!(
                "{} nodes have such errors: it is the program, not the hardware",
                nodes.len()
            ));
        }
        finding.advise("if it comes again with one program: run that under `compute-sanitizer`");
    }
}
