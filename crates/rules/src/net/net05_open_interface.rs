use std::sync::LazyLock;

use serde::Deserialize;

use crate::context::Context;
use crate::facts;
use crate::model::{Container, Object, Pod, glob};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Web interface without login on a public Service
    ///
    /// ## What it does
    /// Looks at Services of type LoadBalancer or NodePort whose port leads to the Ray dashboard,
    /// MLflow, TensorBoard, the interface of Kubeflow Pipelines, or a Jupyter server whose token is
    /// switched off. The same for the Services that Ray clusters ask for (`serviceType`).
    ///
    /// Silent if the load balancer is internal or limited to source ranges, if a proxy that asks
    /// for a login stands in the pod, and if a login is switched on.
    ///
    /// ## Why it matters
    /// These interfaces ask nobody who they are, and run code or hand out models. Open ones are
    /// found and abused within hours.
    ///
    /// ## How to fix it
    /// Use `type: ClusterIP` and `kubectl port-forward`, or put a gateway with a login in front.
    /// `loadBalancerSourceRanges` narrows who can connect.
    NET05, Warning,
    evidence: "kubescape C-0021 (exposed sensitive interfaces); docs.ray.io, security; mlflow.org, basic HTTP authentication",
    check: Check::Objects(&["Service", "RayCluster", "RayService", "RayJob"], check),
    examples: [
        Example::bad("MLflow behind a load balancer", "\
apiVersion: v1
kind: Service
metadata: {name: tracking}
spec:
  type: LoadBalancer
  selector: {app: tracking}
  ports: [{port: 80, targetPort: 5000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: tracking}
spec:
  selector: {matchLabels: {app: tracking}}
  template:
    metadata: {labels: {app: tracking}}
    spec:
      containers:
        - name: main
          image: ghcr.io/mlflow/mlflow:v3.1.0
          command: [mlflow, server, --host, 0.0.0.0]
", &[5]),
        Example::bad("the dashboard of a Ray cluster", "\
apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: a}
spec:
  headGroupSpec:
    serviceType: NodePort
    template:
      spec: {containers: [{name: ray-head, image: 'rayproject/ray:2.9.0'}]}
", &[6]),
        Example::bad("a notebook without token", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: nb}}
spec:
  containers:
    - name: main
      image: jupyter/scipy-notebook:x
      command: [start-notebook.sh, --NotebookApp.token='']
      ports: [{name: web, containerPort: 8888}]
---
apiVersion: v1
kind: Service
metadata: {name: nb}
spec:
  type: NodePort
  selector: {app: nb}
  ports: [{port: 80, targetPort: web}]
", &[15]),
        Example::good("inside of the cluster", "\
apiVersion: v1
kind: Service
metadata: {name: ray}
spec:
  selector: {ray.io/node-type: head}
  ports: [{port: 8265}]
"),
        Example::good("a port for inference on the same pods", "\
apiVersion: v1
kind: Service
metadata: {name: ray}
spec:
  type: LoadBalancer
  selector: {ray.io/node-type: head}
  ports: [{port: 8000}]
"),
        Example::good("an internal load balancer", "\
apiVersion: v1
kind: Service
metadata:
  name: ray
  annotations: {networking.gke.io/load-balancer-type: Internal}
spec:
  type: LoadBalancer
  selector: {ray.io/node-type: head}
  ports: [{port: 8265}]
"),
        Example::good("Ray asks for a token", "\
apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: a}
spec:
  authOptions: {mode: token}
  headGroupSpec:
    serviceType: LoadBalancer
    template:
      spec: {containers: [{name: ray-head, image: 'rayproject/ray:2.52.0'}]}
"),
    ],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    interfaces: Vec<Interface>,
    /// Words in images of proxies that ask for a login.
    proxies: Vec<String>,
    /// Annotations that make a load balancer internal; an empty value stands for any but `false`.
    internal_annotations: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    name: String,
    /// What somebody can do with it.
    harm: String,
    port: i64,
    #[serde(default)]
    port_flags: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    images: Vec<String>,
    /// Labels in a Service's selector that only its pods have.
    #[serde(default)]
    selectors: Vec<(String, String)>,
    /// Flags that switch a login on.
    #[serde(default)]
    safe_flags: Vec<String>,
    /// Variables that switch a login on.
    #[serde(default)]
    safe_variables: Vec<String>,
    /// Flags that switch the login off by an empty value, without which there is one.
    #[serde(default)]
    only_if_flags: Vec<String>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/interfaces.json")));

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    if object.group() == "ray.io" {
        check_ray(object, report);
    } else if object.is("", "Service") {
        check_service(context, object, report);
    }
}

fn is_open(kind: Node<'_>) -> bool {
    kind.is("LoadBalancer") || kind.is("NodePort")
}

fn is_internal(annotations: Node<'_>) -> bool {
    TABLE.internal_annotations.iter().any(|(key, value)| {
        let found = annotations.get(key);
        found.is_set()
            && match value.as_str() {
                "" => !found.is("false"),
                value => found.str().eq_ignore_ascii_case(value),
            }
    })
}

/// The operator makes a Service for the head, with the dashboard's port on it.
fn check_ray(object: &Object<'_>, report: &mut Report) {
    let spec = object.spec();
    let cluster = match object.kind {
        "RayCluster" => spec,
        "RayService" => spec.get("rayClusterConfig"),
        _ => spec.get("rayClusterSpec"),
    };
    let head = cluster.get("headGroupSpec");
    let own = head.path("headService.spec.type");
    let kind = if own.is_set() { own } else { head.get("serviceType") };
    let annotations =
        [head.path("headService.metadata.annotations"), cluster.get("headServiceAnnotations")];
    let limited = head.path("headService.spec.loadBalancerSourceRanges");
    let logs_in = cluster.path("authOptions.mode").is("token")
        || head.path("template.spec.containers").items().any(|container| {
            container.get("env").items().any(|env| env.get("name").is("RAY_AUTH_MODE"))
        });
    let ports = head.path("headService.spec.ports");
    let other_ports = !ports.is_empty() && !ports.items().any(|port| port.get("port").is("8265"));
    if !is_open(kind)
        || logs_in
        || other_ports
        || !limited.is_empty()
        || annotations.into_iter().any(is_internal)
    {
        return;
    }
    report
        .at(
            kind,
            format!(
                "the Ray dashboard, which asks for no login and runs any code that is sent to it, is reachable from outside of the cluster: the Service of the head is a {}",
                kind.str()
            ),
        )
        .fix("leave `serviceType` out and use `kubectl port-forward`, or switch token authentication on (Ray 2.52 and later)");
}

fn check_service(context: &Context<'_>, service: &Object<'_>, report: &mut Report) {
    let spec = service.spec();
    let kind = spec.get("type");
    if !is_open(kind)
        || !spec.get("loadBalancerSourceRanges").is_empty()
        || is_internal(service.metadata().get("annotations"))
    {
        return;
    }
    let Some(found) = interface_of(context, service) else { return };
    report
        .at(
            kind,
            format!(
                "the interface of {} asks for no login and {}, and this {} makes it reachable from outside of the cluster",
                found.name, found.harm, kind.str()
            ),
        )
        .fix("use `type: ClusterIP` with `kubectl port-forward`, or a gateway that asks for a login; `loadBalancerSourceRanges` narrows who can connect");
}

/// The interface that a Service leads to.
fn interface_of(context: &Context<'_>, service: &Object<'_>) -> Option<&'static Interface> {
    let selector = service.spec().get("selector");
    if selector.is_empty() {
        return None;
    }
    for interface in &TABLE.interfaces {
        let named =
            interface.selectors.iter().any(|(key, value)| selector.get(key).is(value.as_str()));
        if named
            && service
                .spec()
                .get("ports")
                .items()
                .any(|port| target(port).is(&interface.port.to_string()))
        {
            return Some(interface);
        }
    }
    let wanted = crate::model::Selector::plain(selector);
    let pods = context.bundle.pods_selected(&wanted, service.namespace, service.root);
    let pod = pods.first()?;
    if pod.main_containers().any(is_proxy) {
        return None;
    }
    TABLE.interfaces.iter().find(|interface| {
        pod.main_containers().any(|container| {
            shows(interface, container)
                && service.spec().get("ports").items().any(|port| {
                    number(pod, target(port))
                        .is_some_and(|port| port == port_of(interface, container))
                })
        })
    })
}

fn is_proxy(container: &Container<'_>) -> bool {
    container.image.is_some_and(|image| {
        TABLE.proxies.iter().any(|word| image.repository.contains(word.as_str()))
    })
}

/// Whether a container shows an interface that asks for no login.
fn shows(interface: &Interface, container: &Container<'_>) -> bool {
    let runs = interface.commands.iter().any(|command| container.runs(command));
    let is = container.words.is_empty()
        && container.image.is_some_and(|image| {
            interface.images.iter().any(|glob_| glob(glob_, image.repository))
        });
    if !runs && !is {
        return false;
    }
    let flag = |name: &String| container.flag(&[name]);
    let safe = interface.safe_flags.iter().any(|name| flag(name).is_some())
        || interface.safe_variables.iter().any(|name| container.env(name).is_some());
    let off = |name: &String| {
        flag(name).is_some_and(|flag| {
            flag.value.is_some_and(|value| value.trim_matches(['\'', '"']).trim().is_empty())
        })
    };
    !safe && (interface.only_if_flags.is_empty() || interface.only_if_flags.iter().any(off))
}

fn port_of(interface: &Interface, container: &Container<'_>) -> i64 {
    let flags: Vec<&str> = interface.port_flags.iter().map(String::as_str).collect();
    container.flag(&flags).and_then(|flag| flag.int()).unwrap_or(interface.port)
}

fn target(port: Node<'_>) -> Node<'_> {
    let target = port.get("targetPort");
    if target.is_set() { target } else { port.get("port") }
}

fn number(pod: &Pod<'_>, port: Node<'_>) -> Option<i64> {
    port.int().or_else(|| {
        let mut ports = pod.main_containers().flat_map(|container| container.ports());
        ports.find(|declared| port.is(declared.name))?.number
    })
}
