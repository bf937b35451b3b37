use super::job;
use crate::context::Context;
use crate::model::{DeviceKind, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// A job of several pods that does not start as a whole
    ///
    /// ## What it does
    /// Looks at training jobs whose pods wait for each other and hold GPUs: more than one worker,
    /// and no queue (Kueue), pod group (Volcano, coscheduling, KAI, YuniKorn), JobSet or scheduling
    /// gate that would start all or none.
    ///
    /// Silent where the manifests hold a default Kueue queue, for TPU slices, which are started as
    /// one, and for measurements of devices.
    ///
    /// ## Why it matters
    /// The scheduler places pod by pod. Where GPUs do not suffice for all, half a job holds its GPUs
    /// and waits for the rest; two such jobs wait for each other for ever.
    ///
    /// ## How to fix it
    /// Name a queue with the label `kueue.x-k8s.io/queue-name`, or use a scheduler with pod groups.
    TRN08, Error,
    evidence: "kubeflow/website docs/components/trainer/legacy-v1/user-guides/job-scheduling; kueue.sigs.k8s.io, all-or-nothing; volcano.sh, gang scheduling",
    check: Check::Pod(check),
    examples: [
        Example::bad("four workers", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 4
      template:
        spec:
          containers:
            - name: pytorch
              image: a:1
              command: [torchrun, train.py]
              resources:
                limits: {nvidia.com/gpu: 8}
", &[7]),
        Example::bad("an indexed Job whose pods meet", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  completionMode: Indexed
  parallelism: 2
  completions: 2
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [torchrun, --nnodes=2, --rdzv-endpoint=a-0.a, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
", &[6]),
        Example::good("a queue", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata:
  name: a
  labels: {kueue.x-k8s.io/queue-name: team}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 4
      template:
        spec:
          containers:
            - name: pytorch
              image: a:1
              resources:
                limits: {nvidia.com/gpu: 8}
"),
        Example::good("another scheduler", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 4
      template:
        spec:
          schedulerName: volcano
          containers:
            - name: pytorch
              image: a:1
              resources:
                limits: {nvidia.com/gpu: 8}
"),
        Example::good("tries that do not wait for each other", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  parallelism: 8
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [torchrun, --nnodes=1, train.py]
          resources:
            limits: {nvidia.com/gpu: 1}
"),
        Example::good("a measurement that a launcher starts", "\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {name: a}
spec:
  mpiReplicaSpecs:
    Launcher:
      template:
        spec:
          containers:
            - name: main
              image: a:1
              command: [mpirun, -np, \"16\", /opt/build/all_reduce_perf]
    Worker:
      replicas: 2
      template:
        spec:
          containers:
            - name: main
              image: a:1
              resources: {limits: {nvidia.com/gpu: 8}}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let alone = matches!(pod.manager, Manager::Job | Manager::CronJob | Manager::TrainingOperator);
    let holds_gpus = pod.devices().any(|(_, device)| {
        matches!(device.kind, DeviceKind::Gpu | DeviceKind::Mig | DeviceKind::SharedGpu)
    });
    if !alone || !holds_gpus || !pod.complete {
        return;
    }
    // A measurement is started by hand and watched.
    if job::measures_devices(context, pod) {
        return;
    }
    let Some(team) = job::team(context, pod) else { return };
    // Once for the whole job: at the template with most pods.
    let largest = team.pods.iter().max_by_key(|pod| (pod.replicas, usize::MAX - pod.index));
    if largest.is_none_or(|largest| largest.index != pod.index) || is_gang(context, pod) {
        return;
    }
    report
        .at(
            pod.replicas_node,
            format!(
                "{} pods of {} are placed one by one: where GPUs do not suffice for all, some hold theirs and wait for the rest for ever",
                team.size, pod.object.kind
            ),
        )
        .fix("add the label `kueue.x-k8s.io/queue-name`, or a scheduler with pod groups");
}

/// Whether something starts the pods of a job together.
fn is_gang(context: &Context<'_>, pod: &Pod<'_>) -> bool {
    let object = &pod.object;
    let spec = object.spec();
    let scheduler = pod.spec.get("schedulerName");
    let other_scheduler = scheduler.is_set() && !scheduler.is("default-scheduler");
    let policy = spec.path("runPolicy.schedulingPolicy").is_set();
    let gated = !pod.spec.get("schedulingGates").is_empty()
        || spec.get("suspend").bool() == Some(true)
        || spec.path("runPolicy.suspend").bool() == Some(true)
        || spec.get("managedBy").is_set()
        || spec.path("runPolicy.managedBy").is_set();
    let groups = ["pod-group", "podgroup", "pod_group", "task-group", "gang", "kai.scheduler/"];
    let labelled = [
        object.metadata().get("labels"),
        object.metadata().get("annotations"),
        pod.labels(),
        pod.metadata.get("annotations"),
    ]
    .into_iter()
    .flat_map(|labels| labels.entries())
    .any(|entry| groups.iter().any(|group| entry.key.contains(group)));
    // A job that may start with fewer takes what it gets.
    let least = spec.path("elasticPolicy.minReplicas");
    let elastic = least.int().zip(pod.replicas).is_some_and(|(least, all)| least < all);
    // Kueue takes jobs without a label into a queue of this name.
    let default_queue =
        context.bundle.find("LocalQueue", object.namespace, "default", pod.spec).is_some();
    other_scheduler
        || policy
        || gated
        || elastic
        || labelled
        || default_queue
        || job::queue(pod).is_set()
        || object.label("kueue.x-k8s.io/priority-class").is_set()
}
