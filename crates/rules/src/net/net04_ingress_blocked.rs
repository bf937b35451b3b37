use crate::context::Context;
use crate::model::{Object, Pod, allows_anybody, allows_port};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Ingress policy blocks the gateway or Prometheus
    ///
    /// ## What it does
    /// For pods whose metrics are read (PodMonitor, ServiceMonitor) or which a route (HTTPRoute,
    /// Ingress) leads to: looks whether a network policy isolates them, and no rule of any policy
    /// lets others than chosen pods of the same namespace reach the port.
    ///
    /// Silent where a rule has a peer that may be the caller: another namespace, an address, or
    /// labels that speak of a gateway or of monitoring.
    ///
    /// ## Why it matters
    /// Prometheus and gateways run in namespaces of their own. Metrics stay empty, so autoscalers
    /// and alerts see nothing; requests through the gateway time out.
    ///
    /// ## How to fix it
    /// Add an ingress rule with a `namespaceSelector` for the caller's namespace and the port.
    NET04, Warning,
    evidence: "kubernetes/website, concepts/services-networking/network-policies: a podSelector alone selects in the policy's namespace",
    check: Check::Pod(check),
    examples: [
        Example::bad("metrics on a port that nobody may reach", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: llm}}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      ports: [{name: http, containerPort: 8000}]
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: a}
spec:
  selector: {matchLabels: {app: llm}}
  podMetricsEndpoints: [{port: http}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: llm}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector: {matchLabels: {app: web}}
", &[23]),
        Example::bad("a route to a server that only its neighbours may reach", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: llm}}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      ports: [{name: http, containerPort: 8000}]
---
apiVersion: v1
kind: Service
metadata: {name: llm}
spec:
  selector: {app: llm}
  ports: [{port: 80, targetPort: 8000}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a}
spec:
  rules:
    - backendRefs: [{name: llm, port: 80}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: llm}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector: {matchLabels: {app: web}}
", &[30]),
        Example::good("Prometheus may come in", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: llm}}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      ports: [{name: http, containerPort: 8000}]
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: a}
spec:
  selector: {matchLabels: {app: llm}}
  podMetricsEndpoints: [{port: http}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: llm}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
      ports: [{port: http}]
"),
        Example::good("no policy isolates the pod", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: llm}}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      ports: [{name: http, containerPort: 8000}]
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: a}
spec:
  selector: {matchLabels: {app: llm}}
  podMetricsEndpoints: [{port: http}]
"),
    ],
}

/// A port of a pod that somebody from outside of its namespace calls.
struct Called<'b> {
    /// Who calls: "Prometheus", "the gateway".
    caller: &'static str,
    /// The object that says so.
    because: String,
    number: i64,
    name: &'b str,
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let bundle = context.bundle;
    if pod.labels().is_empty() || pod.spec.get("hostNetwork").bool() == Some(true) {
        return;
    }
    let Some(mut policies) = bundle.policies_of(pod) else { return };
    policies.retain(|policy| policy.isolates_ingress);
    let near = policies.iter().find(|policy| bundle.distance(policy.object.root, pod.spec) <= 1);
    let Some(policy) = near else { return };
    for called in scraped(context, pod).into_iter().chain(routed(context, pod)) {
        let open = policies
            .iter()
            .flat_map(|policy| policy.ingress())
            .any(|rule| admits(rule, called.number, called.name));
        if open {
            continue;
        }
        let ingress = policy.object.spec().get("ingress");
        let at = if ingress.is_set() { ingress } else { policy.selector.node };
        report
            .at(
                at,
                format!(
                    "this policy keeps {} from port {} of {}, which {} asks for: no rule lets callers of another namespace in on it",
                    called.caller,
                    called.number,
                    pod.describe(),
                    called.because
                ),
            )
            .fix("add a rule with a `namespaceSelector` for the caller's namespace and this port");
        return;
    }
}

/// Whether a rule lets somebody in on a port who may live outside of the namespace.
fn admits(rule: Node<'_>, number: i64, name: &str) -> bool {
    if !allows_port(rule, "TCP", number, name) {
        return false;
    }
    let peers = rule.get("from");
    allows_anybody(peers) || peers.items().any(may_be_caller)
}

