use crate::diagnosis::diagnosis;
use crate::matching::has_any;
use crate::report::Report;
use crate::view::{View, list, text};

diagnosis! {
    /// An autoscaler gets no metrics, so it scales nothing
    ///
    /// ## Signature
    /// A HorizontalPodAutoscaler whose condition `ScalingActive` is false with a reason such as
    /// `FailedGetResourceMetric`; or whose `AbleToScale` is false because its target is not there.
    ///
    /// ## Cause
    /// A container without the request that a percentage is of; no metrics server or adapter; a metric
    /// that has another name now; pods that are not ready.
    ///
    /// ## How to mend it
    /// Set the request, install the adapter, correct the name.
    D43, Error,
    needs: [Resource("horizontalpodautoscalers.autoscaling")],
    rules: ["SCL03", "SCL09"],
    source: "kubernetes/kubernetes, HPA controller: its conditions",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for autoscaler in view.of_kind("HorizontalPodAutoscaler") {
        let active =
            autoscaler.condition("ScalingActive").filter(|it| text(it, "/status") == "False");
        let able = autoscaler.condition("AbleToScale").filter(|it| text(it, "/status") == "False");
        let (name, condition) = match (active, able) {
            (Some(it), _) => ("ScalingActive", it),
            (_, Some(it)) => ("AbleToScale", it),
            _ => continue,
        };
        let (reason, message) = (text(condition, "/reason"), text(condition, "/message"));
        if !(reason.starts_with("FailedGet")
            || reason.starts_with("InvalidMetric")
            || reason == "InvalidSelector")
        {
            // Zero replicas stop it on purpose.
            continue;
        }
        let target = view.find(
            autoscaler.text("/spec/scaleTargetRef/kind"),
            autoscaler.namespace(),
            autoscaler.text("/spec/scaleTargetRef/name"),
        );
        let says = |parts: &[&str]| has_any(message, parts);
        let (why, fix) = if reason == "FailedGetScale" {
            ("what it scales is not there", "correct `scaleTargetRef`".to_owned())
        } else if says(&["missing request for"]) {
            let resource = message.split("missing request for ").nth(1).unwrap_or_default();
            let resource = resource.split([' ', ';']).next().unwrap_or_default();
            (
                "a container has no request that a percentage could be of",
                format!("set `requests.{resource}` on all containers of the target"),
            )
        } else if says(&[
            "could not find the requested resource",
            "the server is currently unable",
            "no matches for",
            "no custom metrics api",
            "no external metrics api",
        ]) {
            ("the metrics API does not answer", "install the metrics server (resource metrics) or an adapter (custom and external metrics), or look at its pods".to_owned())
        } else if says(&[
            "no metrics returned",
            "did not receive metrics",
            "no metrics returned from",
        ]) {
            (
                "its pods have no metrics (yet)",
                "see that the pods run and are ready, and that the metric is scraped from them"
                    .to_owned(),
            )
        } else {
            ("the metric cannot be read", "correct the metric's name and selector".to_owned())
        };
        let finding = report.at(autoscaler.reference(), format!("scales nothing: {why}"));
        finding.also(target.map(|it| it.reference()));
        finding.value(*autoscaler, &format!("status.conditions.{name}.reason"), reason);
        finding.value(*autoscaler, &format!("status.conditions.{name}.message"), message);
        if let Some(target) = target {
            for container in list(target.0, "/spec/template/spec/containers") {
                finding.value(
                    target,
                    &format!(
                        "spec.template.spec.containers[{}].resources.requests",
                        text(container, "/name")
                    ),
                    container.pointer("/resources/requests").cloned().unwrap_or_default(),
                );
            }
        }
        finding.advise(fix);
    }
}
