use std::collections::HashMap;

use super::job;
use crate::context::Context;
use crate::model::{Bundle, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Training that may evict what serves
    ///
    /// ## What it does
    /// Compares the values of PriorityClasses: of training pods with that of serving pods with
    /// accelerators in the same folder, where both are known.
    ///
    /// ## Why it matters
    /// The scheduler makes room for a pod of higher priority by evicting others. A batch job that
    /// starts in the night takes the GPUs of the service that answers users. At equal priority the
    /// service cannot get them back.
    ///
    /// ## How to fix it
    /// Give serving the higher value, or set `preemptionPolicy: Never` in the class of training.
    TRN20, Warning,
    evidence: "kubernetes/website docs/concepts/scheduling-eviction/pod-priority-preemption",
    check: Check::Bundle(check),
    examples: [
        Example::bad("the wrong way round", "\
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: batch}
value: 1000
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: online}
value: 100
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      priorityClassName: online
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  template:
    spec:
      priorityClassName: batch
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources: {limits: {nvidia.com/gpu: 1}}
", &[31]),
        Example::good("serving first", "\
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: batch}
value: 100
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: online}
value: 1000
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      priorityClassName: online
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  template:
    spec:
      priorityClassName: batch
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

/// The priority of a pod.
#[derive(Clone, Copy)]
struct Priority<'b> {
    value: i64,
    /// `priorityClassName`; missing if the default holds.
    class: Node<'b>,
    preempts: bool,
}

fn check(context: &Context<'_>, report: &mut Report) {
    let bundle = context.bundle;
    // The lowest priority that serves in each folder.
    let mut serving: HashMap<&str, (&Pod<'_>, Priority<'_>)> = HashMap::new();
    for pod in
        bundle.pods.iter().filter(|pod| pod.serves() && pod.complete && pod.has_accelerator())
    {
        let Some(own) = priority(bundle, pod) else { continue };
        let entry = serving.entry(folder(pod)).or_insert((pod, own));
        if own.value < entry.1.value {
            *entry = (pod, own);
        }
    }
    if serving.is_empty() {
        return;
    }
    for pod in bundle.pods.iter().filter(|pod| job::trains(pod) && pod.has_accelerator()) {
        let Some((server, served)) = serving.get(folder(pod)) else { continue };
        let Some(own) = priority(bundle, pod) else { continue };
        if !own.class.is_set()
            || !pod.object.may_share_namespace(&server.object) && own.value < served.value
        {
            continue;
        }
        let equal = own.value == served.value;
        if own.value < served.value || !own.preempts || equal && !served.class.is_set() {
            continue;
        }
        let message = if equal {
            format!(
                "training has the priority of {} (both {}): once it holds the GPUs, serving cannot get them back",
                server.describe(),
                own.value
            )
        } else {
            format!(
                "where GPUs are short, this job (priority {}) evicts {} (priority {})",
                own.value,
                server.describe(),
                served.value
            )
        };
        report.at(own.class, message).fix(
            "give serving the higher priority, or set `preemptionPolicy: Never` in this class",
        );
    }
}

fn folder<'b>(pod: &Pod<'b>) -> &'b str {
    let name = pod.spec.file().name.as_str();
    name.rsplit_once(['/', '\\']).map_or("", |(folder, _)| folder)
}

/// The priority of a pod; `None` if its class is not in sight.
fn priority<'b>(bundle: &Bundle<'b>, pod: &Pod<'b>) -> Option<Priority<'b>> {
    let class = pod.spec.get("priorityClassName");
    if !class.is_set() {
        // The class of all pods that name none.
        let default = bundle
            .of_kind("PriorityClass")
            .take(64)
            .find(|class| class.root.get("globalDefault").bool() == Some(true));
        let value = default.map_or(Some(0), |class| class.root.get("value").int())?;
        return Some(Priority { value, class, preempts: true });
    }
    let found = bundle.find("PriorityClass", "", class.str(), pod.spec)?;
    let preempts = !found.root.get("preemptionPolicy").is("Never");
    Some(Priority { value: found.root.get("value").int()?, class, preempts })
}
