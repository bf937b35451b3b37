use serde_json::json;

use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any, of_failed};
use crate::patch;
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// A Service's name makes a variable that the server reads as its own setting
    ///
    /// ## Signature
    /// A container failed, and its log cannot read a port out of `tcp://…`, or names `VLLM_PORT`; and
    /// the namespace has a Service of that name.
    ///
    /// ## Cause
    /// Kubernetes gives each container variables such as `VLLM_PORT=tcp://10.0.0.1:8000` for each
    /// Service of the namespace.
    ///
    /// ## How to mend it
    /// Set `enableServiceLinks: false`, or give the Service another name.
    D31, Error,
    needs: [Pods, Logs, Resource("services")],
    rules: ["SRV15"],
    source: "vllm-project/vllm, docs on environment variables",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let hits = of_failed(view, |line| {
        has_any(line, &["vllm_port"]) && has_any(line, &["tcp://", "uri", "invalid", "parse"])
            || has_all(line, &["invalid literal for int()", "tcp://"])
            || has_all(line, &["_port", "tcp://"])
    });
    for hit in hits {
        if hit.pod.object.at("/spec/enableServiceLinks") == Some(&false.into()) {
            continue;
        }
        let namespace = hit.pod.object.namespace();
        let services = view.of_kind("Service").iter().filter(|it| it.namespace() == namespace);
        let line = hit.line.to_ascii_uppercase();
        let service = services.into_iter().find(|it| {
            let variable = format!("{}_PORT", it.name().to_ascii_uppercase().replace('-', "_"));
            line.contains(&variable) || it.name() == "vllm"
        });
        let named = service.map_or("vllm", |it| it.name());
        let finding = report.at(
            hit.pod.object.reference(),
            format!("the Service `{named}` sets a variable that the server takes for its own port"),
        );
        finding.ended(&hit.pod, &hit.container).hit(&hit);
        if let Some(service) = service {
            finding.field(*service, "/metadata/name");
            finding.field(*service, "/spec/clusterIP");
        }
        finding.mend(patch::pod_spec(view, &hit.pod, json!({"enableServiceLinks": false})));
        finding.advise(format!("or give the Service `{named}` another name"));
    }
}
