use std::borrow::Cow;

use crate::context::Context;
use crate::model::{Container, Manager, Object, Pod, Selector};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::{Node, Span};

rule! {
    /// The first worker's address leads nowhere
    ///
    /// ## What it does
    /// Takes the host of `MASTER_ADDR`, `--master_addr` or `--rdzv_endpoint` of Jobs, StatefulSets
    /// and Pods apart, and looks for the Service in it: the name of one pod (`job-0.workers`) needs
    /// a headless Service `workers`; the name of a Service needs one that has the port and leads to
    /// one pod.
    ///
    /// Silent for operators that make Services by themselves, for addresses that only run time
    /// knows, and where no Service is in sight, since it may be made elsewhere.
    ///
    /// ## Why it matters
    /// The name is not found, or leads to any of the workers. All of them wait for a first worker
    /// that nobody reaches, until a timeout, with their GPUs.
    ///
    /// ## How to fix it
    /// Make a Service with `clusterIP: None` that selects the workers, set it as `subdomain`, and
    /// name the first worker's pod in front of it.
    TRN15, Error,
    evidence: "kubernetes/website docs/concepts/services-networking/dns-pod-service: hostname and subdomain; docs/tasks/job/job-with-pod-to-pod-communication",
    check: Check::Container(check),
    examples: [
        Example::bad("a Service of another name", "\
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  completionMode: Indexed
  parallelism: 2
  template:
    spec:
      subdomain: workers
      containers:
        - name: main
          image: a:1
          env:
            - name: MASTER_ADDR
              value: train-0.worker
---
apiVersion: v1
kind: Service
metadata: {name: workers}
spec:
  clusterIP: None
  selector: {job-name: train}
", &[15]),
        Example::bad("a Service with an address of its own", "\
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  completionMode: Indexed
  parallelism: 2
  template:
    spec:
      subdomain: workers
      containers:
        - name: main
          image: a:1
          command: [torchrun, --nnodes=2, '--rdzv-endpoint=train-0.workers:29500', train.py]
---
apiVersion: v1
kind: Service
metadata: {name: workers}
spec:
  selector: {job-name: train}
  ports: [{port: 29500}]
", &[13]),
        Example::good("a headless Service", "\
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  completionMode: Indexed
  parallelism: 2
  template:
    spec:
      subdomain: workers
      containers:
        - name: main
          image: a:1
          env:
            - name: MASTER_ADDR
              value: train-0.workers.default.svc.cluster.local
---
apiVersion: v1
kind: Service
metadata: {name: workers}
spec:
  clusterIP: None
  selector: {job-name: train}
"),
        Example::good("nobody knows which Services there are", "\
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  parallelism: 2
  template:
    spec:
      containers:
        - name: main
          image: a:1
          env:
            - {name: MASTER_ADDR, value: train-0.workers}
"),
        Example::good("a Service in front of the first worker", "\
apiVersion: v1
kind: Pod
metadata: {name: first, labels: {rank: '0'}}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - {name: MASTER_ADDR, value: first}
        - {name: MASTER_PORT, value: '29500'}
---
apiVersion: v1
kind: Service
metadata: {name: first}
spec:
  selector: {rank: '0'}
  ports: [{port: 29500}]
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let kinds = [
        Manager::Job,
        Manager::StatefulSet,
        Manager::Pod,
        Manager::Deployment,
        Manager::ReplicaSet,
    ];
    if !kinds.contains(&pod.manager) || !pod.complete || container.init {
        return;
    }
    let Some(address) = address(container) else { return };
    let Some(host) = Host::parse(&address.host) else { return };
    let bundle = context.bundle;
    let namespace = host.namespace.unwrap_or(pod.object.namespace);
    let service = bundle
        .find("Service", namespace, host.service, pod.spec)
        .filter(|service| bundle.distance(service.root, pod.spec) <= 1);
    let message = match service {
        None if host.is_pod(pod) => return,
        None => match other_service(context, pod) {
            Some(other) if other.name != host.service => format!(
                "no Service `{}` is here, while `{}` selects these pods: `{}` is not found, and all workers wait for the first until a timeout",
                host.service, other.name, address.host
            ),
            _ => return,
        },
        Some(service) => match trouble(context, pod, &host, &address, service) {
            Some(text) => text,
            None => return,
        },
    };
    report
        .at_span(address.node, address.span, message)
        .fix("make a Service with `clusterIP: None` that selects the workers, and name the first worker's pod in front of it");
}

/// What is wrong with a Service that is there.
fn trouble(
    context: &Context<'_>,
    pod: &Pod<'_>,
    host: &Host<'_>,
    address: &Address<'_>,
    service: &Object<'_>,
) -> Option<String> {
    let spec = service.spec();
    let name = service.name;
    let headless = spec.get("clusterIP").is("None");
    if headless || spec.get("type").is("ExternalName") {
        return None;
    }
    if host.pod.is_some() {
        return Some(format!(
            "`{}` is the name of a pod, which only a headless Service gives: `{name}` has an address of its own",
            address.host
        ));
    }
    let ports = spec.get("ports");
    if let Some(port) = address.port
        && !ports.items().any(|entry| entry.get("port").int() == Some(port))
    {
        return Some(format!(
            "by Service `{name}` nobody reaches port {port} of the first worker: it has other ports"
        ));
    }
    let selector = Selector::plain(spec.get("selector"));
    let several = pod.replicas.is_some_and(|count| count > 1)
        && !selector.is_empty()
        && selector.matches(pod.labels());
    let only = context.bundle.pods_selected(&selector, service.namespace, service.root).len() == 1;
    (several && only).then(|| {
        format!(
            "behind Service `{name}` any of {} pods answers, not the first worker",
            pod.replicas.unwrap_or(2)
        )
    })
}

/// A Service near a pod that selects it, by its own labels or those that Jobs add.
fn other_service<'a>(context: &'a Context<'a>, pod: &'a Pod<'a>) -> Option<&'a Object<'a>> {
    let bundle = context.bundle;
    let near = |service: &&Object<'_>| bundle.distance(service.root, pod.spec) <= 1;
    let by_subdomain =
        pod.spec.get("subdomain").text().and_then(|name| {
            bundle.find("Service", pod.object.namespace, name, pod.spec).filter(near)
        });
    by_subdomain.or_else(|| bundle.services_of(pod).find(near))
}

/// Where workers are told to meet.
struct Address<'b> {
    host: Cow<'b, str>,
    port: Option<i64>,
    node: Node<'b>,
    span: Span,
}

fn address<'b>(container: &Container<'b>) -> Option<Address<'b>> {
    for name in ["MASTER_ADDR", "PET_MASTER_ADDR"] {
        if let Some(env) = container.env(name) {
            let host = container.env_value(name)?;
            let port = container
                .env_value("MASTER_PORT")
                .or_else(|| container.env_value("PET_MASTER_PORT"))
                .and_then(|port| port.parse().ok());
            return Some(Address { host, port, node: env.value, span: env.value.place() });
        }
    }
    let flag = container.flag(&["--rdzv-endpoint", "--master-addr"])?;
    let span = flag.place();
    let value = flag.value?;
    let (host, port) = match value.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), port.parse().ok()),
        None => (value.into_owned(), None),
    };
    Some(Address { host: Cow::Owned(host), port, node: flag.node, span })
}

