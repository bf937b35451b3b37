use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::{Hit, has_any};
use crate::report::Report;
use crate::view::View;

use super::peers::{by_job, pods};

diagnosis! {
    /// A collective operation timed out: one rank is late or dead
    ///
    /// ## Signature
    /// Logs of a job's workers say `Watchdog caught collective operation timeout`.
    ///
    /// ## Cause
    /// All ranks wait for the one that did not come to the same operation: it failed, its input is
    /// slower, or its GPU or link is sick. It is the rank with the smallest sequence number, or the one
    /// without the message.
    ///
    /// ## How to mend it
    /// Look at that rank's pod and node first.
    D35, Error,
    needs: [Pods, Logs],
    rules: ["TRN12"],
    source: "pytorch/pytorch, ProcessGroupNCCL watchdog",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let is_timeout = |line: &str| has_any(line, &["watchdog caught collective operation timeout"]);
    for (job, hits) in by_job(view, is_timeout) {
        let late = late_rank(view, &job, &hits);
        let Some(first) = hits.first() else { continue };
        let message = match &late {
            Some(late) => format!(
                "a collective operation timed out on {} of its pods; {} is behind: {}",
                hits.len(),
                late.pod,
                late.why
            ),
            None => format!("a collective operation timed out on {} of its pods", hits.len()),
        };
        let finding = report.at(job.clone(), message);
        finding.sure(Confidence::Likely).also(pods(&hits, &job));
        for hit in hits.iter().take(4) {
            finding.hit(hit);
        }
        match late {
            Some(late) => {
                let node = if late.node.is_empty() {
                    "its node".to_owned()
                } else {
                    format!("node/{}", late.node)
                };
                finding.run(format!("kubectl -n {} logs {} --tail 100", job.namespace, late.name));
                finding.advise(format!("look at the node with `trainyard doctor {node}`"));
            }
            None => {
                finding.run(format!(
                    "kubectl -n {} logs {} --tail 100",
                    job.namespace,
                    first.pod.object.name()
                ));
                finding.advise("set `TORCH_NCCL_TRACE_BUFFER_SIZE=2000` and `TORCH_NCCL_DUMP_ON_TIMEOUT=1` to have each rank tell its last operation");
            }
        }
    }
}

struct Late {
    pod: String,
    name: String,
    node: String,
    why: String,
}

/// The worker whose sequence number is smallest, or which alone said nothing.
fn late_rank<'a>(view: &View<'a>, job: &crate::ObjectRef, hits: &[Hit<'a>]) -> Option<Late> {
    let late = |pod: &crate::view::Pod<'a>, why: String| Late {
        pod: pod.object.reference().to_string(),
        name: pod.object.name().to_owned(),
        node: pod.node_name().to_owned(),
        why,
    };
    let mut numbers: Vec<(u64, &Hit<'a>)> =
        hits.iter().filter_map(|hit| Some((sequence(hit.line)?, hit))).collect();
    numbers.sort_by_key(|(number, _)| *number);
    if let [(smallest, hit), (next, _), ..] = numbers.as_slice()
        && smallest < next
    {
        return Some(late(
            &hit.pod,
            format!("it is at operation {smallest}, others at {next} or later"),
        ));
    }
    let silent: Vec<_> = view
        .pods()
        .iter()
        .filter(|pod| view.top(pod.object).reference() == *job && !view.logs_of(pod).is_empty())
        .filter(|pod| !hits.iter().any(|hit| hit.pod.object.reference() == pod.object.reference()))
        .collect();
    match silent.as_slice() {
        [only] if hits.len() > 1 => Some(late(only, "it alone does not wait".to_owned())),
        _ => None,
    }
}

/// `SeqNum=42` of PyTorch's message.
fn sequence(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("SeqNum=")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
