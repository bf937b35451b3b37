use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Manager, Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Toleration of every taint
    ///
    /// ## What it does
    /// Looks for tolerations without a key (`operator: Exists` alone) on pods that ask for
    /// accelerators; cluster components and DaemonSets are left out.
    ///
    /// ## Why it matters
    /// Such a pod also lands on nodes that are being drained, that are unreachable, or whose GPU was
    /// found sick: all of these are said by taints. With effect `NoExecute` covered it is never moved
    /// away from there.
    ///
    /// ## How to fix it
    /// Tolerate the taint of GPU nodes by its key, `nvidia.com/gpu`.
    GPU09, Warning,
    evidence: "kubernetes/website, docs/concepts/scheduling-eviction/taint-and-toleration: an empty key with operator Exists matches all taints",
    check: Check::Pod(check),
    examples: [
        Example::bad("no key", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  tolerations:
    - operator: Exists
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
", &[6]),
        Example::good("a key", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  tolerations:
    - {key: nvidia.com/gpu, operator: Exists}
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("no accelerator", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  tolerations:
    - operator: Exists
  containers:
    - name: main
      image: a:1
      args: [x]
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let for_all_nodes = pod.manager == Manager::DaemonSet || pod.purpose == Purpose::System;
    if for_all_nodes || !pod.has_accelerator() {
        return;
    }
    for toleration in pod.tolerations() {
        let operator = toleration.get("operator");
        if toleration.get("key").is_set() || !operator.is("Exists") {
            continue;
        }
        report
            .at(
                operator,
                "this pod also lands on nodes that are drained, unreachable or marked sick: a toleration without a key covers every taint",
            )
            .fix("name the taint: `key: nvidia.com/gpu`")
            .edit(Edit::insert(toleration, "key", "nvidia.com/gpu"));
    }
}