/// A host name in the parts that Kubernetes makes it of.
struct Host<'h> {
    pod: Option<&'h str>,
    service: &'h str,
    namespace: Option<&'h str>,
}

impl<'h> Host<'h> {
    /// `None` for addresses, this machine, and names outside of the cluster.
    fn parse(host: &'h str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let parts: Vec<&str> = host.split('.').collect();
        if parts.iter().any(|part| part.is_empty() || !part.chars().all(plain))
            || host == "localhost"
            || parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()))
        {
            return None;
        }
        let cut = parts.iter().position(|part| *part == "svc").unwrap_or(parts.len());
        let (in_cluster, full) = (parts.get(..cut)?, cut < parts.len());
        Some(match (in_cluster, full) {
            ([service], _) => Self { pod: None, service, namespace: None },
            ([pod, service, namespace], true) => {
                Self { pod: Some(pod), service, namespace: Some(namespace) }
            }
            // `pod.service`, or with `svc` behind it `service.namespace`.
            ([service, namespace], true) => Self { pod: None, service, namespace: Some(namespace) },
            ([pod, service], false) => Self { pod: Some(pod), service, namespace: None },
            _ => return None,
        })
    }

    /// Whether it is the name of the pod itself, which the first worker may use.
    fn is_pod(&self, pod: &Pod<'_>) -> bool {
        self.pod.is_none()
            && (self.service == pod.object.name || pod.spec.get("hostname").is(self.service))
    }
}

#[test]
fn hosts() {
    let parse = |host| Host::parse(host).map(|h| (h.pod, h.service, h.namespace));
    assert_eq!(parse("a-0.b"), Some((Some("a-0"), "b", None)));
    assert_eq!(parse("a-0.b.ns.svc.cluster.local"), Some((Some("a-0"), "b", Some("ns"))));
    assert_eq!(parse("b.ns.svc"), Some((None, "b", Some("ns"))));
    assert_eq!(parse("b"), Some((None, "b", None)));
    for host in ["localhost", "127.0.0.1", "example.com.", "A_B", "", "a.b.c.d"] {
        assert_eq!(parse(host), None, "{host}");
    }
}
