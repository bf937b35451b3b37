use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::{has_all, of_failed};
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// The process crashed within NCCL
    ///
    /// ## Signature
    /// A container ended with exit code 139 (a segmentation fault) and its log names NCCL last, or the
    /// node's kernel log says `segfault … in libnccl.so`.
    ///
    /// ## Cause
    /// A fault in NCCL, a network plugin or the driver, or two versions of NCCL in one image.
    ///
    /// ## How to mend it
    /// Pin another NCCL (`nvidia-nccl-cu12`), take a network plugin out, and compare with a node that
    /// works.
    D33, Error,
    needs: [Pods, Logs, Probes],
    source: "aws/eks-node-monitoring-agent and leptonai/gpud: libnccl segfault in dmesg",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let is_segfault = |line: &str| {
        has_all(line, &["segfault", "libnccl"])
            || has_all(line, &["segmentation fault", "nccl"])
            || has_all(line, &["signal 11", "nccl"])
            || has_all(line, &["sigsegv", "nccl"])
            || has_all(line, &["libnccl.so", "+0x"])
    };
    for hit in of_failed(view, is_segfault) {
        if !matches!(hit.container.exit_code(), Some(139 | -11 | 134 | 1)) {
            continue;
        }
        let finding = report.at(
            hit.pod.object.reference(),
            format!("container `{}` crashed within NCCL", hit.container.name()),
        );
        finding.sure(Confidence::Likely);
        finding.ended(&hit.pod, &hit.container).hit(&hit);
        finding.advise(
            "pin the NCCL that the framework was tested with, and see that the image has only one",
        );
        finding.advise("run once with `NCCL_DEBUG=INFO` and `NCCL_NET_PLUGIN=none` to leave the network plugin out");
    }
    for probe in view.probes() {
        for line in crate::view::list(&probe.result, "/kernel/lines") {
            let Some(line) = line.as_str().filter(|line| has_all(line, &["segfault", "libnccl"]))
            else {
                continue;
            };
            let finding = report.at(
                crate::answer::ObjectRef::new("Node", "", &probe.node),
                "a process on it crashed within NCCL",
            );
            finding.sure(Confidence::Likely);
            finding.evidence(crate::answer::Evidence::Probe {
                node: probe.node.clone(),
                path: "kernel.lines".to_owned(),
                value: line.into(),
            });
            finding.advise("pin the NCCL that the framework was tested with");
            break;
        }
    }
}
