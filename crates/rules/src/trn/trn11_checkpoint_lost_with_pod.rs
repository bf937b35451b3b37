use std::borrow::Cow;
use std::sync::LazyLock;

use serde::Deserialize;

use super::job::{self, Fate};
use crate::context::Context;
use crate::facts;
use crate::model::{Container, Flag, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Checkpoints in a folder that goes with the pod
    ///
    /// ## What it does
    /// Looks at training pods whose arguments name a folder for checkpoints or output, and where
    /// that folder is an `emptyDir` or part of the container itself.
    ///
    /// Silent for object stores, for relative paths where a durable volume could be meant, and where
    /// a script or another container copies the folder elsewhere.
    ///
    /// ## Why it matters
    /// When the pod is evicted, fails or ends, the folder is gone: nothing to resume from, and of a
    /// finished run no model.
    ///
    /// ## How to fix it
    /// Write to a path below a PersistentVolumeClaim, or to an object store.
    TRN11, Error,
    evidence: "kubernetes/website docs/concepts/storage/volumes: emptyDir; huggingface/transformers TrainingArguments; NVIDIA/Megatron-LM arguments; pytorch/torchtitan config",
    check: Check::Container(check),
    examples: [
        Example::bad("in the container", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command:
            - torchrun
            - train.py
            - --output_dir=/workspace/out
          resources:
            limits: {nvidia.com/gpu: 1}
", &[13]),
        Example::bad("in an emptyDir", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          args:
            - --checkpoint-dir
            - /ckpt/run
          resources:
            limits: {nvidia.com/gpu: 1}
          volumeMounts:
            - {name: ckpt, mountPath: /ckpt}
            - {name: data, mountPath: /data}
      volumes:
        - {name: ckpt, emptyDir: {}}
        - {name: data, persistentVolumeClaim: {claimName: data}}
", &[12]),
        Example::good("on a claim", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py, --checkpoint-dir, /data/ckpt]
          resources:
            limits: {nvidia.com/gpu: 1}
          volumeMounts:
            - {name: data, mountPath: /data}
      volumes:
        - {name: data, persistentVolumeClaim: {claimName: data}}
"),
        Example::good("copied by the script", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command:
            - bash
            - -c
            - |
              python train.py --output_dir /out
              aws s3 sync /out s3://bucket/run
          resources:
            limits: {nvidia.com/gpu: 1}
"),
        Example::good("a path below a folder that is not known", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py, --checkpoint-dir, ./ckpt]
          resources:
            limits: {nvidia.com/gpu: 1}
          volumeMounts:
            - {name: data, mountPath: /data}
      volumes:
        - {name: data, persistentVolumeClaim: {claimName: data}}
"),
    ],
}

#[derive(Deserialize)]
struct Table {
    /// Flags whose value is a folder that checkpoints or the model are written to.
    flags: Vec<String>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/checkpoint-flags.json")));

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if container.init || !pod.complete || pod.manager == Manager::Ray || !job::trains(pod) {
        return;
    }
    let flags = TABLE.flags.iter().filter_map(|name| container.flag(&[name.as_str()]));
    for flag in flags {
        let Some(folder) = folder(container, &flag) else { continue };
        let Some(why) = lost(pod, container, &folder) else { continue };
        // Someone takes it from there.
        if job::names_store(pod) {
            return;
        }
        report
            .at_span(
                flag.node,
                flag.place(),
                format!("what is written to `{folder}` is lost with the pod: {why}"),
            )
            .fix("write to a path below a PersistentVolumeClaim, or to an object store");
        return;
    }
}

/// The folder that a flag names, joined to the working folder if that is known.
fn folder<'b>(container: &Container<'b>, flag: &Flag<'b>) -> Option<Cow<'b, str>> {
    let value = flag.value.clone()?;
    let value: Cow<'b, str> = match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches(['"', '\''])),
        Cow::Owned(text) => Cow::Owned(text.trim_matches(['"', '\'']).to_owned()),
    };
    if value.is_empty() || value.contains("://") || value.contains(['{', '<', '*', ' ']) {
        return None;
    }
    // Flags like `--save true` exist in some programs.
    if matches!(&*value, "true" | "True" | "false" | "False" | "yes" | "no" | "none" | "None")
        || value.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    if value.starts_with('/') {
        return Some(value);
    }
    match container.node.get("workingDir").text() {
        Some(base) if base.starts_with('/') => {
            let tail = value.trim_start_matches("./");
            if tail.starts_with("..") {
                return None;
            }
            Some(Cow::Owned(format!("{}/{tail}", base.trim_end_matches('/'))))
        }
        _ => Some(value),
    }
}

/// Why a folder goes with the pod; `None` if it does not, or if that is not known.
fn lost(pod: &Pod<'_>, container: &Container<'_>, folder: &str) -> Option<String> {
    if !folder.starts_with('/') {
        // Below whatever folder the image starts in, which a durable volume could be mounted at.
        let none = !job::has_durable_mount(pod, container);
        return none
            .then(|| format!("container `{}` mounts no volume that outlives it", container.name));
    }
    let Some((mount, name)) = container.mount_of(folder) else {
        // A link made by the script or the image may lead to a durable volume.
        let linked = job::texts(container).any(|text| text.contains("ln -s"));
        return (!linked).then(|| "no volume is mounted there".to_owned());
    };
    let volume = pod.volume(name)?;
    if job::fate(&volume) != Fate::Lost {
        return None;
    }
    let shared = pod.main_containers().filter(|other| other.node != container.node).any(|other| {
        other.node.get("volumeMounts").items().any(|mount| mount.get("name").is(name))
    });
    let path = mount.get("mountPath").str();
    (!shared).then(|| format!("volume `{name}` at `{path}` is an emptyDir"))
}
