use super::job;
use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// A job that stays when it is done
    ///
    /// ## What it does
    /// Looks at training jobs, and jobs that ask for accelerators, without
    /// `ttlSecondsAfterFinished`: Job, JobSet, Kubeflow's jobs, Volcano's, and RayJobs without
    /// `shutdownAfterJobFinishes`.
    ///
    /// Silent for CronJobs, which keep the newest only, and for jobs that Helm, Argo CD or an owner
    /// removes.
    ///
    /// ## Why it matters
    /// Finished jobs and their pods stay in the API server until somebody deletes them, and the next
    /// run of the same name is refused. A RayJob keeps its whole cluster, GPUs included.
    ///
    /// ## How to fix it
    /// Set `ttlSecondsAfterFinished` to the time in which somebody reads logs: a week here.
    TRN10, Hygiene,
    evidence: "kubernetes/website docs/concepts/workloads/controllers/ttlafterfinished; ray-project/kuberay docs, RayJob: shutdownAfterJobFinishes",
    check: Check::Pod(check),
    examples: [
        Example::bad("no time to live", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  backoffLimit: 2
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
", &[4]),
        Example::bad("a cluster that stays", "\
apiVersion: ray.io/v1
kind: RayJob
metadata: {name: a}
spec:
  entrypoint: python train.py
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
", &[4]),
        Example::good("a time to live", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  ttlSecondsAfterFinished: 86400
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
"),
        Example::good("a hook of Helm", "\
apiVersion: batch/v1
kind: Job
metadata:
  name: a
  annotations: {helm.sh/hook: post-install}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
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

/// A week.
const KEPT: &str = "604800";

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if !pod.complete
        || !(pod.has_accelerator() || job::trains(pod))
        || pod.serves()
        || job::is_named_server(pod)
    {
        return;
    }
    let object = &pod.object;
    let spec = object.spec();
    const TTL: &str = "ttlSecondsAfterFinished";
    let (holder, key): (Node<'_>, &str) = match pod.manager {
        Manager::Job | Manager::JobSet | Manager::Volcano => (spec, TTL),
        Manager::TrainingOperator => {
            let policy = spec.get("runPolicy");
            (if policy.is_map() { policy } else { spec }, TTL)
        }
        Manager::Ray if object.kind == "RayJob" => {
            // Of a cluster that is there already, nothing is its own.
            if spec.get("clusterSelector").is_set() || spec.get("deletionStrategy").is_set() {
                return;
            }
            (spec, "shutdownAfterJobFinishes")
        }
        _ => return,
    };
    let set = holder.get(key);
    let kept = if key == TTL {
        !set.is_set() && !spec.get(TTL).is_set()
    } else {
        set.bool() != Some(true)
    };
    let removed = !object.metadata().get("ownerReferences").is_empty()
        || object.metadata().get("annotations").entries().any(|entry| {
            entry.key.starts_with("helm.sh/hook")
                || entry.key.starts_with("argocd.argoproj.io/hook")
        });
    let first =
        context.bundle.pods_of(object).find(|other| other.has_accelerator() || job::trains(other));
    if !kept || removed || first.is_none_or(|first| first.index != pod.index) {
        return;
    }
    let message = if key == TTL {
        format!("when it is done, {} `{}` and its pods stay for ever", object.kind, object.name)
    } else {
        format!(
            "the cluster of RayJob `{}` stays when it is done, and holds its accelerators",
            object.name
        )
    };
    // In Kubeflow's jobs a run policy may have to be added first.
    let in_place = pod.manager != Manager::TrainingOperator || holder.key() == "runPolicy";
    let edit = match (key, in_place) {
        (TTL, true) => Edit::insert(holder, TTL, KEPT),
        (TTL, false) => None,
        _ if set.is_set() => Edit::replace(set, "true"),
        _ => Edit::insert(holder, key, "true"),
    };
    let fix = if key == TTL {
        format!("set `{TTL}`, to a week ({KEPT}) for a start")
    } else {
        format!("set `{key}: true`")
    };
    report.at(set, message).fix(fix).edit(edit);
}
