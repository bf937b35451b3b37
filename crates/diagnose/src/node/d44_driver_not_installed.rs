use crate::answer::{Confidence, Evidence, ObjectRef};
use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any};
use crate::report::Report;
use crate::snapshot::NodeProbe;
use crate::view::{Pod, View, list, text};

use super::operands::operand;

diagnosis! {
    /// The driver cannot be installed or loaded on a node
    ///
    /// ## Signature
    /// The driver's pod of the GPU operator restarts or fails on a node; or another pod of the operator
    /// waits in an init container there while the driver's pod is not ready; or the node's probe finds
    /// GPUs on the bus, and NVML missing or failing.
    ///
    /// ## Cause
    /// By its log or the probe: the nouveau driver is loaded, no headers for the running kernel, secure boot refuses
    /// an unsigned module, an old module is in use, or no such driver image for the system.
    ///
    /// ## How to mend it
    /// By the cause.
    D44, Error,
    needs: [Pods, Logs, Probes],
    source: "NVIDIA/gpu-operator, troubleshooting",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for probe in view.probes() {
        by_probe(probe, report);
    }
    for pod in
        view.pods().iter().filter(|pod| operand(pod) == Some("driver") && !pod.object.is_ending())
    {
        if pod.is_ready() || !is_broken(pod) {
            continue;
        }
        let lines = view
            .logs_of(pod)
            .iter()
            .flat_map(|tail| tail.lines.iter().map(move |line| (*tail, line)));
        let cause = lines.rev().find_map(|(tail, line)| Some((tail, line, cause(line)?)));
        let node = pod.node_name();
        let object = pod.object.reference();
        let why = cause.as_ref().map_or("its pod fails", |(_, _, (why, _))| *why);
        let finding = report.at(
            view.node(node).map_or_else(|| object.clone(), |it| it.object.reference()),
            format!("the driver is not there: {why}"),
        );
        finding.also([object.clone()]);
        if cause.is_none() {
            finding.sure(Confidence::Likely);
        }
        for container in pod.containers().iter().filter(|it| it.has_failed()) {
            finding.ended(pod, container);
        }
        finding.field(pod.object, "/status/phase");
        let waits = view.pods_on(node).iter().filter(|it| {
            operand(it).is_some()
                && it.object.name() != pod.object.name()
                && it.phase() == "Pending"
        });
        for other in waits.take(2) {
            finding.field(other.object, "/status/phase");
        }
        match cause {
            Some((tail, line, (_, fix))) => finding.log(tail, line).advise(fix),
            None => finding.run(format!(
                "kubectl -n {} logs {} --all-containers --tail 100",
                object.namespace, object.name
            )),
        };
    }
}

/// NVML does not work on a node that has GPUs.
fn by_probe(probe: &NodeProbe, report: &mut Report) {
    let result = &probe.result;
    let (status, message) = (text(result, "/nvml/status"), text(result, "/nvml/message"));
    let gpus = list(result, "/files/pciGpus").len();
    let has_module = |name: &str| list(result, "/files/modules").iter().any(|it| it == name);
    if gpus == 0 || !matches!(status, "missing" | "error") {
        return;
    }
    let (why, fix) = if has_module("nouveau") {
        (NOUVEAU, "blacklist nouveau on the node (`modprobe.blacklist=nouveau`) and reboot it")
    } else if has_any(message, &["version mismatch"]) {
        (
            "the driver in the kernel is not the one on the disk",
            "reboot the node: its driver was updated",
        )
    } else if status == "missing" {
        ("NVML's library is not there", "install the driver")
    } else if has_module("nvidia") {
        ("NVML fails", "reboot the node; look for Xid errors in its kernel log")
    } else {
        (
            "its kernel module is not loaded",
            "load it (`modprobe nvidia`), or install the driver for the running kernel",
        )
    };
    let finding = report
        .at(ObjectRef::new("Node", "", &probe.node), format!("the driver is not there: {why}"));
    for path in ["nvml", "files.modules", "files.moduleVersion", "files.pciGpus"] {
        if let Some(value) =
            result.pointer(&format!("/{}", path.replace('.', "/"))).filter(|it| !it.is_null())
        {
            finding.evidence(Evidence::Probe {
                node: probe.node.clone(),
                path: path.to_owned(),
                value: value.clone(),
            });
        }
    }
    finding.advise(fix);
}

const NOUVEAU: &str = "the nouveau driver has the GPU";

fn is_broken(pod: &Pod<'_>) -> bool {
    pod.phase() == "Failed"
        || pod.containers().iter().any(|it| {
            it.has_failed()
                || it.restarts() > 0 && it.status.pointer("/ready") != Some(&true.into())
        })
}

fn cause(line: &str) -> Option<(&'static str, &'static str)> {
    Some(if has_any(line, &["nouveau"]) {
        (NOUVEAU, "blacklist nouveau on the node (`modprobe.blacklist=nouveau`) and reboot it")
    } else if has_any(
        line,
        &["required key not available", "key was rejected by service", "secure boot"],
    ) {
        (
            "secure boot refuses the module",
            "enrol the key that signs the module, use a signed driver, or turn secure boot off",
        )
    } else if has_any(
        line,
        &[
            "kernel-headers",
            "linux-headers",
            "kernel-devel",
            "could not resolve linux kernel version",
            "unable to find the kernel source",
            "kernel headers",
        ],
    ) {
        (
            "there are no headers of the running kernel",
            "install them (`linux-headers-$(uname -r)`), use a precompiled driver, or go back to a kernel that has them",
        )
    } else if has_all(line, &["module nvidia", "in use"])
        || has_any(line, &["could not unload nvidia driver kernel modules"])
    {
        ("an old module is in use", "drain the node's GPU pods, or reboot it")
    } else if has_all(line, &["manifest", "not found"])
        || has_any(line, &["unsupported os", "no such image"])
    {
        (
            "there is no driver image for the node's system",
            "choose a driver version that has an image for the system",
        )
    } else {
        return None;
    })
}
