use super::job;
use crate::context::Context;
use crate::model::{Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Training on spot nodes with nothing that outlives a pod
    ///
    /// ## What it does
    /// Looks at training pods that choose or tolerate spot (preemptible) nodes, mount no volume
    /// that outlives them, and name no object store in arguments, variables or scripts.
    ///
    /// Silent where variables come from elsewhere as a whole, and for operators that add volumes.
    ///
    /// ## Why it matters
    /// A spot node is taken back with 30 seconds to 2 minutes notice. Without a checkpoint in
    /// durable storage, training starts from its first step each time, and may never end.
    ///
    /// ## How to fix it
    /// Write checkpoints to a PersistentVolumeClaim or an object store, and resume from the newest.
    TRN05, Error,
    evidence: "Amazon EC2 user guide, Spot interruptions; Google Cloud, Spot VMs; Microsoft Learn, AKS Spot node pools",
    check: Check::Pod(check),
    examples: [
        Example::bad("nothing is kept", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      nodeSelector:
        karpenter.sh/capacity-type: spot
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [torchrun, --nproc_per_node=8, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
      volumes:
        - {name: shm, emptyDir: {medium: Memory}}
", &[8]),
        Example::bad("a taint of spot nodes is tolerated", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      tolerations:
        - key: cloud.google.com/gke-spot
          operator: Exists
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 1}
", &[8]),
        Example::good("an object store", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      nodeSelector:
        karpenter.sh/capacity-type: spot
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [torchrun, --nproc_per_node=8, train.py, '--checkpoints=s3://bucket/run-1']
          resources:
            limits: {nvidia.com/gpu: 8}
"),
        Example::good("a claim", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      nodeSelector: {cloud.google.com/gke-spot: 'true'}
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 1}
          volumeMounts:
            - {name: data, mountPath: /data}
      volumes:
        - {name: data, persistentVolumeClaim: {claimName: data}}
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if !pod.complete || pod.manager == Manager::Ray || !job::trains(pod) || !pod.has_accelerator() {
        return;
    }
    let Some(spot) = job::spot(pod) else { return };
    let hidden = pod.main_containers().any(|container| container.env_from);
    let durable = pod.main_containers().any(|container| job::has_durable_mount(pod, container));
    if hidden || durable || job::names_store(pod) {
        return;
    }
    report
        .at(
            spot,
            format!(
                "training starts anew each time a spot node is taken back: nothing that {} writes outlives its pods",
                pod.describe()
            ),
        )
        .fix("write checkpoints to a PersistentVolumeClaim or an object store, and resume from them");
}
