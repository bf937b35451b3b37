use std::collections::BTreeSet;

use crate::context::Context;
use crate::model::{Object, Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::{Documents, Node, Source};

rule! {
    /// Time-sliced GPU shared by several namespaces
    ///
    /// ## What it does
    /// Looks for a device plugin configuration with `timeSlicing`, or pods that ask GKE for
    /// `time-sharing`, and for pods of two namespaces or more that ask for the resource.
    ///
    /// ## Why it matters
    /// Time slicing gives turns and nothing else: there is no limit on memory and no protection of
    /// it. One tenant can take all memory so that the others fail, a fault of one kills all, and
    /// drivers' flaws show one's memory to others.
    ///
    /// ## How to fix it
    /// Give each tenant MIG slices or whole GPUs. MPS limits memory, but a fault still hits all
    /// clients; it suits services of one team.
    SEC08, Warning,
    evidence: "NVIDIA/k8s-device-plugin README, shared access to GPUs: time-slicing gives no memory or fault isolation",
    check: Check::Bundle(check),
    examples: [
        Example::bad("two teams on sliced GPUs", "\
apiVersion: v1
kind: ConfigMap
metadata: {name: plugin, namespace: gpu-operator}
data:
  any: |-
    version: v1
    sharing:
      timeSlicing:
        resources:
          - name: nvidia.com/gpu
            replicas: 4
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: team-a}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: team-b}
spec: {containers: [{name: b, image: b:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
", &[8]),
        Example::good("one team only", "\
apiVersion: v1
kind: ConfigMap
metadata: {name: plugin, namespace: gpu-operator}
data:
  any: |-
    version: v1
    sharing:
      timeSlicing:
        resources:
          - name: nvidia.com/gpu
            replicas: 4
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: team-a}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu: 1}}}]}
"),
        Example::good("the second team has slices of its own", "\
apiVersion: v1
kind: ConfigMap
metadata: {name: plugin, namespace: gpu-operator}
data:
  any: |-
    version: v1
    sharing:
      timeSlicing:
        renameByDefault: true
        resources:
          - name: nvidia.com/gpu
            replicas: 4
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: team-a}
spec: {containers: [{name: a, image: a:1, resources: {limits: {nvidia.com/gpu.shared: 1}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: team-b}
spec: {containers: [{name: b, image: b:1, resources: {limits: {nvidia.com/mig-1g.5gb: 1}}}]}
"),
    ],
}

/// A cluster has one configuration or a few; each is compared with all pods.
const MOST_CONFIGS: usize = 64;

fn check(context: &Context<'_>, report: &mut Report) {
    let configs = context.bundle.of_kind("ConfigMap").flat_map(|config| {
        let texts = config.root.get("data").entries();
        let sliced = texts.filter(|entry| entry.value.str().contains("timeSlicing"));
        sliced.map(move |entry| (config, entry.value))
    });
    for (config, node) in configs.take(MOST_CONFIGS) {
        let resources = sliced(node.str());
        let asks = |pod: &Pod<'_>| {
            pod.devices().any(|(_, device)| resources.iter().any(|name| name == device.name))
        };
        let spaces = namespaces(context, config, asks);
        tell(report, node, node.find("timeSlicing"), &spaces);
    }
    if let Some((pod, node)) =
        context.bundle.pods.iter().find_map(|pod| Some((pod, strategy(pod)?)))
    {
        let spaces = namespaces(context, &pod.object, |pod| strategy(pod).is_some());
        tell(report, node, node.place(), &spaces);
    }
}

/// Where a pod asks GKE for a GPU in turns.
fn strategy<'b>(pod: &Pod<'b>) -> Option<Node<'b>> {
    let wanted = pod.node_requirements().into_iter().find(|wanted| {
        wanted.key == "cloud.google.com/gke-gpu-sharing-strategy"
            && wanted.values == ["time-sharing"]
    })?;
    Some(wanted.node)
}

fn tell(report: &mut Report, node: Node<'_>, span: crate::yaml::Span, spaces: &BTreeSet<&str>) {
    if spaces.len() < 2 {
        return;
    }
    let names: Vec<String> = spaces.iter().take(3).map(|name| format!("`{name}`")).collect();
    let more = if spaces.len() > 3 { " and others" } else { "" };
    report
        .at_span(
            node,
            span,
            format!(
                "pods of the namespaces {}{more} take turns on the same GPUs without any isolation of memory: one can take it all, and a fault of one kills the others",
                names.join(", ")
            ),
        )
        .fix("give each tenant MIG slices or whole GPUs");
}

/// Namespaces of users' pods near a configuration that ask for what it slices.
fn namespaces<'b>(
    context: &Context<'b>,
    near: &Object<'_>,
    asks: impl Fn(&Pod<'_>) -> bool,
) -> BTreeSet<&'b str> {
    let pods = context.bundle.pods.iter().filter(|pod| {
        pod.purpose != Purpose::System
            && !pod.object.namespace.is_empty()
            && context.bundle.distance(pod.spec, near.root) <= 1
    });
    pods.filter(|pod| asks(pod)).map(|pod| pod.object.namespace).collect()
}

/// Names under which a device plugin's configuration announces sliced GPUs.
fn sliced(text: &str) -> Vec<String> {
    let documents = Documents::read(vec![Source { name: String::new(), text: text.to_owned() }]);
    let mut names = Vec::new();
    for root in documents.roots() {
        let slicing = root.path("sharing.timeSlicing");
        let renamed = slicing.get("renameByDefault").bool() == Some(true);
        for resource in slicing.get("resources").items() {
            let name = resource.get("name").str();
            let own = resource.get("rename");
            if own.is_set() {
                names.push(own.str().to_owned());
            } else if renamed {
                names.push(format!("{name}.shared"));
            } else {
                names.push(name.to_owned());
            }
        }
    }
    names
}
