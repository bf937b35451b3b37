use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::{has_all, of_any};
use crate::report::Report;
use crate::view::{View, list, text};

diagnosis! {
    /// NCCL uses sockets where the node has a faster network
    ///
    /// ## Signature
    /// NCCL's log says `Using network Socket`, and the pod asks for an RDMA or EFA device, or its node
    /// has one, or its variables name one.
    ///
    /// ## Cause
    /// The device was not asked for, the image lacks the network plugin (aws-ofi-nccl, GPUDirect), or
    /// `NCCL_IB_DISABLE=1` was left on.
    ///
    /// ## How to mend it
    /// Ask for the device's resource, use an image with the plugin, take the variable out.
    D38, Warning,
    needs: [Pods, Nodes, Logs],
    rules: ["TRN14", "TRN12"],
    yields_to: ["D36", "D37"],
    source: "NVIDIA/nccl: its log; aws/aws-ofi-nccl README",
    check: check,
}

fn is_fast(resource: &str) -> bool {
    resource.starts_with("rdma/")
        || resource.starts_with("vpc.amazonaws.com/efa")
        || resource.contains("rdma")
}

fn check(view: &View<'_>, report: &mut Report) {
    for hit in of_any(view, |line| has_all(line, &["nccl info using network socket"])) {
        if hit.pod.has_ended() || hit.pod.object.is_ending() {
            continue;
        }
        let asked = hit.pod.requests().into_keys().find(|name| is_fast(name));
        let node = view.node(hit.pod.node_name());
        let has = node.and_then(|node| {
            let of_node = node.allocatable.iter();
            of_node
                .into_iter()
                .find(|(name, count)| is_fast(name) && !count.is_zero())
                .map(|(name, _)| *name)
        });
        let env = list(hit.container.spec, "/env").iter().find(|it| {
            matches!(text(it, "/name"), "FI_PROVIDER" | "NCCL_IB_HCA" | "NCCL_IB_DISABLE")
        });
        let (why, fix) = match (&asked, has, env) {
            (_, _, Some(env))
                if text(env, "/name") == "NCCL_IB_DISABLE"
                    && text(env, "/value") == "1"
                    && (asked.is_some() || has.is_some()) =>
            {
                ("`NCCL_IB_DISABLE=1` is set".to_owned(), "take `NCCL_IB_DISABLE` out")
            }
            (Some(asked), ..) => (
                format!("it has `{asked}`, and NCCL finds no plugin for it"),
                "use an image with the network's NCCL plugin (aws-ofi-nccl for EFA)",
            ),
            (None, Some(has), _) => (
                format!("its node has `{has}`, which the pod does not ask for"),
                "ask for the device's resource in the container's limits, with `IPC_LOCK`",
            ),
            (None, None, Some(env)) if text(env, "/name") != "NCCL_IB_DISABLE" => (
                format!(
                    "`{}` is set, but neither pod nor node has such a device",
                    text(env, "/name")
                ),
                "use nodes with the device, or take the variable out",
            ),
            _ => continue,
        };
        let finding =
            report.at(hit.pod.object.reference(), format!("NCCL uses plain sockets: {why}"));
        finding.sure(Confidence::Likely);
        finding.hit(&hit);
        if let (Some(node), Some(has)) = (node, has) {
            finding.field(node.object, &format!("/status/allocatable/{}", has.replace('/', "~1")));
        }
        if let Some(env) = env {
            finding.value(
                hit.pod.object,
                &format!("spec.containers[{}].env", hit.container.name()),
                env.clone(),
            );
        }
        finding.advise(fix);
    }
}
