use serde_json::Value;

use crate::answer::{Confidence, Evidence, ObjectRef};
use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::{View, list, number, text};

use super::d40_idle_gpu::metric;
use super::gpu_samples::{gpu_of, node_of};

diagnosis! {
    /// A GPU runs below its clock: heat or power
    ///
    /// ## Signature
    /// The exporter or the node's probe gives a reason for low clocks: thermal slowdown, hardware
    /// slowdown or power brake, power cap.
    ///
    /// ## Cause
    /// Cooling that fails, a rack at its limit of power, a power cap that somebody set.
    ///
    /// ## How to mend it
    /// Heat and power brake: have cooling and supply checked. Power cap: raise it if it was not meant.
    D41, Warning,
    needs: [Metrics, Probes],
    source: "NVIDIA, NVML: nvmlClocksEventReasons; NVIDIA/dcgm-exporter: DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
    check: check,
}

/// NVML's bits, the names of the probe, and what they mean; the first that is set is told.
const REASONS: [(u64, &str, &str); 5] = [
    (0x40, "hwThermalSlowdown", "the hardware slows it down because it is too hot"),
    (0x80, "hwPowerBrakeSlowdown", "the power supply's brake slows it down"),
    (0x08, "hwSlowdown", "the hardware slows it down (heat or power)"),
    (0x20, "swThermalSlowdown", "the driver slows it down because it is too hot"),
    (0x04, "swPowerCap", "it is at its power limit"),
];

fn check(view: &View<'_>, report: &mut Report) {
    for name in ["DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"] {
        for sample in view.samples(name) {
            // A bit field in a float: exact up to 2⁵³, and there are 9 bits.
            let bits = if sample.value.is_finite() && sample.value >= 0.0 {
                sample.value as u64
            } else {
                0
            };
            let (Some(node), Some(reason)) = (node_of(sample), reason(|bit, _| bits & bit != 0))
            else {
                continue;
            };
            let text = format!("{} runs below its clock: {}", gpu_of(sample), reason.2);
            tell(report, node, &text, reason.1, metric(sample));
        }
    }
    for sample in view.samples("DCGM_EXP_CLOCK_EVENTS_COUNT") {
        let event = sample.labels.get("clock_event").map_or("", String::as_str);
        let words = event.to_ascii_lowercase().replace('_', "");
        let known = REASONS.iter().find(|(_, name, _)| {
            sample.value > 0.0 && words.contains(&name.to_ascii_lowercase().replace("slowdown", ""))
        });
        let (Some(node), Some(reason)) = (node_of(sample), known) else { continue };
        let text = format!("{} runs below its clock: {}", gpu_of(sample), reason.2);
        tell(report, node, &text, reason.1, metric(sample));
    }
    for probe in view.probes() {
        for gpu in list(&probe.result, "/gpus") {
            let given = list(gpu, "/clocksEventReasons");
            let Some(reason) = reason(|_, name| given.iter().any(|it| it == name)) else {
                continue;
            };
            let index = number(gpu, "/index").unwrap_or(0);
            let evidence = Evidence::Probe {
                node: probe.node.clone(),
                path: format!("gpus[{index}].clocksEventReasons"),
                value: Value::Array(given.to_vec()),
            };
            let text =
                format!("GPU {index} ({}) runs below its clock: {}", text(gpu, "/name"), reason.2);
            tell(report, &probe.node, &text, reason.1, evidence);
        }
    }
}

fn reason(
    is_set: impl Fn(u64, &str) -> bool,
) -> Option<&'static (u64, &'static str, &'static str)> {
    REASONS.iter().find(|(bit, name, _)| is_set(*bit, name))
}

fn tell(report: &mut Report, node: &str, message: &str, reason: &str, evidence: Evidence) {
    let is_cap = reason == "swPowerCap";
    let finding = report.at(ObjectRef::new("Node", "", node), message);
    finding.sure(if is_cap { Confidence::Possible } else { Confidence::Likely });
    finding.evidence(evidence);
    if is_cap {
        finding.because("at full load this is the usual state; it matters where the limit is below the card's default");
        finding.advise("on the node: `nvidia-smi -q -d POWER` shows limit and default; `nvidia-smi -pl WATTS` sets it");
    } else {
        finding.advise("have the node's cooling and power supply checked; drain it if it goes on");
        finding.run(format!("kubectl cordon {node}"));
    }
}
