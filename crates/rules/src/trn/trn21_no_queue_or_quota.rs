use super::job;
use crate::context::Context;
use crate::model::{Manager, Object, Pod};
use crate::quantity::Quantity;
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// A queue that is not there, or that can never admit the job
    ///
    /// ## What it does
    /// Follows the label `kueue.x-k8s.io/queue-name` to the LocalQueue and its ClusterQueue, and
    /// compares what the pods ask for with the resources that those cover, and with the quota where
    /// the ClusterQueue is in no cohort.
    ///
    /// Silent where no queues are in sight near the job (in its file, or beside it in a namespace that
    /// both name), and where Kueue's configuration is, which may rename or leave out resources.
    ///
    /// ## Why it matters
    /// Kueue keeps the job suspended for ever. The reason stands in the Workload object alone.
    ///
    /// ## How to fix it
    /// Name a LocalQueue of the job's namespace, and list every resource that pods ask for in the
    /// ClusterQueue's `resourceGroups`.
    TRN21, Error,
    evidence: "kueue.sigs.k8s.io docs/concepts: LocalQueue, ClusterQueue (resource groups, borrowing)",
    check: Check::Pod(check),
    examples: [
        Example::bad("another queue", "\
apiVersion: kueue.x-k8s.io/v1beta1
kind: LocalQueue
metadata: {name: team-a, namespace: ml}
spec: {clusterQueue: gpus}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: a
  namespace: ml
  labels:
    kueue.x-k8s.io/queue-name: team-b
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
", &[12]),
        Example::bad("memory and GPUs that no quota covers", "\
apiVersion: kueue.x-k8s.io/v1beta1
kind: LocalQueue
metadata: {name: team}
spec: {clusterQueue: cpus}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: ClusterQueue
metadata: {name: cpus}
spec:
  resourceGroups:
    - coveredResources: [cpu]
      flavors:
        - name: default
          resources: [{name: cpu, nominalQuota: 9}]
---
apiVersion: batch/v1
kind: Job
metadata:
  name: a
  labels: {kueue.x-k8s.io/queue-name: team}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
          resources:
            requests: {cpu: 1}
            limits: {nvidia.com/gpu: 1}
", &[29]),
        Example::bad("more than the quota", "\
apiVersion: kueue.x-k8s.io/v1beta1
kind: LocalQueue
metadata: {name: team}
spec: {clusterQueue: gpus}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: ClusterQueue
metadata: {name: gpus}
spec:
  resourceGroups:
    - coveredResources: [nvidia.com/gpu]
      flavors:
        - name: default
          resources: [{name: nvidia.com/gpu, nominalQuota: 8}]
---
apiVersion: batch/v1
kind: Job
metadata:
  name: a
  labels: {kueue.x-k8s.io/queue-name: team}
spec:
  parallelism: 2
  template:
    spec:
      containers:
        - name: main
          image: a:1
          resources:
            limits: {nvidia.com/gpu: 8}
", &[29]),
        Example::good("within the quota", "\
apiVersion: kueue.x-k8s.io/v1beta1
kind: LocalQueue
metadata: {name: team}
spec: {clusterQueue: gpus}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: ClusterQueue
metadata: {name: gpus}
spec:
  resourceGroups:
    - coveredResources: [nvidia.com/gpu]
      flavors:
        - name: default
          resources: [{name: nvidia.com/gpu, nominalQuota: 16}]
---
apiVersion: batch/v1
kind: Job
metadata:
  name: a
  labels: {kueue.x-k8s.io/queue-name: team}
spec:
  parallelism: 2
  template:
    spec:
      containers:
        - name: main
          image: a:1
          resources:
            limits: {nvidia.com/gpu: 8}
"),
        Example::good("no queue in sight", "\
apiVersion: batch/v1
kind: Job
metadata:
  name: a
  labels: {kueue.x-k8s.io/queue-name: team}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let label = job::queue(pod);
    let Some(name) = label.text().filter(|name| !name.is_empty() && !name.contains(['$', '{']))
    else {
        return;
    };
    let bundle = context.bundle;
    let near = |object: &&Object<'_>, from: Node<'_>| bundle.distance(object.root, from) <= 1;
    let Some(queue) = bundle.find("LocalQueue", pod.object.namespace, name, pod.spec) else {
        let other =
            bundle.in_namespace("LocalQueue", pod.object.namespace, pod.spec).find(|queue| {
                let named = !queue.namespace.is_empty() && !pod.object.namespace.is_empty();
                // Examples beside one another have queues of their own.
                bundle.distance(queue.root, pod.spec) == 0 || named && near(queue, pod.spec)
            });
        if let Some(other) = other {
            report
                .at(
                    label,
                    format!(
                        "no LocalQueue `{name}` is in this namespace (`{}` is): Kueue never admits the job",
                        other.name
                    ),
                )
                .fix(format!("name a queue that is there, such as `{}`", other.name));
        }
        return;
    };
    // A queue of this name in another folder may be of another example.
    if !near(&queue, pod.spec) {
        return;
    }
    let cluster =
        bundle.find("ClusterQueue", "", queue.spec().get("clusterQueue").str(), queue.root);
    let Some(cluster) = cluster.filter(|cluster| near(cluster, queue.root)) else { return };
    let configured = bundle
        .of_kind("Configuration")
        .take(256)
        .any(|configuration| configuration.group() == "config.kueue.x-k8s.io");
    if !configured && pod.complete {
        check_quota(pod, cluster, report);
    }
}

fn check_quota(pod: &Pod<'_>, cluster: &Object<'_>, report: &mut Report) {
    let groups = cluster.spec().get("resourceGroups");
    if groups.is_empty() {
        return;
    }
    let alone =
        !cluster.spec().get("cohort").is_set() && !cluster.spec().get("cohortName").is_set();
    for (name, node, per_pod) in requests(pod) {
        let group = groups
            .items()
            .find(|group| group.get("coveredResources").items().any(|item| item.is(name)));
        let Some(group) = group else {
            report
                .at(
                    node,
                    format!(
                        "no quota of ClusterQueue `{}` is for `{name}`: Kueue never admits the job",
                        cluster.name
                    ),
                )
                .fix(format!("add `{name}` to `coveredResources` and to a flavour"));
            continue;
        };
        let count = together(pod);
        let (Some(count), true) = (count, alone) else { continue };
        let quotas: Option<Vec<Quantity>> = group
            .get("flavors")
            .items()
            .flat_map(|flavour| flavour.get("resources").items())
            .filter(|resource| resource.get("name").is(name))
            .map(|resource| resource.get("nominalQuota").quantity())
            .collect();
        let Some(most) = quotas.and_then(|quotas| quotas.into_iter().max()) else { continue };
        let all = per_pod.times(count);
        if all > most {
            let text = |amount: Quantity| match name {
                "memory" | "ephemeral-storage" => amount.to_string(),
                _ => amount.as_f64().to_string(),
            };
            report
                .at(
                    node,
                    format!(
                        "{count} pods ask for {} of `{name}`, and no flavour of ClusterQueue `{}` has more than {}: Kueue never admits the job",
                        text(all),
                        cluster.name,
                        text(most)
                    ),
                )
                .fix("raise `nominalQuota`, put the queue in a cohort, or start fewer workers");
        }
    }
}

/// What one pod asks for by name, with the first place where it is written.
fn requests<'b>(pod: &Pod<'b>) -> Vec<(&'b str, Node<'b>, Quantity)> {
    let mut found: Vec<(&'b str, Node<'b>, Quantity)> = Vec::new();
    for container in pod.main_containers() {
        let (limits, requests) =
            (container.resources().get("limits"), container.resources().get("requests"));
        let unset = limits.entries().filter(|entry| !requests.get(entry.key).is_set());
        for entry in requests.entries().chain(unset) {
            let Some(amount) = entry.value.quantity().filter(|amount| !amount.is_zero()) else {
                continue;
            };
            match found.iter_mut().find(|(name, ..)| *name == entry.key) {
                Some((_, _, sum)) => *sum = sum.plus(amount),
                None => found.push((entry.key, entry.value, amount)),
            }
        }
    }
    found.retain(|(name, ..)| !name.contains('$'));
    found
}

/// Pods of a template that are admitted together; `None` if fewer may do.
fn together(pod: &Pod<'_>) -> Option<i64> {
    let object = &pod.object;
    let partial = ["kueue.x-k8s.io/job-min-parallelism", "kueue.x-k8s.io/elastic-job"];
    if partial.iter().any(|key| object.annotation(key).is_set()) {
        return None;
    }
    match pod.manager {
        Manager::Job => {
            let completions = object.spec().get("completions");
            let most = if completions.is_set() { completions.int()? } else { i64::MAX };
            Some(pod.replicas?.min(most))
        }
        Manager::JobSet | Manager::TrainingOperator => pod.replicas,
        _ => Some(1),
    }
}
