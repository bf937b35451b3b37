use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::{Hit, has_all};
use crate::report::Report;
use crate::view::View;

use super::peers::{by_job, pods};

diagnosis! {
    /// Workers wait for a world size that they do not add up to
    ///
    /// ## Signature
    /// Logs of a rendezvous or of `init_process_group` say that it waits for clients or workers, or
    /// that it timed out with fewer than the world size; and the numbers in the manifest do not agree.
    ///
    /// ## Cause
    /// `WORLD_SIZE` or `--nnodes` × `--nproc-per-node` is another number than pods × GPUs, or some
    /// workers never started.
    ///
    /// ## How to mend it
    /// Make the numbers agree; see why workers are missing.
    D39, Error,
    needs: [Pods, Logs],
    rules: ["TRN17", "GPU15", "TRN15"],
    yields_to: ["D35", "D36", "D09"],
    source: "pytorch/pytorch, c10d store and elastic rendezvous: their messages",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let is_waiting = |line: &str| {
        has_all(line, &["timed out after", "clients joined"])
            || has_all(line, &["rendezvoustimeouterror"])
            || has_all(line, &["waiting for", "world size"])
            || has_all(line, &["world_size", "mismatch"])
            || has_all(line, &["world size", "mismatch"])
            || has_all(line, &["rank", "out of range", "world"])
            || has_all(line, &["expected", "workers", "rendezvous"])
            || has_all(line, &["timed out initializing process group", "store"])
    };
    for (job, hits) in by_job(view, is_waiting) {
        let Some(first) = hits.first() else { continue };
        let world = declared(first);
        let pods_of_job: Vec<_> = view
            .pods()
            .iter()
            .filter(|pod| !pod.has_ended() && view.top(pod.object).reference() == job)
            .collect();
        let running = pods_of_job.iter().filter(|pod| pod.phase() == "Running").count();
        let devices: i64 =
            pods_of_job.iter().flat_map(|pod| pod.gpus()).map(|(_, count)| count.units()).sum();
        // A rank for each GPU, or for each pod where there are none.
        let ranks =
            if devices > 0 { devices } else { i64::try_from(pods_of_job.len()).unwrap_or(0) };
        let message = match world {
            Some((_, world)) if world != ranks => format!(
                "its workers wait for {world} ranks, and its {} pods have {ranks}",
                pods_of_job.len()
            ),
            _ if running < pods_of_job.len() => format!(
                "its workers wait for each other: {running} of {} pods run",
                pods_of_job.len()
            ),
            _ => "its workers wait for more ranks than come".to_owned(),
        };
        let is_certain = world.is_some_and(|(_, world)| world != ranks);
        let finding = report.at(job.clone(), message);
        finding.sure(if is_certain { Confidence::Certain } else { Confidence::Likely });
        finding.also(pods(&hits, &job));
        for hit in hits.iter().take(3) {
            finding.hit(hit);
        }
        if let Some((name, world)) = world {
            finding.value(
                first.pod.object,
                &format!("spec.containers[{}].{name}", first.container.name()),
                world,
            );
        }
        finding.because(format!("{} pods with {devices} GPUs together", pods_of_job.len()));
        finding.advise(
            "set WORLD_SIZE (or nnodes × nproc-per-node) to the number of pods × GPUs of each",
        );
        if running < pods_of_job.len() {
            finding.advise("see why the other pods do not run: they have diagnoses of their own");
        }
    }
}

/// The world size that a manifest says, and where.
fn declared(hit: &Hit<'_>) -> Option<(&'static str, i64)> {
    let env = |name: &str| hit.container.env(name)?.parse::<i64>().ok();
    if let Some(world) = env("WORLD_SIZE") {
        return Some(("env[WORLD_SIZE]", world));
    }
    let words: Vec<&str> = ["/command", "/args"]
        .iter()
        .flat_map(|list| crate::view::list(hit.container.spec, list))
        .filter_map(|it| it.as_str())
        .flat_map(str::split_whitespace)
        .collect();
    let flag = |names: &[&str]| {
        words.iter().enumerate().find_map(|(at, word)| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let value = if value.is_empty() { words.get(at.checked_add(1)?)? } else { value };
            names.contains(&name).then(|| value.parse::<i64>().ok()).flatten()
        })
    };
    let nodes = flag(&["--nnodes", "--num_nodes", "--num_machines"])?;
    let each = flag(&["--nproc-per-node", "--nproc_per_node"]).unwrap_or(1);
    Some(("args[nnodes × nproc-per-node]", nodes.saturating_mul(each)))
}
