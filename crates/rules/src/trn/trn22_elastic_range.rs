use super::job;
use crate::context::Context;
use crate::model::{Container, FrameworkKind, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::{Node, Span};

rule! {
    /// An elastic job whose range does not fit
    ///
    /// ## What it does
    /// Compares the range of `--nnodes=MIN:MAX`, `PET_NNODES` and of a PyTorchJob's `elasticPolicy`
    /// with the pods that are started, and looks for `--max-restarts` of a job with a range.
    ///
    /// ## Why it matters
    /// With fewer pods than the minimum the job never starts; with more than the maximum some are
    /// idle. Without restarts (torchrun's default is 0) the first worker that is lost ends the job,
    /// and the range is of no use.
    ///
    /// ## How to fix it
    /// Let replicas lie within the range, and set `--max-restarts`.
    TRN22, Warning,
    evidence: "pytorch/pytorch docs, torchrun: elastic launch, max-restarts; kubeflow/trainer v1 API, ElasticPolicy",
    check: Check::Container(check),
    examples: [
        Example::bad("fewer than the minimum", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  parallelism: 2
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [torchrun, '--nnodes=4:8', --max-restarts=3, train.py]
", &[11]),
        Example::bad("no restarts", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  parallelism: 4
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command:
            - torchrun
            - --nnodes=2:4
            - train.py
", &[13]),
        Example::bad("an operator's range", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  elasticPolicy:
    minReplicas: 2
    maxReplicas: 3
    maxRestarts: 10
  pytorchReplicaSpecs:
    Worker:
      replicas: 4
      template:
        spec:
          containers:
            - name: pytorch
              image: a:1
              command: [torchrun, train.py]
", &[7]),
        Example::good("within the range", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  parallelism: 3
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [torchrun, '--nnodes=2:4', --max-restarts=3, train.py]
"),
        Example::good("no range", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  parallelism: 2
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [torchrun, --nnodes=2, train.py]
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if container.init || !pod.complete {
        return;
    }
    check_policy(context, pod, container, report);
    if !container.is(FrameworkKind::Pytorch) {
        return;
    }
    let by_flag = container
        .flag(&["--nnodes"])
        .and_then(|flag| Some((flag.value.clone()?, flag.node, flag.place())));
    let by_variable = || {
        let env = container.env("PET_NNODES")?;
        Some((container.env_value("PET_NNODES")?, env.value, env.value.place()))
    };
    let Some((text, node, place)) = by_flag.or_else(by_variable) else { return };
    let Some((least, most)) = range(&text) else { return };
    if least > most {
        report
            .at_span(node, place, format!("the range `{text}` is empty: torchrun refuses it"))
            .fix("write the smaller number first");
        return;
    }
    if least == most {
        return;
    }
    let pods = match pod.manager {
        Manager::Job | Manager::CronJob | Manager::StatefulSet => pod.replicas,
        Manager::TrainingOperator => context
            .bundle
            .pods_of(&pod.object)
            .take(16)
            .try_fold(0i64, |sum, pod| Some(sum.saturating_add(pod.replicas?))),
        _ => None,
    };
    if let Some(pods) = pods {
        outside(report, node, place, pods, (least, most));
    }
    let restarts = container.flag(&["--max-restarts"]);
    let allowed = match &restarts {
        Some(flag) => flag.int() != Some(0),
        None => {
            container.env("PET_MAX_RESTARTS").is_some()
                || container.env_from
                || job::texts(container).any(|text| text.contains("max_restarts"))
        }
    };
    if !allowed {
        report
            .at_span(
                node,
                place,
                format!(
                    "`{text}` lets workers come and go, and torchrun restarts none unless told (`--max-restarts` is 0): the first worker that is lost ends the job"
                ),
            )
            .fix("set `--max-restarts` to the losses that the job shall survive");
    }
}

/// The range that a PyTorchJob's operator hands on; once for an object.
fn check_policy(
    context: &Context<'_>,
    pod: &Pod<'_>,
    container: &Container<'_>,
    report: &mut Report,
) {
    let policy = pod.object.spec().get("elasticPolicy");
    let first = context.bundle.pods_of(&pod.object).next();
    let is_first = first.is_some_and(|first| first.index == pod.index)
        && pod.main_containers().next().is_some_and(|first| first.node == container.node);
    if pod.manager != Manager::TrainingOperator || !policy.is_map() || !is_first {
        return;
    }
    let worker = context.bundle.pods_of(&pod.object).find(|pod| pod.role == "Worker");
    let Some(pods) = worker.and_then(|worker| worker.replicas) else { return };
    let (least, most) = (policy.get("minReplicas"), policy.get("maxReplicas"));
    let range = (least.int().unwrap_or(pods), most.int().unwrap_or(pods));
    let node = if pods < range.0 { least } else { most };
    outside(report, node, node.place(), pods, range);
}

fn outside(report: &mut Report, node: Node<'_>, place: Span, pods: i64, (least, most): (i64, i64)) {
    let outcome = if pods < least {
        "it waits for the minimum until a timeout"
    } else if pods > most {
        "those above the maximum are idle"
    } else {
        return;
    };
    report
        .at_span(
            node,
            place,
            format!("the job takes {least} to {most} workers and starts {pods}: {outcome}"),
        )
        .fix("let replicas lie within the range");
}

/// `2:4`; `None` for a single number.
fn range(text: &str) -> Option<(i64, i64)> {
    let (least, most) = text.split_once(':')?;
    Some((least.trim().parse().ok()?, most.trim().parse().ok()?))
}
