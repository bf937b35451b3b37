use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any};
use crate::report::Report;
use crate::view::{View, list};

use super::peers::{by_job, pods};

diagnosis! {
    /// NCCL cannot set up its RDMA resources
    ///
    /// ## Signature
    /// Logs say `unhandled system error` of `ncclCommInitRank`, `ibv_reg_mr` or `ibv_create_qp` that
    /// fails, or `Cannot allocate memory` of an InfiniBand call.
    ///
    /// ## Cause
    /// The container may not lock memory (no `IPC_LOCK`, a small memlock limit), or has no RDMA device
    /// though its variables ask for one.
    ///
    /// ## How to mend it
    /// Ask for the RDMA device's resource and add the capability `IPC_LOCK`.
    D37, Error,
    needs: [Pods, Logs],
    rules: ["TRN14"],
    yields_to: ["D36", "D35"],
    source: "vllm-project/vllm and NVIDIA/nccl: their messages",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let is_system_error = |line: &str| {
        has_all(line, &["nccl", "unhandled system error"])
            || has_any(line, &["ibv_reg_mr", "ibv_create_qp", "ibv_create_cq", "ibv_alloc_pd"])
                && has_any(line, &["failed", "cannot allocate memory", "error"])
            || has_any(line, &["call to ibv_"]) && has_any(line, &["failed"])
    };
    for (job, hits) in by_job(view, is_system_error) {
        let Some(first) = hits.first() else { continue };
        let capabilities = list(first.container.spec, "/securityContext/capabilities/add");
        let locks = capabilities.iter().any(|it| it == "IPC_LOCK" || it == "CAP_IPC_LOCK")
            || first.container.spec.pointer("/securityContext/privileged") == Some(&true.into());
        let requests = first.pod.requests();
        let device = requests.keys().find(|name| {
            name.starts_with("rdma/")
                || name.starts_with("vpc.amazonaws.com/efa")
                || name.contains("rdma")
                || name.contains("mlnx")
        });
        let why = match (locks, device) {
            (false, None) => "it may not lock memory (`IPC_LOCK`) and asks for no RDMA device",
            (false, Some(_)) => "it may not lock memory (`IPC_LOCK`)",
            (true, None) => "it asks for no RDMA device",
            (true, Some(_)) => {
                "the device is there; the limit for locked memory or the host's driver is next"
            }
        };
        let finding = report.at(job.clone(), format!("NCCL cannot set up its network: {why}"));
        finding.sure(if locks && device.is_some() {
            Confidence::Possible
        } else {
            Confidence::Likely
        });
        finding.also(pods(&hits, &job));
        for hit in hits.iter().take(3) {
            finding.hit(hit);
        }
        let container = first.container.name();
        finding.value(
            first.pod.object,
            &format!("spec.containers[{container}].securityContext"),
            first.container.spec.get("securityContext").cloned().unwrap_or_default(),
        );
        if !locks {
            finding.advise("add `securityContext.capabilities.add: [IPC_LOCK]` to the container");
        }
        if device.is_none() {
            finding.advise("ask for the RDMA device's resource (`rdma/…`, `vpc.amazonaws.com/efa`), or set `NCCL_IB_DISABLE=1` to use sockets");
        } else {
            finding.advise("raise the container runtime's memlock limit (`LimitMEMLOCK=infinity`)");
        }
    }
}
