use crate::context::Context;
use crate::model::{Container, Object, Purpose};
use crate::quantity::Quantity;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Default CPU limit throttles GPU pods
    ///
    /// ## What it does
    /// Looks at LimitRanges with a default CPU limit, and at GPU containers of the same namespace
    /// that set none: whether the default is below what they request, or below four cores for each
    /// GPU.
    ///
    /// ## Why it matters
    /// The default becomes the container's limit. Loading data, tokenising and launching kernels
    /// is throttled, and the GPU waits; a request above the limit is refused.
    ///
    /// ## How to fix it
    /// Set a CPU limit on the containers, or leave CPU out of the LimitRange's `default`.
    CST05, Warning,
    evidence: "kubernetes/website, concepts/policy/limit-range: a default limit is applied to containers without one; four cores a GPU are judgement (cloud shapes have 8 to 12)",
    check: Check::Bundle(check),
    examples: [
        Example::bad("half a core for a GPU", "\
apiVersion: v1
kind: LimitRange
metadata: {name: a, namespace: ml}
spec:
  limits:
    - type: Container
      default:
        cpu: 500m
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: ml}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
", &[8]),
        Example::good("the container says how much", "\
apiVersion: v1
kind: LimitRange
metadata: {name: a, namespace: ml}
spec:
  limits:
    - type: Container
      default:
        cpu: 500m
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: ml}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1, cpu: 8}}}]}
"),
        Example::good("only memory has a default", "\
apiVersion: v1
kind: LimitRange
metadata: {name: a, namespace: ml}
spec:
  limits:
    - type: Container
      default:
        memory: 1Gi
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: ml}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
    ],
}

/// Cores for each GPU below which the CPU is what one waits for.
const CORES_PER_GPU: i64 = 4;

fn check(context: &Context<'_>, report: &mut Report) {
    let ranges: Vec<&Object<'_>> = context.bundle.of_kind("LimitRange").take(4096).collect();
    if ranges.is_empty() {
        return;
    }
    // Only containers that a default can touch, which are few.
    let hungry: Vec<_> = context
        .bundle
        .pods
        .iter()
        .filter(|pod| pod.complete && pod.purpose != Purpose::System)
        .flat_map(|pod| pod.main_containers().map(move |container| (pod, container)))
        .filter(|(_, container)| container.gpus() > 0 && !has_limit(container))
        .collect();
    let mut by_namespace: std::collections::BTreeMap<&str, Vec<_>> =
        std::collections::BTreeMap::new();
    for found in hungry {
        by_namespace.entry(found.0.object.namespace).or_default().push(found);
    }
    for range in ranges {
        let default = range
            .spec()
            .get("limits")
            .items()
            .filter(|item| item.get("type").is("Container"))
            .map(|item| item.get("default").get("cpu"))
            .find(|cpu| cpu.is_set());
        let Some((node, limit)) = default.and_then(|node| Some((node, node.quantity()?))) else {
            continue;
        };
        let near = by_namespace.get(range.namespace).into_iter().flatten();
        let hit = near
            .filter(|(pod, _)| context.bundle.distance(pod.spec, range.root) <= 1)
            .find_map(|(pod, container)| {
                let request = container.resources().get("requests").get("cpu").quantity();
                let refused = request.is_some_and(|request| request > limit);
                let enough = Quantity::whole(container.gpus().saturating_mul(CORES_PER_GPU));
                (refused || limit < enough).then_some((pod, container, refused))
            });
        let Some((pod, container, refused)) = hit else { continue };
        let what = if refused {
            "is refused, since it requests more"
        } else {
            "is throttled while its GPU waits"
        };
        report
            .at(
                node,
                format!(
                    "container `{}` of {} has no CPU limit of its own, gets this one of {limit}, and {what}",
                    container.name,
                    pod.describe()
                ),
            )
            .fix("set a CPU limit on GPU containers, or leave `cpu` out of `default`");
    }
}

fn has_limit(container: &Container<'_>) -> bool {
    container.resources().get("limits").get("cpu").is_set()
}
