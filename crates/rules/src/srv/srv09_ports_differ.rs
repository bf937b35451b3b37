use crate::context::Context;
use crate::model::{Container, FrameworkKind, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Ports that do not meet
    ///
    /// ## What it does
    /// Follows ports from Services and probes to containers: names that no container declares, numbers
    /// of probes and Services on which a server that is known by name does not listen (its port flag,
    /// or its default), and on servers a Service's number that no container of the pod declares.
    ///
    /// ## Why it matters
    /// Nobody answers on the port. The Service gives "connection refused", or the probe fails and the
    /// container never becomes ready.
    ///
    /// ## How to fix it
    /// Write the port on which the server listens in all of these places; best give it a name in the
    /// container and use the name everywhere else.
    SRV09, Error,
    evidence: "kubernetes/website, docs/concepts/services-networking/service, targetPort; default ports in data/lint/frameworks.json",
    check: Check::Pod(check),
    examples: [
        Example::bad("the probe asks another port", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      readinessProbe:
        httpGet:
          path: /health
          port: 8080
", &[11]),
        Example::bad("the Service's number is nobody's", "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: a}
  ports:
    - port: 80
      targetPort: 8080
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
          ports: [{containerPort: 8000}]
", &[8]),
        Example::bad("a name that is not declared", "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: a}
  ports:
    - port: 80
      targetPort: web
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
          ports: [{containerPort: 8000, name: http}]
", &[8]),
        Example::good("all meet", "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: a}
  ports:
    - port: 80
      targetPort: http
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
          args: [--port, \"9000\"]
          ports: [{containerPort: 9000, name: http}]
          readinessProbe: {httpGet: {port: http}}
"),
        Example::good("another container answers", "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: a}
  ports:
    - port: 80
      targetPort: 8080
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
          ports: [{containerPort: 8000}]
        - name: proxy
          image: envoyproxy/envoy:v1.30.0
          ports: [{containerPort: 8080}]
"),
        Example::good("a port that is filled in later", "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: a}
  ports:
    - port: 80
      targetPort: ${port}
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
          ports: [{containerPort: 8000}]
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if !(pod.serves() || pod.has_accelerator()) {
        return;
    }
    for container in pod.main_containers() {
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            probe_port(pod, container, container.probe(probe), report);
        }
    }
    if pod.complete {
        service_ports(context, pod, report);
    }
}

fn probe_port(pod: &Pod<'_>, container: &Container<'_>, probe: Node<'_>, report: &mut Report) {
    let handlers = [probe.get("httpGet"), probe.get("tcpSocket"), probe.get("grpc")];
    let Some(handler) = handlers.into_iter().find(|handler| handler.is_map()) else { return };
    // A probe may ask another host, or another container of the pod, which shares its network.
    if handler.get("host").is_set() {
        return;
    }
    let port = handler.get("port");
    let Some(text) = port.text().filter(|text| !text.contains(['$', '{', '<'])) else { return };
    let Ok(number) = text.parse::<i64>() else {
        if pod.complete && container.ports().all(|declared| declared.name != text) {
            report
                .at(
                    port,
                    format!(
                        "the probe fails for ever: container `{}` declares no port called `{text}`",
                        container.name
                    ),
                )
                .fix("name one of its ports so, or write the number");
        }
        return;
    };
    let Some(listens) = listening(container).filter(|listens| *listens != number) else { return };
    if others_declare(pod, container, number) {
        return;
    }
    let software = container.framework.map_or("the server", |found| found.name());
    report
        .at(port, format!("the probe fails for ever: {software} listens on {listens}, and it asks port {number}"))
        .fix(format!("ask port {listens}"));
}

fn service_ports(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    for service in context.bundle.services_of(pod) {
        if context.bundle.distance(service.root, pod.spec) > 1 {
            continue;
        }
        for port in service.spec().get("ports").items() {
            let target = port.get("targetPort");
            let target = if target.is_set() { target } else { port.get("port") };
            // A placeholder is filled in later, and may be a number.
            let filled = |text: &&str| !text.contains(['$', '{', '<']);
            let Some(text) = target.text().filter(filled) else { continue };
            let which = match port.get("port").text() {
                Some(own) if service.spec().get("ports").len() > 1 => {
                    format!("port {own} of the Service")
                }
                _ => "the Service".to_owned(),
            };
            // One Service may stand before pods of several kinds.
            let selector = crate::model::Selector::plain(service.spec().get("selector"));
            let selected = context.bundle.pods_selected(&selector, service.namespace, service.root);
            if selected.iter().any(|other| other.object.index != pod.object.index) {
                continue;
            }
            let declared = || pod.containers.iter().flat_map(Container::ports);
            let Ok(number) = text.parse::<i64>() else {
                if declared().all(|declared| declared.name != text) {
                    report
                        .at(target, format!("{which} reaches nobody: no container of {} declares a port called `{text}`", pod.describe()))
                        .fix("name the container's port so, or write its number");
                }
                continue;
            };
            let is_declared = declared().any(|declared| declared.number == Some(number));
            let mut servers = pod.main_containers();
            let (first, more) = (servers.next(), servers.next());
            let alone = first.filter(|_| more.is_none());
            if let Some(listens) = alone.and_then(listening).filter(|listens| *listens != number) {
                let software = alone.and_then(|c| c.framework).map_or("the server", |f| f.name());
                report
                    .at(target, format!("{which} gets \"connection refused\": {software} in {} listens on {listens}, not on {number}", pod.describe()))
                    .fix(format!("set targetPort to {listens}"));
            } else if alone.is_some_and(|only| listening(only).is_none())
                && !is_declared
                && declared().next().is_some()
                && pod.serves()
            {
                let numbers: Vec<String> = declared()
                    .filter_map(|declared| declared.number)
                    .map(|n| n.to_string())
                    .collect();
                report
                    .at(target, format!("{which} most likely gets \"connection refused\": {} declares port {}, not {number}", pod.describe(), numbers.join(", ")))
                    .fix("set targetPort to the port on which the server listens");
            }
        }
    }
}

fn others_declare(pod: &Pod<'_>, container: &Container<'_>, number: i64) -> bool {
    pod.containers
        .iter()
        .filter(|other| other.node != container.node)
        .flat_map(Container::ports)
        .any(|port| port.number == Some(number))
}

/// The one port on which a server that is known by name listens; `None` if it has several, or if
/// a script, a file or a variable may say another.
fn listening(container: &Container<'_>) -> Option<i64> {
    let framework = container.framework?;
    let by_variable = match framework.kind {
        FrameworkKind::Vllm
        | FrameworkKind::Sglang
        | FrameworkKind::LlamaCpp
        | FrameworkKind::Lmdeploy => None,
        // Images that others made of these listen elsewhere.
        FrameworkKind::Tgi | FrameworkKind::Tei
            if container.image.is_some_and(|image| image.registry == Some("ghcr.io")) =>
        {
            Some("PORT")
        }
        _ => return None,
    };
    let flags: Vec<&str> = framework.port_flags().iter().map(String::as_str).collect();
    if let Some(flag) = container.flag(&flags) {
        return flag.int();
    }
    if let Some(variable) = by_variable
        && container.env(variable).is_some()
    {
        return container.env_value(variable)?.parse().ok();
    }
    let settled = framework.sureness == crate::model::Sureness::Sure
        && !container.env_from
        && container.flag(&["--config"]).is_none()
        && container.words.iter().all(|word| is_literal(&word.text));
    if settled { framework.port() } else { None }
}

/// Whether a word holds no variable and runs no script whose flags are not seen.
fn is_literal(word: &str) -> bool {
    !word.contains('$') && !word.ends_with(".sh") && !word.ends_with(".py")
}
