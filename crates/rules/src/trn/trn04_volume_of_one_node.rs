use super::job;
use crate::context::Context;
use crate::model::{Manager, Object, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Several pods share a volume that only one node may attach
    ///
    /// ## What it does
    /// Looks at templates with more than one replica that mount a PersistentVolumeClaim of the
    /// same manifests whose only access mode is `ReadWriteOnce` (or `ReadWriteOncePod`).
    ///
    /// Silent where the claim is not in sight, where the pods are held on one node, and for storage
    /// classes and volumes that are file shares or folders of a node, which nothing attaches.
    ///
    /// ## Why it matters
    /// The first pod attaches the volume to its node. Each pod on another node waits in
    /// `ContainerCreating` with `Multi-Attach error`, holding its GPUs.
    ///
    /// ## How to fix it
    /// Use a storage class that offers `ReadWriteMany` (or `ReadOnlyMany` for weights), or give
    /// each replica its own claim.
    TRN04, Error,
    evidence: "kubernetes/website docs/concepts/storage/persistent-volumes: access modes",
    check: Check::Pod(check),
    examples: [
        Example::bad("two replicas", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
      volumes:
        - name: cache
          persistentVolumeClaim:
            claimName: models
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: models}
spec:
  accessModes: [ReadWriteOnce]
", &[16]),
        Example::good("a file share", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  parallelism: 2
  template:
    spec:
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
      volumes:
        - name: data
          persistentVolumeClaim:
            claimName: data
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteMany]
"),
        Example::good("one pod", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
      volumes:
        - name: data
          persistentVolumeClaim:
            claimName: data
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
"),
        Example::good("held on one node", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  parallelism: 2
  template:
    spec:
      nodeSelector: {kubernetes.io/hostname: node-1}
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
      volumes:
        - name: data
          persistentVolumeClaim:
            claimName: data
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if pod.manager == Manager::DaemonSet || !job::is_ml(pod) || is_held_on_one_node(pod) {
        return;
    }
    let Some(count) = most_pods(context, pod).filter(|count| *count > 1) else { return };
    for volume in pod.volumes() {
        let name = volume.node.path("persistentVolumeClaim.claimName");
        if !name.is_set() {
            continue;
        }
        let Some(claim) = context.bundle.find(
            "PersistentVolumeClaim",
            pod.object.namespace,
            name.str(),
            pod.spec,
        ) else {
            continue;
        };
        let modes = claim.spec().get("accessModes");
        let of_one = |mode: Node<'_>| mode.is("ReadWriteOnce") || mode.is("ReadWriteOncePod");
        if modes.is_empty() || !modes.items().all(of_one) || is_not_attached(context, claim) {
            continue;
        }
        // Of the same name, but perhaps of another example.
        if context.bundle.distance(claim.root, pod.spec) > 1 {
            continue;
        }
        report
            .at(
                name,
                format!(
                    "up to {count} pods of {} share claim `{}`, which is {}: those on other nodes than the first wait with a Multi-Attach error",
                    pod.describe(),
                    claim.name,
                    modes.item(0).str()
                ),
            )
            .fix("use a storage class with ReadWriteMany, or a claim for each replica");
    }
}

/// Replicas, or what an autoscaler may make of them; of a job's worker, all templates that mount
/// the volume are not counted, since those of one object may differ.
fn most_pods(context: &Context<'_>, pod: &Pod<'_>) -> Option<i64> {
    let scaled = context
        .bundle
        .autoscaler_of(pod)
        .filter(|found| context.bundle.distance(found.object.root, pod.spec) <= 1);
    match scaled {
        Some(autoscaler) => autoscaler.max,
        None => pod.replicas,
    }
}

fn is_held_on_one_node(pod: &Pod<'_>) -> bool {
    let together = pod
        .spec
        .path("affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution")
        .items()
        .any(|term| term.get("topologyKey").is("kubernetes.io/hostname"));
    together
        || pod.spec.get("nodeName").is_set()
        || pod.node_requirements().iter().any(|label| label.key == "kubernetes.io/hostname")
}

/// Parts of names of storage classes and drivers that mount a share or a folder of a node.
const SHARES: [&str; 15] = [
    "nfs",
    "efs",
    "fsx",
    "lustre",
    "filestore",
    "cephfs",
    "gluster",
    "azurefile",
    "smb",
    "juicefs",
    "weka",
    "gcsfuse",
    "s3",
    "local",
    "hostpath",
];

fn is_not_attached(context: &Context<'_>, claim: &Object<'_>) -> bool {
    let is_share = |text: &str| {
        let text = text.to_ascii_lowercase();
        SHARES.iter().any(|share| text.contains(share))
    };
    let class = claim.spec().get("storageClassName");
    if is_share(class.str()) {
        return true;
    }
    let provisioner = context.bundle.find("StorageClass", "", class.str(), claim.root);
    if class.is_set()
        && provisioner.is_some_and(|found| is_share(found.root.get("provisioner").str()))
    {
        return true;
    }
    let name = claim.spec().get("volumeName");
    let named = context.bundle.find("PersistentVolume", "", name.str(), claim.root);
    let volume = if name.is_set() { named } else { None };
    volume.is_some_and(|volume| {
        let spec = volume.spec();
        ["nfs", "hostPath", "local", "cephfs"].iter().any(|key| spec.get(key).exists())
            || is_share(spec.path("csi.driver").str())
    })
}
