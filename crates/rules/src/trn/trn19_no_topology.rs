use super::job;
use crate::context::Context;
use crate::model::{DeviceKind, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Workers of one job that may be scattered over the data centre
    ///
    /// ## What it does
    /// Looks at training jobs of several pods with GPUs that work together and say nothing of where
    /// to one another they run: no affinity, no spread constraint, no topology request of Kueue,
    /// JobSet or Volcano, no zone, node group, placement group or reservation.
    ///
    /// Silent where Kueue's flavours in the manifests have a topology.
    ///
    /// ## Why it matters
    /// Each step waits for the slowest link. Workers in two zones or two blocks of a network train
    /// several times slower than workers next to each other, and traffic between zones is paid for.
    ///
    /// ## How to fix it
    /// Ask for one zone, block or rack: `podAffinity` on `topology.kubernetes.io/zone`, or
    /// `kueue.x-k8s.io/podset-preferred-topology`.
    TRN19, Warning,
    evidence: "kueue.sigs.k8s.io, Topology Aware Scheduling; jobset.sigs.k8s.io, exclusive placement; volcano.sh, network topology aware scheduling",
    check: Check::Pod(check),
    examples: [
        Example::bad("anywhere", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 4
      template:
        spec:
          containers:
            - name: pytorch
              image: a:1
              resources:
                limits: {nvidia.com/gpu: 8}
", &[7]),
        Example::good("in one zone", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 4
      template:
        spec:
          nodeSelector: {topology.kubernetes.io/zone: eu-west-1a}
          containers:
            - name: pytorch
              image: a:1
              resources:
                limits: {nvidia.com/gpu: 8}
"),
        Example::good("Kueue's topology", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 4
      template:
        metadata:
          annotations:
            kueue.x-k8s.io/podset-required-topology: cloud.provider.com/topology-block
        spec:
          containers:
            - name: pytorch
              image: a:1
              resources:
                limits: {nvidia.com/gpu: 8}
"),
        Example::good("a measurement that a launcher starts", "\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {name: a}
spec:
  mpiReplicaSpecs:
    Launcher:
      template:
        spec:
          containers: [{name: main, image: a:1, command: [mpirun, nvbandwidth]}]
    Worker:
      replicas: 2
      template:
        spec:
          containers: [{name: main, image: a:1, command: [sshd], resources: {limits: {nvidia.com/gpu: 2}}}]
"),
    ],
}

/// Parts of labels of nodes that say where a node is: a zone, a host, a group of nodes that are
/// made together.
const PLACES: [&str; 14] = [
    "topology",
    "zone",
    "hostname",
    "nodepool",
    "node-pool",
    "nodegroup",
    "agentpool",
    "placement",
    "reservation",
    "instance-group",
    "rack",
    "block",
    "capacity-block",
    "provisioner-name",
];

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let kind = matches!(
        pod.manager,
        Manager::Job | Manager::CronJob | Manager::JobSet | Manager::TrainingOperator
    );
    let gpus = pod.devices().any(|(_, device)| device.kind == DeviceKind::Gpu);
    if !kind || !gpus || !pod.complete || job::is_test(pod) {
        return;
    }
    if job::measures_devices(context, pod) {
        return;
    }
    let Some(team) = job::team(context, pod) else { return };
    let largest = team.pods.iter().max_by_key(|pod| (pod.replicas, usize::MAX - pod.index));
    if largest.is_none_or(|largest| largest.index != pod.index) || is_placed(context, pod) {
        return;
    }
    report
        .at(
            pod.replicas_node,
            format!(
                "{} pods that wait for each other at every step may run in different zones and racks: nothing says where to one another",
                team.size
            ),
        )
        .fix("ask for one zone, block or rack, by `podAffinity` or your queue's topology annotation");
}

fn is_placed(context: &Context<'_>, pod: &Pod<'_>) -> bool {
    let spec = pod.spec;
    let constrained = spec.path("affinity.podAffinity").is_set()
        || spec.path("affinity.podAntiAffinity").is_set()
        || !spec.get("topologySpreadConstraints").is_empty()
        || spec.get("nodeName").is_set()
        || pod.node_requirements().iter().any(|label| {
            let key = label.key.to_ascii_lowercase();
            PLACES.iter().any(|place| key.contains(place))
        });
    let asked = [
        pod.metadata.get("annotations"),
        pod.labels(),
        pod.object.metadata().get("annotations"),
        pod.object.metadata().get("labels"),
    ]
    .into_iter()
    .flat_map(|entries| entries.entries())
    .any(|entry| entry.key.contains("topology") || entry.key.contains("placement"));
    let by_flavour = context
        .bundle
        .of_kind("ResourceFlavor")
        .take(256)
        .any(|flavour| flavour.spec().get("topologyName").is_set());
    constrained || asked || by_flavour && job::queue(pod).is_set()
}
