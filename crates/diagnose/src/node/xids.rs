//! Xid errors of nodes, from whoever saw them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::answer::{Confidence, Evidence, ObjectRef};
use crate::report::{Report, shorten};
use crate::view::{View, list, text};
use crate::xid::{self, Xid};

/// One code on one node.
pub(super) struct Seen {
    pub(super) node: String,
    pub(super) xid: &'static Xid,
    /// The GPU's address or number, if it was said.
    pub(super) gpu: Option<String>,
    pub(super) evidence: Vec<Evidence>,
}

/// Codes that a diagnosis tells, one entry for each node and code.
pub(super) fn of(view: &View<'_>, diagnosis: &str) -> Vec<Seen> {
    let mut seen: BTreeMap<(String, u32), Seen> = BTreeMap::new();
    let mut add = |node: &str, code: u32, gpu: Option<String>, evidence: Evidence| {
        let Some(xid) = xid::find(code).filter(|xid| xid.diagnosis == diagnosis) else { return };
        let entry = seen.entry((node.to_owned(), code)).or_insert_with(|| Seen {
            node: node.to_owned(),
            xid,
            gpu: None,
            evidence: Vec::new(),
        });
        entry.gpu = entry.gpu.take().or(gpu);
        entry.evidence.push(evidence);
    };
    for probe in view.probes() {
        for (at, xid) in list(&probe.result, "/xids").iter().enumerate() {
            let Some(code) =
                xid.get("code").and_then(Value::as_u64).and_then(|it| u32::try_from(it).ok())
            else {
                continue;
            };
            let address = Some(text(xid, "/pciBusId").to_owned()).filter(|it| !it.is_empty());
            let line = text(xid, "/line");
            add(
                &probe.node,
                code,
                address,
                Evidence::Probe {
                    node: probe.node.clone(),
                    path: format!("xids[{at}]"),
                    value: shorten(line).into(),
                },
            );
        }
    }
    for event in view.events_about(&["Node"]) {
        if let Some((code, address)) =
            xid::parse(event.message).or_else(|| xid::parse(event.reason))
        {
            add(
                &event.about.name,
                code,
                address,
                Evidence::Event {
                    object: event.about.clone(),
                    reason: event.reason.to_owned(),
                    message: shorten(event.message),
                    count: event.count,
                },
            );
        }
    }
    for node in view.nodes() {
        for condition in node.object.list("/status/conditions") {
            let is_bad = text(condition, "/type").to_ascii_lowercase().contains("xid")
                && text(condition, "/status") == "True";
            let found = xid::parse(text(condition, "/message")).filter(|_| is_bad);
            if let Some((code, address)) = found {
                add(
                    node.name(),
                    code,
                    address,
                    Evidence::Field {
                        object: node.object.reference(),
                        path: format!("status.conditions.{}.message", text(condition, "/type")),
                        value: shorten(text(condition, "/message")).into(),
                    },
                );
            }
        }
    }
    for sample in view.samples("DCGM_FI_DEV_XID_ERRORS").filter(|it| it.value >= 1.0) {
        let code = if sample.value.is_finite() { sample.value as u32 } else { 0 };
        if let Some(node) = crate::slow::node_of(sample) {
            add(
                node,
                code,
                Some(crate::slow::gpu_of(sample)),
                Evidence::Metric {
                    name: sample.name.clone(),
                    labels: sample.labels.clone(),
                    value: sample.value,
                },
            );
        }
    }
    // Device plugins print the codes that they take a GPU away for.
    for pod in view.pods().iter().filter(|pod| super::operand(pod) == Some("plugin")) {
        for tail in view.logs_of(pod) {
            for line in tail.lines.iter().filter(|line| line.contains("Xid")) {
                let Some((code, _)) = xid::parse(line) else { continue };
                add(
                    pod.node_name(),
                    code,
                    None,
                    Evidence::Log {
                        namespace: tail.namespace.clone(),
                        pod: tail.pod.clone(),
                        container: tail.container.clone(),
                        previous: tail.previous,
                        line: shorten(line),
                    },
                );
            }
        }
    }
    seen.into_values().collect()
}

/// Tells each code: what it means, what to do by the table.
pub(super) fn tell(report: &mut Report, seen: Seen) -> &mut crate::Finding {
    let Seen { node, xid, gpu, evidence } = seen;
    let gpu = gpu.map_or_else(
        || "a GPU".to_owned(),
        |it| {
            if it.starts_with("GPU") { it } else { format!("the GPU at {it}") }
        },
    );
    let finding = report.at(
        ObjectRef::new("Node", "", &node),
        format!("{gpu} reported Xid {}: {}", xid.code, xid.meaning),
    );
    finding.sure(Confidence::Certain);
    finding.evidence.extend(evidence);
    finding.because(format!(
        "of Xid {}, table of {}: {}",
        xid.code,
        xid::table().version,
        xid.sources()
    ));
    finding.advise(xid.action());
    finding
}
