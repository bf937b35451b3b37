use super::job;
use crate::context::Context;
use crate::model::{Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// A job that may hold accelerators for ever
    ///
    /// ## What it does
    /// Looks at jobs that ask for accelerators and have no `activeDeadlineSeconds`: Job, CronJob,
    /// JobSet, Kubeflow's jobs and RayJob.
    ///
    /// Silent for tests that end at once, for servers, and where Kueue limits the time.
    ///
    /// ## Why it matters
    /// A rank that hangs in a collective never ends. The job holds all its accelerators, and is paid
    /// for, until somebody looks.
    ///
    /// ## How to fix it
    /// Set `activeDeadlineSeconds` to a little more than the longest run that makes sense.
    TRN09, Warning,
    evidence: "kubernetes/website docs/concepts/workloads/controllers/job: job termination; 19 of 19 GPU Jobs in public samples have none (own count)",
    check: Check::Pod(check),
    examples: [
        Example::bad("no deadline", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
", &[4]),
        Example::bad("one of Kubeflow's", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  runPolicy:
    cleanPodPolicy: All
  pytorchReplicaSpecs:
    Worker:
      template:
        spec:
          containers:
            - name: pytorch
              image: a:1
              resources:
                limits: {nvidia.com/gpu: 8}
", &[5]),
        Example::good("a deadline", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  activeDeadlineSeconds: 86400
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
"),
        Example::good("a test", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: nvidia/cuda:12.4.1-base-ubuntu22.04
          command: [nvidia-smi]
          resources:
            limits: {nvidia.com/gpu: 1}
"),
        Example::good("a server as the entry point", "\
apiVersion: ray.io/v1
kind: RayJob
metadata: {name: a}
spec:
  entrypoint: vllm serve facebook/opt-13b --tensor-parallel-size 2
  rayClusterSpec:
    workerGroupSpecs:
      - groupName: gpu
        replicas: 2
        template:
          spec:
            containers:
              - name: worker
                image: rayproject/ray:2.46.0-gpu
                resources:
                  limits: {nvidia.com/gpu: 1}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if !pod.complete
        || !pod.has_accelerator()
        || job::is_test(pod)
        || pod.serves()
        || job::is_named_server(pod)
    {
        return;
    }
    let Some(holder) = holder(pod) else { return };
    const DEADLINE: &str = "activeDeadlineSeconds";
    let limited = holder.get(DEADLINE).is_set()
        || pod.spec.get(DEADLINE).is_set()
        || pod.object.spec().get(DEADLINE).is_set()
        || pod.object.label("kueue.x-k8s.io/max-exec-time-seconds").is_set();
    // Once for an object with several templates that hold accelerators.
    let first = context
        .bundle
        .pods_of(&pod.object)
        .find(|other| other.has_accelerator() && holder_of(other) == holder_of(pod));
    if limited || first.is_none_or(|first| first.index != pod.index) {
        return;
    }
    report
        .at(
            holder.get(DEADLINE),
            format!(
                "a run that hangs holds its accelerators until somebody looks: {} `{}` has no `{DEADLINE}`",
                pod.object.kind, pod.object.name
            ),
        )
        .fix(format!("set `{DEADLINE}` to a little more than the longest run that makes sense"));
}

/// The mapping that a deadline belongs in.
fn holder<'b>(pod: &Pod<'b>) -> Option<Node<'b>> {
    let spec = pod.object.spec();
    match pod.manager {
        Manager::Job | Manager::CronJob | Manager::JobSet => job::job_spec(pod),
        Manager::TrainingOperator => {
            let policy = spec.get("runPolicy");
            Some(if policy.is_map() { policy } else { spec })
        }
        Manager::Ray if pod.object.kind == "RayJob" => Some(spec),
        _ => None,
    }
}

fn holder_of(pod: &Pod<'_>) -> Option<u32> {
    holder(pod).map(|holder| holder.span().start)
}
