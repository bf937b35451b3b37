use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// GPU in requests but not in limits
    ///
    /// ## What it does
    /// Looks for accelerators that a container requests without a limit, where no LimitRange of the
    /// bundle sets a default for them.
    ///
    /// ## Why it matters
    /// The API server refuses a pod that requests an extended resource and sets no limit for it. A
    /// Deployment is accepted, and then never gets a pod.
    ///
    /// ## How to fix it
    /// Write the device in `limits`; the request follows it.
    GPU02, Error,
    evidence: "kubernetes/website, docs/tasks/manage-gpus/scheduling-gpus: GPUs are only supposed to be specified in the limits section",
    check: Check::Container(check),
    examples: [
        Example::bad("no limits at all", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        requests: {nvidia.com/gpu: 1, cpu: 1}
", &[9]),
        Example::bad("limits of other things", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        requests:
          nvidia.com/gpu: 1
        limits:
          memory: 1Gi
", &[10]),
        Example::good("limit only", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits: {nvidia.com/gpu: 1}
"),
        Example::good("a default of the namespace", "\
apiVersion: v1
kind: LimitRange
metadata: {name: defaults}
spec:
  limits:
    - type: Container
      default: {nvidia.com/gpu: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        requests: {nvidia.com/gpu: 1}
"),
        Example::good("a patch, whose base may have the limit", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          resources: {requests: {nvidia.com/gpu: 1}}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    // A runtime or a base may add the limit.
    if !pod.complete {
        return;
    }
    for device in &container.devices {
        if !device.request.is_set() || device.limit.exists() || device.count == Some(0) {
            continue;
        }
        let name = device.name;
        let has_default = context
            .bundle
            .in_namespace("LimitRange", pod.object.namespace, pod.spec)
            .any(|range| {
                let limits = range.spec().get("limits");
                limits.items().any(|item| item.get("default").get(name).exists())
            });
        if has_default {
            continue;
        }
        let asked = device.request.file().slice(device.request.span());
        let limits = container.resources().get("limits");
        let edit = if limits.is_map() {
            Edit::insert(limits, name, asked)
        } else {
            Edit::insert(container.resources(), "limits", &format!("{{{name}: {asked}}}"))
        };
        report
            .at(
                device.request,
                format!("the API server refuses this pod: `{name}` is requested and has no limit"),
            )
            .fix(format!("set `{name}` in limits, where it also counts as the request"))
            .edit(edit);
    }
}
