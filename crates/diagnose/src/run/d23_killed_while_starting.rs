use serde_json::{Value, json};

use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::has_any;
use crate::patch;
use crate::report::Report;
use crate::view::{Container, Pod, View, number, seconds, text};

diagnosis! {
    /// A probe kills the container before it has loaded
    ///
    /// ## Signature
    /// A container that has restarted and never become ready; events `Unhealthy` and `Killing` of its
    /// startup probe, or of its liveness probe where it has no startup probe. A server's log ends with
    /// `KeyboardInterrupt` or a signal, not with an error.
    ///
    /// ## Cause
    /// `initialDelaySeconds` and `failureThreshold` × `periodSeconds` together are shorter than loading
    /// the model takes.
    ///
    /// ## How to mend it
    /// Give it a startup probe whose threshold covers the load time. The time that another replica took
    /// is used where there is one, else twice the budget that was too short.
    D23, Error,
    needs: [Pods, Events],
    rules: ["SRV01", "SRV02"],
    yields_to: ["D24"],
    source: "vllm-project/vllm, docs/deployment/k8s.md; kubernetes/website, startup probes",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods().iter().filter(|pod| !pod.has_ended() && !pod.object.is_ending()) {
        for container in pod.containers() {
            look(view, pod, &container, report);
        }
    }
}

fn look<'a>(view: &View<'a>, pod: &Pod<'a>, container: &Container<'a>, report: &mut Report) {
    // The kubelet ends a container by SIGTERM, later by SIGKILL; a server may end with 0 or 1 then.
    let ended = container.ended();
    let oom = ended.is_some_and(|(ended, _)| text(ended, "/reason") == "OOMKilled");
    if container.restarts() == 0
        || oom
        || container.status.pointer("/ready") == Some(&Value::Bool(true))
    {
        return;
    }
    let own: Vec<_> = view
        .events_of(pod.object)
        .iter()
        .filter(|event| event.container() == container.name())
        .collect();
    let has_startup = container.spec.pointer("/startupProbe").is_some();
    let (name, words) = if has_startup {
        ("startupProbe", ["startup probe"])
    } else {
        ("livenessProbe", ["liveness probe"])
    };
    let failed = own.iter().find(|it| it.reason == "Unhealthy" && has_any(it.message, &words));
    let killed = own.iter().find(|it| it.reason == "Killing" && has_any(it.message, &words));
    let (Some(failed), Some(killed)) = (failed, killed) else { return };
    let Some(probe) = container.spec.pointer(&format!("/{name}")) else { return };
    let of = |field: &str, default: i64| number(probe, field).unwrap_or(default).max(0);
    let period = of("/periodSeconds", 10).max(1);
    let budget = of("/initialDelaySeconds", 0)
        .saturating_add(period.saturating_mul(of("/failureThreshold", 3)));
    let lived = ended.and_then(|(ended, _)| {
        Some(
            seconds(text(ended, "/finishedAt"))?
                .saturating_sub(seconds(text(ended, "/startedAt"))?),
        )
    });
    let measured = load_time(view, pod, container);
    let wanted =
        measured.map_or(budget.saturating_mul(2), |time| time.saturating_mul(3) / 2).max(60);
    let log =
        view.logs_of(pod).iter().filter(|it| it.container == container.name()).find_map(|tail| {
            let is = |line: &&String| {
                has_any(
                    line,
                    &[
                        "keyboardinterrupt",
                        "sigterm",
                        "signal 15",
                        "shutting down",
                        "received signal",
                    ],
                )
            };
            Some((*tail, tail.lines.iter().rev().find(is)?))
        });
    let finding = report.at(
        pod.object.reference(),
        format!(
            "container `{}` is killed after {budget} s by its {}, before it has started up",
            container.name(),
            if has_startup {
                "startup probe"
            } else {
                "liveness probe (there is no startup probe)"
            },
        ),
    );
    finding.sure(if log.is_some() || has_startup {
        Confidence::Certain
    } else {
        Confidence::Likely
    });
    finding.event(failed).event(killed);
    finding.value(
        pod.object,
        &format!("spec.containers[{}].{name}", container.name()),
        probe.clone(),
    );
    if let Some(lived) = lived {
        finding.because(format!("its last run was ended after {lived} s"));
    }
    if let Some((tail, line)) = log {
        finding.log(tail, line);
    }
    match measured {
        Some(time) => finding.because(format!("another replica needed {time} s to become ready")),
        None => finding.because("no replica ever became ready, so the load time is not known"),
    };
    let mut startup = probe.clone();
    if let Some(fields) = startup.as_object_mut() {
        fields.remove("initialDelaySeconds");
        fields.insert("periodSeconds".to_owned(), json!(period));
        fields.insert(
            "failureThreshold".to_owned(),
            json!(wanted.div_euclid(period).saturating_add(1)),
        );
    }
    let change = json!({"containers": [{"name": container.name(), "startupProbe": startup}]});
    finding.mend(patch::pod_spec(view, pod, change));
}

/// Seconds from start to ready of another pod of the same controller.
fn load_time<'a>(view: &View<'a>, pod: &Pod<'a>, container: &Container<'a>) -> Option<i64> {
    let top = view.top(pod.object).reference();
    let others = view.pods().iter().filter(|other| {
        other.is_ready()
            && other.object.name() != pod.object.name()
            && view.top(other.object).reference() == top
    });
    others
        .filter_map(|other| {
            let ready = seconds(text(other.object.condition("Ready")?, "/lastTransitionTime"))?;
            let same = other.containers().into_iter().find(|it| it.name() == container.name())?;
            let started = seconds(text(same.status, "/state/running/startedAt"))?;
            Some(ready.saturating_sub(started)).filter(|time| *time > 0)
        })
        .max()
}
