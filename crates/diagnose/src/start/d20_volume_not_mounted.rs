use serde_json::Value;

use crate::diagnosis::diagnosis;
use crate::matching::{between, has_any};
use crate::report::Report;
use crate::view::{Event, Pod, View, text};

diagnosis! {
    /// A volume of the pod cannot be provided or mounted
    ///
    /// ## Signature
    /// Event `FailedMount`, `FailedAttachVolume` (other than D19) or `FailedMapVolume` of a pod that is
    /// not running; or a pod that is unschedulable because of a claim that does not exist or has no
    /// volume.
    ///
    /// ## Cause
    /// A Secret, ConfigMap, key or claim that is not there; no StorageClass or provisioner; a CSI driver
    /// that is missing on the node; a storage server that does not answer.
    ///
    /// ## How to mend it
    /// Make what the message names, or bring the driver back.
    D20, Error,
    needs: [Pods, Events],
    yields_to: ["D19"],
    source: "kubernetes/kubernetes, volume manager and VolumeBinding: their messages",
    check: check,
}

const REASONS: [&str; 3] = ["FailedMount", "FailedAttachVolume", "FailedMapVolume"];

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods().iter().filter(|pod| pod.phase() == "Pending") {
        if pod.node_name().is_empty() {
            unbound(view, pod, report);
            continue;
        }
        // A mount that took a second try is no trouble.
        let waits = pod.containers().iter().any(|it| {
            matches!(it.waiting_reason(), "ContainerCreating" | "PodInitializing" | "")
                && it.status.pointer("/state/running").is_none()
        });
        let events = view.events_of(pod.object);
        let event = events.iter().filter(|event| REASONS.contains(&event.reason));
        // `timed out waiting` says less than the cause beside it.
        let event = event.min_by_key(|event| has_any(event.message, &["timed out waiting"]));
        if let Some(event) = event.filter(|_| waits) {
            mount(pod, event, report);
        }
    }
}

fn mount<'a>(pod: &Pod<'a>, event: &Event<'a>, report: &mut Report) {
    let message = event.message;
    let namespace = pod.object.namespace();
    let missing = |kind: &str, before: &str| -> Option<(String, String)> {
        let name = between(message, before, "\"")?;
        let is_missing = has_any(message, &["not found"]);
        is_missing.then(|| {
            let command = match kind {
                "Secret" => {
                    format!("kubectl -n {namespace} create secret generic {name} --from-file=FILE")
                }
                _ => format!("kubectl -n {namespace} create configmap {name} --from-file=FILE"),
            };
            (format!("there is no {kind} `{name}`"), command)
        })
    };
    let found = missing("Secret", "secret \"").or_else(|| missing("ConfigMap", "configmap \""));
    let (why, fix) = match found {
        Some((why, command)) => (why, Ok(command)),
        None if has_any(
            message,
            &["references non-existent secret key", "references non-existent config key"],
        ) =>
        {
            (
                "a key that it names is not there".to_owned(),
                Err("add the key, or mark it `optional`"),
            )
        }
        None if has_any(
            message,
            &["driver name", "not found in the list of registered csi drivers"],
        ) =>
        {
            let driver = between(message, "driver name ", " not found").unwrap_or("its CSI driver");
            (
                format!("`{driver}` does not run on `{}`", pod.node_name()),
                Err("bring the CSI driver's node pods up there"),
            )
        }
        None if has_any(
            message,
            &["timed out", "deadline exceeded", "connection refused", "no route to host"],
        ) =>
        {
            (
                "its storage does not answer".to_owned(),
                Err("look at the storage server and at the CSI driver's pods"),
            )
        }
        None => ("mounting fails".to_owned(), Err("do what the message says")),
    };
    let volume = between(message, "volume \"", "\"").unwrap_or_default();
    let which =
        if volume.is_empty() { "a volume".to_owned() } else { format!("the volume `{volume}`") };
    let finding = report.at(pod.object.reference(), format!("{which} cannot be mounted: {why}"));
    finding.event(event);
    match fix {
        Ok(command) => finding.run(command),
        Err(text) => finding.advise(text),
    };
}

/// Claims that keep the scheduler from looking for a node.
fn unbound<'a>(view: &View<'a>, pod: &Pod<'a>, report: &mut Report) {
    let said = pod.object.condition("PodScheduled").map_or("", |it| text(it, "/message"));
    if !has_any(said, &["persistentvolumeclaim"]) {
        return;
    }
    let namespace = pod.object.namespace();
    for volume in pod.object.list("/spec/volumes") {
        let name = text(volume, "/persistentVolumeClaim/claimName");
        if name.is_empty() {
            continue;
        }
        let Some(claim) = view.find("PersistentVolumeClaim", namespace, name) else {
            if !said.contains(name) {
                continue;
            }
            let finding = report
                .at(pod.object.reference(), format!("there is no claim `{name}` in its namespace"));
            finding.unscheduled(pod.object);
            finding.field(pod.object, "/spec/volumes");
            finding.advise(format!("make the PersistentVolumeClaim `{name}`, or correct its name"));
            continue;
        };
        if claim.text("/status/phase") == "Bound" {
            continue;
        }
        let class = claim.at("/spec/storageClassName").and_then(Value::as_str);
        let why = match class {
            Some(class) if !class.is_empty() && view.find("StorageClass", "", class).is_none() => {
                format!("there is no StorageClass `{class}`")
            }
            None | Some("") => "it names no StorageClass, and no volume fits it".to_owned(),
            Some(class) => format!("`{class}` has made no volume for it"),
        };
        let finding =
            report.at(pod.object.reference(), format!("the claim `{name}` has no volume: {why}"));
        finding.unscheduled(pod.object);
        finding.field(claim, "/status/phase");
        finding.field(claim, "/spec/storageClassName");
        for event in view.events_of(claim).iter().take(1) {
            finding.event(event);
        }
        finding.run(format!("kubectl -n {namespace} describe pvc {name}"));
        finding.advise("use a StorageClass that exists, or look at its provisioner's pods");
    }
}
