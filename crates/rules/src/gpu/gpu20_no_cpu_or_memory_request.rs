use crate::context::Context;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::trn::job;

rule! {
    /// GPU container without a CPU or memory request
    ///
    /// ## What it does
    /// Looks for containers that ask for a GPU and for no CPU or no memory, where no LimitRange of the
    /// bundle gives a default. Silent for pods that only try whether a GPU works, and where a compute
    /// class of GKE sizes the node for the pod.
    ///
    /// ## Why it matters
    /// The scheduler places the pod as if it needed nothing. Without a memory request it is the first
    /// to be evicted when the node runs short, without CPU it is starved by its neighbours while the
    /// GPU waits.
    ///
    /// ## How to fix it
    /// Request the memory that loading takes (about the size of the weights) and at least two CPUs for
    /// each GPU.
    GPU20, Warning,
    evidence: "kubernetes/website, docs/concepts/scheduling-eviction/node-pressure-eviction: pods above their requests are evicted first",
    check: Check::Container(check),
    examples: [
        Example::bad("a GPU and nothing else", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits: {nvidia.com/gpu: 1}
", &[8]),
        Example::good("all three", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        requests: {cpu: 4, memory: 16Gi}
        limits: {nvidia.com/gpu: 1}
"),
        Example::good("limits count as requests", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits: {cpu: 4, memory: 16Gi, nvidia.com/gpu: 1}
"),
        Example::good("a test of the driver", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: nvidia/cuda:12.4.1-base-ubuntu22.04
      command: [nvidia-smi]
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("a node made for the pod", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector: {cloud.google.com/compute-class: Accelerator}
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 8}}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if !pod.complete || container.init || container.gpus() == 0 || job::is_short_test(pod) {
        return;
    }
    if pod.node_requirements().iter().any(|label| label.key == "cloud.google.com/compute-class") {
        return;
    }
    let of_pod = pod.spec.get("resources");
    let missing: Vec<&str> = ["cpu", "memory"]
        .into_iter()
        .filter(|resource| {
            let own = ["requests", "limits"].iter().any(|list| {
                container.resources().get(list).get(resource).is_set()
                    || of_pod.get(list).get(resource).is_set()
            });
            !own && !has_default(context, pod, resource)
        })
        .collect();
    if missing.is_empty() {
        return;
    }
    let consequence = if missing.contains(&"memory") {
        "it is evicted first when its node runs short of memory"
    } else {
        "its neighbours starve it of CPU while the GPU waits"
    };
    report
        .at(
            container.resources(),
            format!(
                "{consequence}: container `{}` requests a GPU and no {}",
                container.name,
                missing.join(" or ")
            ),
        )
        .fix(format!("add requests for {}", missing.join(" and ")));
}

fn has_default(context: &Context<'_>, pod: &Pod<'_>, resource: &str) -> bool {
    context.bundle.in_namespace("LimitRange", pod.object.namespace, pod.spec).any(|range| {
        range.spec().get("limits").items().any(|item| {
            item.get("defaultRequest").get(resource).is_set()
                || item.get("default").get(resource).is_set()
        })
    })
}
