use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// GPU request and limit differ
    ///
    /// ## What it does
    /// Compares `requests` and `limits` of accelerators as numbers.
    ///
    /// ## Why it matters
    /// Devices cannot be overcommitted: the API server refuses a pod whose request for an extended
    /// resource is not equal to its limit. A Deployment is accepted, and then never gets a pod.
    ///
    /// ## How to fix it
    /// Give the limit only; the request follows it.
    GPU01, Error,
    evidence: "kubernetes/website, docs/tasks/manage-gpus/scheduling-gpus: requests and limits must be equal",
    check: Check::Container(check),
    examples: [
        Example::bad("one asked for, two allowed", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        requests: {nvidia.com/gpu: 1}
        limits: {nvidia.com/gpu: 2}
", &[9]),
        Example::good("one number in two notations", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        requests: {nvidia.com/gpu: \"1\", cpu: 1}
        limits: {nvidia.com/gpu: 1, cpu: 2}
"),
    ],
}

fn check(_: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    for device in &container.devices {
        let (Some(request), Some(limit)) = (device.request.quantity(), device.limit.quantity())
        else {
            continue;
        };
        if request == limit {
            continue;
        }
        let (asked, allowed) = (device.request.str(), device.limit.str());
        let name = device.name;
        report
            .at(
                device.request,
                format!(
                    "the API server refuses this pod: it asks for {asked} `{name}` and its limit is {allowed}, but devices cannot be overcommitted"
                ),
            )
            .fix(format!("set the request to the limit, {allowed}, or leave the request out"))
            .edit(Edit::replace(device.request, device.limit.file().slice(device.limit.span())));
    }
}
