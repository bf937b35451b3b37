use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any};
use crate::report::Report;
use crate::view::{View, list, text};

use super::peers::{by_job, pods};

diagnosis! {
    /// Workers cannot reach each other on the interface that they chose
    ///
    /// ## Signature
    /// Logs of NCCL or Gloo say that a connection to a peer timed out, was refused, or has no route.
    ///
    /// ## Cause
    /// The first interface that was found is not the one that connects the pods (a bridge, a second
    /// network card), a NetworkPolicy closes the ports between them, or the path's MTU is smaller.
    ///
    /// ## How to mend it
    /// Set `NCCL_SOCKET_IFNAME` and `GLOO_SOCKET_IFNAME`; allow all ports between the job's pods.
    D36, Error,
    needs: [Pods, Logs],
    rules: ["TRN13", "TRN16"],
    yields_to: ["D35"],
    source: "NVIDIA/nccl#706, NVIDIA/nccl-tests#15; vllm-project/vllm, troubleshooting",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let is_unreachable = |line: &str| {
        let names_library = has_any(line, &["nccl", "gloo", "misc/socket", "net.cc", "socket.cc"]);
        names_library
            && (has_all(line, &["connect", "timed out"])
                || has_all(line, &["connection refused"])
                || has_all(line, &["no route to host"])
                || has_all(line, &["socketstartconnect"])
                || has_all(line, &["recv", "timed out"])
                || has_all(line, &["connection closed by remote peer"]))
            && !has_any(line, &["watchdog"])
    };
    for (job, hits) in by_job(view, is_unreachable) {
        let Some(first) = hits.first() else { continue };
        let interface = view.logs_of(&first.pod).iter().flat_map(|it| &it.lines).find_map(|line| {
            let (_, rest) = line.split_once("NCCL INFO Bootstrap : Using ")?;
            Some((line, rest.split([':', '<', ' ']).next()?.to_owned()))
        });
        let env = list(first.container.spec, "/env")
            .iter()
            .find(|it| matches!(text(it, "/name"), "NCCL_SOCKET_IFNAME" | "GLOO_SOCKET_IFNAME"));
        let on = interface.as_ref().map_or_else(String::new, |(_, name)| format!(" on `{name}`"));
        let finding = report.at(job.clone(), format!("its workers cannot reach each other{on}"));
        finding.sure(Confidence::Likely).also(pods(&hits, &job));
        for hit in hits.iter().take(3) {
            finding.hit(hit);
        }
        if let Some((line, _)) = &interface {
            finding.log(first.tail, line);
        }
        match env {
            Some(env) => finding.value(
                first.pod.object,
                &format!("spec.containers[{}].env", first.container.name()),
                env.clone(),
            ),
            None => finding.because("neither NCCL_SOCKET_IFNAME nor GLOO_SOCKET_IFNAME is set"),
        };
        for policy in view.of_kind("NetworkPolicy") {
            let chooses = policy.namespace() == first.pod.object.namespace()
                && crate::schedule::selects(policy.at("/spec/podSelector"), |key| {
                    first.pod.object.label(key)
                });
            if chooses {
                finding.because(format!("{} chooses the pods", policy.reference()));
            }
        }
        finding.advise("set `NCCL_SOCKET_IFNAME=eth0` and `GLOO_SOCKET_IFNAME=eth0` (the pod network's interface)");
        finding.advise("allow all ports between the job's pods in its NetworkPolicy");
    }
}
