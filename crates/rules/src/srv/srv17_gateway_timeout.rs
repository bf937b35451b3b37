use super::load_time;
use crate::context::Context;
use crate::model::{Object, Selector};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Gateway that gives up before the answer is there
    ///
    /// ## What it does
    /// Looks at timeouts below a minute that routes set (HTTPRoute, VirtualService, GCPBackendPolicy,
    /// annotations of ingress controllers) in front of servers of generated text.
    ///
    /// ## Why it matters
    /// A long answer takes a minute and more. The gateway cuts it off at its timeout: the client gets
    /// 504, and the GPU goes on to generate what nobody reads.
    ///
    /// ## How to fix it
    /// Raise the timeout above the longest answer, for example to 300 s.
    SRV17, Warning,
    evidence: "gateway-api.sigs.k8s.io, HTTPRoute timeouts; kubernetes/ingress-nginx, annotations proxy-read-timeout; judgement",
    check: Check::Objects(&["HTTPRoute", "Ingress", "VirtualService", "GCPBackendPolicy"], check),
    examples: [
        Example::bad("15 s", "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
    - timeouts:
        request: 15s
      backendRefs: [{name: a, port: 80}]
---
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
", &[7]),
        Example::bad("an ingress", "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: i
  annotations:
    nginx.ingress.kubernetes.io/proxy-read-timeout: \"30\"
spec:
  defaultBackend: {service: {name: a, port: {number: 80}}}
---
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
", &[6]),
        Example::good("five minutes", "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
    - timeouts: {request: 300s}
      backendRefs: [{name: a, port: 80}]
---
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

/// Seconds that a long answer takes: 2,000 tokens at 35 a second.
const LONG_ANSWER: f64 = 60.0;

fn check(context: &Context<'_>, route: &Object<'_>, report: &mut Report) {
    let mut timeouts = Vec::new();
    match route.kind {
        "Ingress" => {
            for key in ["proxy-read-timeout", "proxy-send-timeout"] {
                timeouts.push(route.annotation(&format!("nginx.ingress.kubernetes.io/{key}")));
            }
        }
        "GCPBackendPolicy" => timeouts.push(route.spec().path("default.timeoutSec")),
        "HTTPRoute" => {
            for rule in route.spec().get("rules").items() {
                timeouts.push(rule.path("timeouts.request"));
                timeouts.push(rule.path("timeouts.backendRequest"));
            }
        }
        _ => timeouts.extend(route.spec().get("http").items().map(|rule| rule.get("timeout"))),
    }
    timeouts.retain(|node| node.is_set());
    if timeouts.is_empty() || !serves_text(context, route) {
        return;
    }
    for node in timeouts {
        let Some(seconds) = node.duration().or_else(|| node.str().trim().parse().ok()) else {
            continue;
        };
        // 0 switches the timeout off.
        if seconds <= 0.0 || seconds >= LONG_ANSWER {
            continue;
        }
        report
            .at(
                node,
                format!("answers that take longer than {seconds} s are cut off with 504, while the GPU goes on: this route's timeout is below a long answer's time"),
            )
            .fix("raise it above the longest answer, for example to 300 s");
    }
}

/// Whether a route leads to a server of generated text.
fn serves_text(context: &Context<'_>, route: &Object<'_>) -> bool {
    let mut names = Vec::new();
    backends(route.spec(), 0, &mut names);
    names.into_iter().any(|(kind, name)| match kind {
        "InferencePool" => true,
        "Service" => {
            let Some(service) = context.bundle.find("Service", route.namespace, name, route.root)
            else {
                return false;
            };
            let selector = Selector::plain(service.spec().get("selector"));
            !selector.is_empty()
                && context
                    .bundle
                    .pods_selected(&selector, service.namespace, service.root)
                    .iter()
                    .any(|pod| pod.server().is_some_and(load_time::streams))
        }
        _ => false,
    })
}

/// Names of what a route leads to, in the shapes of its kinds, and their kinds.
fn backends<'b>(node: Node<'b>, depth: usize, into: &mut Vec<(&'b str, &'b str)>) {
    if depth > 8 {
        return;
    }
    for entry in node.entries() {
        match entry.key {
            "backendRefs" => into.extend(entry.value.items().map(|backend| {
                (backend.get("kind").text().unwrap_or("Service"), backend.get("name").str())
            })),
            "targetRef" => {
                into.push((entry.value.get("kind").str(), entry.value.get("name").str()))
            }
            "service" if entry.value.is_map() => {
                into.push(("Service", entry.value.get("name").str()))
            }
            "destination" => {
                let host = entry.value.get("host").str();
                into.push(("Service", host.split('.').next().unwrap_or_default()));
            }
            _ => backends(entry.value, depth + 1, into),
        }
    }
    for item in node.items() {
        backends(item, depth + 1, into);
    }
}
