use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// The node's driver has a known fault with MIG beside whole GPUs
    ///
    /// ## Signature
    /// A pod that asks for a GPU or a MIG device is unschedulable; a node that is set up for both has a
    /// driver from 570.124 to 570.158, and lacks what the pod asks for.
    ///
    /// ## Cause
    /// These drivers do not list whole GPUs and MIG devices of one node together.
    ///
    /// ## How to mend it
    /// Use the driver 570.86.15, or one after the fault; or partition all GPUs of the node.
    D56, Error,
    needs: [Pods, Nodes],
    rules: ["GPU16"],
    source: "NVIDIA/gpu-operator, known issues",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        let Some((resource, _)) = pending.pod.gpus().into_iter().next() else { continue };
        let is_nvidia = resource == "nvidia.com/gpu" || resource.starts_with("nvidia.com/mig-");
        if !is_nvidia {
            continue;
        }
        let node = view.nodes().iter().find(|node| {
            let mixed = node.object.label("nvidia.com/mig.strategy") == Some("mixed")
                && node.object.label("nvidia.com/mig.capable") == Some("true");
            let partitions = node.capacity.keys().any(|name| name.starts_with("nvidia.com/mig-"))
                || node.object.labels().any(|(key, _)| key.starts_with("nvidia.com/mig-"));
            let lacks = node.allocatable.get(resource.as_str()).is_none_or(|count| count.is_zero());
            mixed && partitions && lacks && node.driver_version().is_some_and(|it| is_faulty(&it))
        });
        let Some(node) = node else { continue };
        let version = node.driver_version().unwrap_or_default();
        let object = pending.pod.object;
        let finding = report.at(
            object.reference(),
            format!(
                "waits for `{resource}`, which the driver {version} of node `{}` does not list beside its MIG devices",
                node.name()
            ),
        );
        finding.sure(Confidence::Likely);
        finding.unscheduled(object);
        finding.value(node.object, "metadata.labels (driver version)", version);
        finding.value(node.object, "metadata.labels.nvidia.com/mig.strategy", "mixed");
        finding.field(node.object, "/status/allocatable");
        finding.advise("use the driver 570.86.15, or one after 570.158; or partition all GPUs of the node alike");
    }
}

/// 570.124 to 570.158.
fn is_faulty(version: &str) -> bool {
    let mut parts = version.split('.');
    let major = parts.next();
    let minor = parts.next().and_then(|it| it.parse::<u32>().ok());
    major == Some("570") && minor.is_some_and(|minor| (124..=158).contains(&minor))
}

#[test]
fn versions() {
    assert!(is_faulty("570.124.06") && is_faulty("570.158.01"));
    assert!(
        !is_faulty("570.86.15")
            && !is_faulty("570.172.08")
            && !is_faulty("580.95.05")
            && !is_faulty("570")
    );
}
