use crate::answer::{Evidence, ObjectRef};
use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::{View, list, number};

use super::xids;

diagnosis! {
    /// A link between GPUs is broken
    ///
    /// ## Signature
    /// Xid 74, 136 or 144 to 150, or the node's probe says that an NVLink is down while others of the GPU
    /// are up.
    ///
    /// ## Cause
    /// A bridge, cable, board or NVSwitch, or the GPU at the other end.
    ///
    /// ## How to mend it
    /// Reset the GPUs of the node; if it comes again, have the link reseated or replaced.
    D53, Error,
    needs: [Nodes, Events, Metrics, Probes],
    source: "NVIDIA, Xid catalogue; NVML: nvmlDeviceGetNvLinkState; the sources of `data/xid-actions.json`",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let mut told = std::collections::BTreeSet::new();
    for seen in xids::of(view, "D53") {
        told.insert(seen.node.clone());
        xids::tell(report, seen);
    }
    for probe in view.probes().iter().filter(|probe| !told.contains(&probe.node)) {
        for gpu in list(&probe.result, "/gpus") {
            let links = list(gpu, "/nvlinks");
            let is_up = |link: &&serde_json::Value| link.get("active") == Some(&true.into());
            let down: Vec<i64> =
                links.iter().filter(|it| !is_up(it)).filter_map(|it| number(it, "/link")).collect();
            if down.is_empty() || !links.iter().any(|it| is_up(&it)) {
                // A card without a bridge has all of its links down.
                continue;
            }
            let index = number(gpu, "/index").unwrap_or(0);
            let listed: Vec<String> = down.iter().map(i64::to_string).collect();
            let finding = report.at(
                ObjectRef::new("Node", "", &probe.node),
                format!("GPU {index} has {} of {} NVLinks down", down.len(), links.len()),
            );
            finding.evidence(Evidence::Probe {
                node: probe.node.clone(),
                path: format!("gpus[{index}].nvlinks"),
                value: format!("down: {}", listed.join(", ")).into(),
            });
            finding.run(format!("kubectl cordon {}", probe.node));
            finding.advise(
                "reset the node's GPUs; if it comes again, have bridge, cable or board reseated",
            );
        }
    }
}
