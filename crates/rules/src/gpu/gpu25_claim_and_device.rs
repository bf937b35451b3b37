use crate::context::Context;
use crate::model::Pod;
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// GPU by claim and by device plugin in one pod
    ///
    /// ## What it does
    /// Looks for pods that ask for a GPU in limits and also claim one through a device class of a GPU
    /// driver.
    ///
    /// ## Why it matters
    /// Both ways hand out the same cards and know nothing of each other: the pod gets two GPUs where
    /// one was meant, or two pods get one card.
    ///
    /// ## How to fix it
    /// Keep the claim or the limit, not both.
    GPU25, Warning,
    evidence: "NVIDIA/k8s-dra-driver-gpu README: the device plugin must not manage the same GPUs; kubernetes/website, dynamic-resource-allocation",
    check: Check::Pod(check),
    examples: [
        Example::bad("both", "\
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: one}
spec:
  spec:
    devices:
      requests:
        - name: gpu
          exactly: {deviceClassName: gpu.nvidia.com}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  resourceClaims:
    - {name: gpu, resourceClaimTemplateName: one}
  containers:
    - name: main
      image: a:1
      resources:
        claims: [{name: gpu}]
        limits:
          nvidia.com/gpu: 1
", &[23]),
        Example::good("a claim for a network device", "\
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: one}
spec:
  spec:
    devices:
      requests:
        - name: nic
          exactly: {deviceClassName: mrdma.google.com}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  resourceClaims:
    - {name: nic, resourceClaimTemplateName: one}
  containers:
    - name: main
      image: a:1
      resources:
        claims: [{name: nic}]
        limits:
          nvidia.com/gpu: 1
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let Some((_, device)) = pod.gpu() else { return };
    let claimed = pod.spec.get("resourceClaims").items().find_map(|claim| {
        let (kind, name) = match claim.get("resourceClaimTemplateName").text() {
            Some(name) => ("ResourceClaimTemplate", name),
            None => ("ResourceClaim", claim.get("resourceClaimName").text()?),
        };
        let object = context.bundle.find(kind, pod.object.namespace, name, pod.spec)?;
        class_of_gpus(object.spec(), 0).map(|class| (claim, class))
    });
    let Some((claim, class)) = claimed else { return };
    report
        .at(
            device.node(),
            format!(
                "GPUs are handed out twice: `{}` comes from the device plugin, and the claim `{}` takes one of class `{class}` beside it",
                device.name,
                claim.get("name").str()
            ),
        )
        .fix("keep the claim or the limit, not both");
}

/// A device class of GPUs in a claim's spec, wherever its version puts it.
fn class_of_gpus<'b>(node: Node<'b>, depth: usize) -> Option<&'b str> {
    if depth > 8 {
        return None;
    }
    let class = node.get("deviceClassName").str();
    if class.starts_with("gpu.") || class.starts_with("mig.nvidia.com") {
        return Some(class);
    }
    node.items()
        .chain(node.entries().map(|entry| entry.value))
        .find_map(|child| class_of_gpus(child, depth + 1))
}