/// Words in labels of what calls from outside.
const CALLERS: [&str; 14] = [
    "prom",
    "monitor",
    "metric",
    "otel",
    "agent",
    "gateway",
    "ingress",
    "istio",
    "envoy",
    "nginx",
    "traefik",
    "kourier",
    "activator",
    "proxy",
];

fn may_be_caller(peer: Node<'_>) -> bool {
    if peer.get("namespaceSelector").is_set() || peer.get("ipBlock").is_set() {
        return true;
    }
    let pods = peer.get("podSelector");
    // All pods of the namespace: the caller may be one of them.
    pods.is_empty()
        || !pods.get("matchExpressions").is_empty()
        || pods.get("matchLabels").entries().any(|label| {
            CALLERS.iter().any(|word| label.key.contains(word) || label.value.str().contains(word))
        })
}

/// The ports that monitors have read.
fn scraped<'b>(context: &Context<'b>, pod: &Pod<'b>) -> Vec<Called<'b>> {
    let mut found = Vec::new();
    for monitor in context.bundle.monitors_of(pod) {
        let spec = monitor.spec();
        let endpoints =
            spec.get("podMetricsEndpoints").items().chain(spec.get("endpoints").items());
        for endpoint in endpoints {
            let port = ["port", "targetPort", "portNumber"]
                .iter()
                .map(|key| endpoint.get(key))
                .find(|port| port.is_set());
            let Some(port) = port else { continue };
            let of_service = monitor.kind.contains("Service") && endpoint.get("port").is_set();
            let port = if of_service { target(context, pod, port) } else { Some(port) };
            let Some((number, name)) = port.and_then(|port| port_of(pod, port)) else { continue };
            let because = format!("{} `{}`", monitor.kind, monitor.name);
            found.push(Called { caller: "Prometheus", because, number, name });
        }
    }
    found
}

/// The target of a named port of the Services of a pod.
fn target<'b>(context: &Context<'b>, pod: &Pod<'b>, name: Node<'_>) -> Option<Node<'b>> {
    context.bundle.services_of(pod).find_map(|service| {
        let mut ports = service.spec().get("ports").items();
        let port = ports.find(|port| port.get("name").text() == name.text())?;
        Some(target_of(port))
    })
}

fn target_of(port: Node<'_>) -> Node<'_> {
    let target = port.get("targetPort");
    if target.is_set() { target } else { port.get("port") }
}

/// Number and name of a port of a pod, either of which a text may say.
fn port_of<'b>(pod: &Pod<'b>, port: Node<'b>) -> Option<(i64, &'b str)> {
    let declared = || pod.main_containers().flat_map(|container| container.ports());
    match port.int() {
        Some(number) => {
            let name = declared().find(|port| port.number == Some(number)).map(|port| port.name);
            Some((number, name.unwrap_or_default()))
        }
        None => {
            let found = declared().find(|declared| port.is(declared.name))?;
            Some((found.number?, found.name))
        }
    }
}

/// The ports that routes lead to.
fn routed<'b>(context: &Context<'b>, pod: &Pod<'b>) -> Vec<Called<'b>> {
    let mut found = Vec::new();
    for service in context.bundle.services_of(pod) {
        let Some(route) = context.bundle.routes_to(service).next() else { continue };
        let because = format!("{} `{}`", route.kind, route.name);
        for port in service.spec().get("ports").items() {
            if !leads_to(route, service, port) {
                continue;
            }
            if let Some((number, name)) = port_of(pod, target_of(port)) {
                found.push(Called { caller: "the gateway", because, number, name });
                break;
            }
        }
    }
    found
}

/// Whether a route names a port of a Service: by number or name, or by naming none.
fn leads_to(route: &Object<'_>, service: &Object<'_>, port: Node<'_>) -> bool {
    crate::model::backends(route).any(|backend| {
        backend.service.is(service.name)
            && (!backend.port.is_set()
                || backend.port.text() == port.get("port").text()
                || backend.port.text() == port.get("name").text())
    })
}
