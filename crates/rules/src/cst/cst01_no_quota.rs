use std::collections::{BTreeMap, BTreeSet};

use crate::context::Context;
use crate::model::{Bundle, Object, Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::trn::job;

rule! {
    /// Namespace with GPU workloads and no GPU quota
    ///
    /// ## What it does
    /// For each Namespace here in which pods ask for GPUs: looks for a ResourceQuota on that
    /// resource in it, or a queue of Kueue, Volcano or Run:ai, which has a quota of its own.
    ///
    /// Silent about namespaces that are not here, since their quotas are not either, and about those
    /// in which pods only try whether a GPU works.
    ///
    /// ## Why it matters
    /// One team, one typo in `replicas` or one autoscaler takes every GPU of the cluster, and the
    /// bill has no upper bound.
    ///
    /// ## How to fix it
    /// Add a ResourceQuota with `requests.nvidia.com/gpu`. Extended resources take quotas on
    /// `requests.` only.
    CST01, Warning,
    evidence: "kubernetes/website, concepts/policy/resource-quotas: extended resources take quotas with the prefix requests.",
    check: Check::Bundle(check),
    examples: [
        Example::bad("a namespace for training without quota", "\
apiVersion: v1
kind: Namespace
metadata: {name: research}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: research}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
", &[3]),
        Example::good("a quota", "\
apiVersion: v1
kind: Namespace
metadata: {name: research}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: gpus, namespace: research}
spec: {hard: {requests.nvidia.com/gpu: 8}}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: research}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
        Example::good("the namespace is from elsewhere", "\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: research}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
        Example::good("a queue of Kueue", "\
apiVersion: v1
kind: Namespace
metadata: {name: research}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: LocalQueue
metadata: {name: gpus, namespace: research}
spec: {clusterQueue: gpus}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: research}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
        Example::good("a namespace for a test", "\
apiVersion: v1
kind: Namespace
metadata: {name: check}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: check}
spec:
  restartPolicy: OnFailure
  containers:
    - name: main
      image: nvidia/cuda:12.4.1-base-ubuntu22.04
      args: [nvidia-smi]
      resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

/// Labels by which a workload is queued, and counted, elsewhere.
const QUEUES: [&str; 5] = [
    "kueue.x-k8s.io/queue-name",
    "scheduling.volcano.sh/queue-name",
    "runai/queue",
    "kai.scheduler/queue",
    "volcano.sh/queue-name",
];

fn check(context: &Context<'_>, report: &mut Report) {
    let bundle = context.bundle;
    // The first pod of each namespace that asks for GPUs outside of queues.
    let mut asking: BTreeMap<&str, &Pod<'_>> = BTreeMap::new();
    for pod in &bundle.pods {
        let queued = QUEUES.iter().any(|key| {
            pod.object.label(key).is_set()
                || pod.label(key).is_set()
                || pod.object.annotation(key).is_set()
        });
        if pod.gpu().is_some()
            && pod.purpose != Purpose::System
            && !queued
            && !job::is_short_test(pod)
        {
            asking.entry(pod.object.namespace).or_insert(pod);
        }
    }
    if asking.is_empty() {
        return;
    }
    let limited = limited(bundle);
    for space in bundle.of_kind("Namespace") {
        let Some(pod) = asking.get(space.name).filter(|_| !space.name.is_empty()) else { continue };
        let Some((_, device)) = pod.gpu() else { continue };
        if bundle.distance(pod.spec, space.root) > 1
            || limited.contains(space.name)
            || limited.contains("")
        {
            continue;
        }
        report
            .at(
                space.metadata().get("name"),
                format!(
                    "nothing limits how many GPUs this namespace takes: {} asks for `{}`, and no ResourceQuota here counts it",
                    pod.describe(),
                    device.name
                ),
            )
            .fix(format!("add a ResourceQuota with `requests.{}`", device.name));
    }
}

/// Namespaces in which something counts GPUs; an empty name stands for any.
fn limited<'b>(bundle: &Bundle<'b>) -> BTreeSet<&'b str> {
    let counts = |quota: &&Object<'b>| {
        let hard = quota.spec().get("hard");
        hard.entries().any(|entry| {
            entry.key.strip_prefix("requests.").is_some_and(Bundle::is_accelerator)
                || entry.key.strip_prefix("limits.").is_some_and(Bundle::is_accelerator)
        })
    };
    let quotas = bundle.of_kind("ResourceQuota").filter(counts).map(|quota| quota.namespace);
    let queues = bundle.of_kind("LocalQueue").map(|queue| queue.namespace);
    // One without a namespace is in one that is not known, and says nothing about others.
    let placed = quotas.chain(queues).filter(|namespace| !namespace.is_empty());
    // Kubeflow makes a namespace and its quota of a profile; hierarchies pass quotas on.
    let profiles = bundle
        .of_kind("Profile")
        .filter(|profile| profile.spec().get("resourceQuotaSpec").is_set())
        .map(|profile| profile.name);
    let hierarchies = ["HierarchicalResourceQuota", "ClusterResourceQuota"]
        .into_iter()
        .flat_map(|kind| bundle.of_kind(kind))
        .map(|_| "");
    placed.chain(profiles).chain(hierarchies).collect()
}
