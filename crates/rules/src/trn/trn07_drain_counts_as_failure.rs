use super::job;
use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// A drained node counts as a failure of the job
    ///
    /// ## What it does
    /// Looks at training Jobs (in CronJobs and JobSets too) without a `podFailurePolicy` that
    /// ignores the condition `DisruptionTarget`. JobSets that restart as a whole are left alone.
    ///
    /// ## Why it matters
    /// Each pod that is evicted by a drain, a preemption or a lost node counts towards
    /// `backoffLimit`. A few node upgrades, and the job is `Failed` though its program never was
    /// wrong.
    ///
    /// ## How to fix it
    /// Ignore disruptions in `podFailurePolicy`, which needs `restartPolicy: Never`.
    TRN07, Warning,
    evidence: "kubernetes/website docs/concepts/workloads/controllers/job: pod failure policy",
    check: Check::Pod(check),
    examples: [
        Example::bad("no policy", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  backoffLimit: 3
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [torchrun, --nproc_per_node=8, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
", &[5]),
        Example::bad("a policy on exit codes alone", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  podFailurePolicy:
    rules:
      - action: FailJob
        onExitCodes: {operator: In, values: [42]}
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 1}
", &[6]),
        Example::good("disruptions are ignored", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 1}
"),
        Example::good("a JobSet that starts anew as a whole", "\
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: a}
spec:
  failurePolicy: {maxRestarts: 4}
  replicatedJobs:
    - name: workers
      template:
        spec:
          parallelism: 4
          completions: 4
          backoffLimit: 0
          template:
            spec:
              restartPolicy: Never
              containers:
                - name: main
                  image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
                  command: [torchrun, --nnodes=4, train.py]
                  resources:
                    limits: {nvidia.com/gpu: 8}
"),
    ],
}

/// Retries beyond which a few drains do not matter.
const MANY: i64 = 50;

fn check(_: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let Some(spec) = job::job_spec(pod) else { return };
    if !pod.complete || !job::trains(pod) || !pod.has_accelerator() {
        return;
    }
    // A JobSet that restarts as a whole wants its jobs to fail at once.
    let restarts = pod.object.spec().path("failurePolicy.maxRestarts").int();
    if pod.manager == Manager::JobSet && restarts.is_some_and(|restarts| restarts > 0) {
        return;
    }
    let limit = spec.get("backoffLimit");
    let rules = spec.path("podFailurePolicy.rules");
    let handled = rules.items().any(|rule| {
        rule.get("onPodConditions").items().any(|on| on.get("type").is("DisruptionTarget"))
    });
    if handled || limit.int().is_some_and(|limit| limit >= MANY) {
        return;
    }
    let node = if rules.is_list() {
        rules
    } else if limit.is_set() {
        limit
    } else {
        spec.get("podFailurePolicy")
    };
    let retries = limit.int().unwrap_or(6);
    let item = "action: Ignore\nonPodConditions:\n  - type: DisruptionTarget";
    let never = pod.spec.get("restartPolicy").is("Never");
    let edit = if !never {
        None
    } else if rules.is_list() {
        Edit::prepend(rules, item)
    } else {
        let policy = format!("rules:\n  - {}", item.replace('\n', "\n    "));
        Edit::insert(spec, "podFailurePolicy", &policy)
    };
    let fix = if never {
        "add a `podFailurePolicy` rule with `action: Ignore` for the pod condition `DisruptionTarget`"
    } else {
        "add a `podFailurePolicy` rule with `action: Ignore` for the pod condition `DisruptionTarget`, and set `restartPolicy: Never`, which it needs"
    };
    let message = if retries == 0 {
        "the first pod that a drain or preemption evicts ends the job, though its program is right: `backoffLimit` is 0".to_owned()
    } else {
        format!(
            "each pod that a drain or preemption evicts uses up one of {retries} retries (`backoffLimit`), and then the job fails though its program is right"
        )
    };
    report.at(node, message).fix(fix).edit(edit);
}
