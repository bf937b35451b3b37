use crate::context::Context;
use crate::model::{FrameworkKind, Object};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Service called vllm
    ///
    /// ## What it does
    /// Looks for Services called `vllm` in the namespace of pods that run vLLM and have not switched
    /// off service links.
    ///
    /// ## Why it matters
    /// Kubernetes gives every pod of the namespace variables of its Services: a Service `vllm` makes
    /// `VLLM_PORT=tcp://10.…`. vLLM reads `VLLM_PORT` as a number and does not start.
    ///
    /// ## How to fix it
    /// Give the Service another name, or set `enableServiceLinks: false` in the pod.
    SRV15, Error,
    evidence: "docs.vllm.ai, environment variables: do not name the service vllm",
    check: Check::Objects(&["Service"], check),
    examples: [
        Example::bad("the name", "\
apiVersion: v1
kind: Service
metadata: {name: vllm}
spec:
  selector: {app: a}
  ports: [{port: 8000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
", &[3]),
        Example::good("links are off", "\
apiVersion: v1
kind: Service
metadata: {name: vllm}
spec:
  selector: {app: a}
  ports: [{port: 8000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      enableServiceLinks: false
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("another name", "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: a}
  ports:
    - port: 80
      targetPort: 8000
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

fn check(context: &Context<'_>, service: &Object<'_>, report: &mut Report) {
    let renamed = context.bundle.is_renamed(service);
    if service.name != "vllm" || !service.group().is_empty() || renamed {
        return;
    }
    let bundle = context.bundle;
    let hit = bundle.pods_near(service.namespace, service.root).find(|pod| {
        pod.spec.get("enableServiceLinks").bool() != Some(false)
            && pod
                .main_containers()
                .any(|c| c.is(FrameworkKind::Vllm) && c.env("VLLM_PORT").is_none())
    });
    let Some(pod) = hit else { return };
    report
        .at(
            service.metadata().get("name"),
            format!("vLLM in {} does not start: this Service's name gives it `VLLM_PORT=tcp://…`, which vLLM reads as a port number", pod.describe()),
        )
        .fix("give the Service another name, or set `enableServiceLinks: false` in the pod");
}
