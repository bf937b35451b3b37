use crate::answer::{Confidence, Evidence, ObjectRef};
use crate::diagnosis::diagnosis;
use crate::matching::{has_all, of_any};
use crate::report::Report;
use crate::view::{View, list, number};

diagnosis! {
    /// A GPU's infoROM is corrupt
    ///
    /// ## Signature
    /// A log or the kernel says `infoROM is corrupted`, or the node's probe says that its checksum is
    /// wrong.
    ///
    /// ## Cause
    /// The memory that holds the card's settings and error counts is damaged; error counts are not
    /// to be trusted.
    ///
    /// ## How to mend it
    /// Have the GPU replaced.
    D55, Warning,
    needs: [Logs, Probes, Events],
    source: "nvidia-smi's warning; NVML: nvmlDeviceValidateInforom",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let is_corrupt = |line: &str| has_all(line, &["inforom", "corrupt"]);
    let mut told: Vec<String> = Vec::new();
    for probe in view.probes() {
        for gpu in list(&probe.result, "/gpus") {
            if gpu.get("inforomValid") == Some(&false.into()) {
                let index = number(gpu, "/index").unwrap_or(0);
                let finding = report.at(
                    ObjectRef::new("Node", "", &probe.node),
                    format!("the infoROM of GPU {index} is corrupt"),
                );
                finding.evidence(Evidence::Probe {
                    node: probe.node.clone(),
                    path: format!("gpus[{index}].inforomValid"),
                    value: false.into(),
                });
                finding.advise("have the GPU replaced");
                told.push(probe.node.clone());
            }
        }
    }
    for event in view.events_about(&["Node"]).filter(|event| is_corrupt(event.message)) {
        if !told.contains(&event.about.name) {
            told.push(event.about.name.clone());
            let finding = report.at(event.about.clone(), "the infoROM of a GPU is corrupt");
            finding.event(event).advise("have the GPU replaced");
        }
    }
    for hit in of_any(view, is_corrupt) {
        let node = hit.pod.node_name();
        if node.is_empty() || told.iter().any(|it| it == node) {
            continue;
        }
        told.push(node.to_owned());
        let finding =
            report.at(ObjectRef::new("Node", "", node), "the infoROM of a GPU is corrupt");
        finding.sure(Confidence::Likely).hit(&hit).advise("have the GPU replaced");
    }
}
