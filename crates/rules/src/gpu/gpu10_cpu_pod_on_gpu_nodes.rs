use crate::context::Context;
use crate::model::{Manager, Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Pod without a GPU that tolerates the GPU taint
    ///
    /// ## What it does
    /// Looks for pods that tolerate the taint of GPU nodes by its key and ask for no accelerator.
    /// Silent where the pod selects GPU nodes on purpose, gets its GPU in another way (runtime class,
    /// `NVIDIA_VISIBLE_DEVICES`, host devices), belongs to the cluster, or leads pods of its object
    /// that have GPUs.
    ///
    /// ## Why it matters
    /// It takes CPU and memory of GPU nodes, so that GPU pods no longer fit beside it, and keeps the
    /// autoscaler from removing an idle GPU node.
    ///
    /// ## How to fix it
    /// Remove the toleration, or ask for the GPU that was forgotten.
    GPU10, Warning,
    evidence: "kubernetes/autoscaler, cluster-autoscaler FAQ: a node with a pod that cannot move is not scaled down; judgement",
    check: Check::Pod(check),
    examples: [
        Example::bad("a web server on GPU nodes", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  tolerations:
    - key: nvidia.com/gpu
      operator: Exists
  containers:
    - name: main
      image: a:1
      resources: {limits: {cpu: 1}}
", &[6]),
        Example::good("a GPU pod", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  tolerations:
    - key: nvidia.com/gpu
      operator: Exists
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("a job that is placed on GPU nodes on purpose", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector: {nvidia.com/gpu.present: \"true\"}
  tolerations:
    - key: nvidia.com/gpu
      operator: Exists
  containers:
    - name: main
      image: a:1
      args: [x]
"),
        Example::good("the operator's own check", "\
apiVersion: v1
kind: Pod
metadata: {generateName: nvidia-cuda-validator-}
spec:
  serviceAccountName: nvidia-operator-validator
  tolerations:
    - key: nvidia.com/gpu
      operator: Exists
  containers:
    - name: main
      image: TO_BE_FILLED_IN
      command: [sh, -c, echo done]
"),
        Example::good("the launcher of GPU workers", "\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {name: a}
spec:
  mpiReplicaSpecs:
    Launcher:
      template:
        spec:
          tolerations: [{key: nvidia.com/gpu, operator: Exists}]
          containers: [{name: main, image: a:1, command: [mpirun, train]}]
    Worker:
      replicas: 2
      template:
        spec:
          tolerations: [{key: nvidia.com/gpu, operator: Exists}]
          containers: [{name: main, image: a:1, resources: {limits: {nvidia.com/gpu: 8}}}]
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let placed = !pod.node_requirements().is_empty() || pod.spec.get("nodeName").is_set();
    let belongs_there = pod.manager == Manager::DaemonSet || pod.purpose == Purpose::System;
    if !pod.complete || placed || belongs_there || pod.has_accelerator() || has_gpu_otherwise(pod) {
        return;
    }
    // Init containers with a GPU make it a GPU pod too.
    if pod.containers.iter().any(|container| container.has_accelerator()) {
        return;
    }
    if context.bundle.pods_of(&pod.object).take(16).any(Pod::has_accelerator) {
        return;
    }
    let known = &context.facts().gpu_tolerations;
    let found = pod.tolerations().find(|toleration| {
        let key = toleration.get("key");
        key.is("nvidia.com/gpu") || known.iter().any(|taint| key.is(&taint.key))
    });
    let Some(toleration) = found else { return };
    report
        .at(
            toleration.get("key"),
            "this pod asks for no GPU, but may fill GPU nodes and keep them from being scaled down: it tolerates their taint",
        )
        .fix("remove the toleration, or ask for the GPU");
}

/// Whether it sees GPUs without asking for them, as a whole node's workload may.
fn has_gpu_otherwise(pod: &Pod<'_>) -> bool {
    pod.spec.get("runtimeClassName").is_set()
        || pod.containers.iter().any(|container| {
            container.env("NVIDIA_VISIBLE_DEVICES").is_some()
                || container.node.path("securityContext.privileged").bool() == Some(true)
                // Devices of schedulers and vendors that are not known here.
                || ["limits", "requests"].iter().any(|list| {
                    container.resources().get(list).entries().any(|entry| entry.key.contains('/'))
                })
        })
}
