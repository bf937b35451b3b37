use std::collections::BTreeMap;

use crate::answer::{Confidence, Evidence, ObjectRef};
use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::snapshot::Sample;
use crate::view::View;

use super::gpu_samples::pod_of;

diagnosis! {
    /// A GPU that a pod holds does nothing
    ///
    /// ## Signature
    /// A pod has run for more than 30 minutes, and the exporter says that all its GPUs are used at 1%
    /// or less.
    ///
    /// ## Cause
    /// A notebook that nobody uses, a job that hangs or waits for data, a server without requests.
    ///
    /// ## How to mend it
    /// See what the process does; free the GPU, or scale the service to zero when it is idle.
    D40, Warning,
    needs: [Pods, Metrics],
    rules: ["CST04", "GPU21"],
    yields_to: ["D35", "D36", "D39", "D42"],
    source: "NVIDIA/dcgm-exporter: DCGM_FI_DEV_GPU_UTIL, DCGM_FI_PROF_GR_ENGINE_ACTIVE; judgement for 30 minutes",
    check: check,
}

/// Seconds that a pod must have run.
const LONG: i64 = 30 * 60;

fn check(view: &View<'_>, report: &mut Report) {
    let mut of_pods: BTreeMap<ObjectRef, Vec<(&Sample, bool)>> = BTreeMap::new();
    // A share of time, from 0 to 100 and from 0 to 1.
    for (name, most) in [("DCGM_FI_DEV_GPU_UTIL", 1.0), ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.01)] {
        for sample in view.samples(name) {
            if let Some(pod) = pod_of(view, sample) {
                let list = of_pods.entry(pod.object.reference()).or_default();
                list.push((sample, sample.value <= most));
            }
        }
    }
    for (object, samples) in of_pods {
        let Some(pod) = view.pod(&object.namespace, &object.name) else { continue };
        let age = view.age(pod.object.text("/status/startTime"));
        let runs = pod.phase() == "Running" && age.is_some_and(|age| age > LONG);
        if !runs || pod.gpus().is_empty() || !samples.iter().all(|(_, is_idle)| *is_idle) {
            continue;
        }
        let minutes = age.unwrap_or(0) / 60;
        let held: Vec<String> = pod
            .gpus()
            .iter()
            .map(|(name, count)| format!("{} of `{name}`", count.as_f64()))
            .collect();
        let finding = report.at(
            object.clone(),
            format!(
                "holds {} and does not use it; it has run for {minutes} minutes",
                held.join(" and ")
            ),
        );
        finding.sure(Confidence::Likely);
        finding.field(pod.object, "/status/startTime");
        for (sample, _) in samples.iter().take(4) {
            finding.evidence(metric(sample));
        }
        finding.because("one sample says what is now; look again before you end anything");
        finding.run(format!(
            "kubectl -n {} exec {} -- sh -c 'py-spy dump --pid 1 || top -b -n 1'",
            object.namespace, object.name
        ));
        finding.advise("end it, or let an idle service go to zero replicas (`scaling.min: 0`)");
    }
}

pub(crate) fn metric(sample: &Sample) -> Evidence {
    Evidence::Metric {
        name: sample.name.clone(),
        labels: sample.labels.clone(),
        value: sample.value,
    }
}
