use trainyard_rules::Quantity;

use crate::diagnosis::diagnosis;
use crate::pending::{Class, amount};
use crate::report::Report;
use crate::schedule::Obstacle;
use crate::view::{View, is_gpu_resource};

diagnosis! {
    /// The pod asks for more than the largest node has
    ///
    /// ## Signature
    /// The pod is unschedulable, and no node would have enough of a resource even if it were empty.
    ///
    /// ## Cause
    /// A pod runs on one node. Sixteen GPUs on nodes of eight are two pods.
    ///
    /// ## How to mend it
    /// Split the work over several pods, ask for less, or add larger nodes.
    D05, Error,
    needs: [Pods, Nodes],
    rules: ["GPU14", "GPU15"],
    yields_to: ["D09", "D14"],
    source: "kubernetes/kubernetes, plugin NodeResourcesFit",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        if pending.not_advertised().is_some() || !pending.needs(Class::TooLarge) {
            continue;
        }
        let shorts = pending.verdicts.iter().flat_map(|verdict| {
            verdict.obstacles.iter().filter_map(move |obstacle| match obstacle {
                Obstacle::Short(short) => Some((&verdict.node, short)),
                _ => None,
            })
        });
        // A resource of which every node has too little; of several, the GPUs.
        let is_everywhere = |resource: &str| {
            let has = |name: &str| {
                let largest = view.nodes().iter().filter_map(|it| it.allocatable.get(name)).max();
                largest.copied().unwrap_or(Quantity::whole(0))
            };
            pending.wanted.get(resource).is_some_and(|wanted| *wanted > has(resource))
        };
        let largest = shorts.filter(|(_, short)| is_everywhere(&short.resource)).max_by_key(
            |(node, short)| {
                let name = std::cmp::Reverse(node.name());
                (is_gpu_resource(&short.resource), short.allocatable, name)
            },
        );
        let object = pending.pod.object;
        let Some((node, short)) = largest else {
            // Each resource fits somewhere, and all of them nowhere.
            let finding = report.at(
                object.reference(),
                "no node is large enough for all that the pod asks for, even when it is empty",
            );
            finding.unscheduled(object);
            for verdict in pending.verdicts.iter().take(3) {
                finding.field(verdict.node.object, "/status/allocatable");
            }
            finding.advise("ask for less of the resource that is named, or add a larger node");
            continue;
        };
        let resource = short.resource.as_str();
        let finding = report.at(
            object.reference(),
            format!(
                "asks for {} of `{resource}`; the largest node, `{}`, has {}",
                amount(resource, short.wanted),
                node.name(),
                amount(resource, short.allocatable),
            ),
        );
        finding.unscheduled(object);
        finding.field(node.object, &format!("/status/allocatable/{}", resource.replace('/', "~1")));
        if is_gpu_resource(resource) {
            finding.advise(format!(
                "use several pods of at most {} each (tensor parallel within a node, pipeline or data parallel between them)",
                amount(resource, short.allocatable)
            ));
        } else {
            finding.advise(format!("ask for at most {}", amount(resource, short.allocatable)));
        }
        finding.advise("or add a larger node");
    }
}
