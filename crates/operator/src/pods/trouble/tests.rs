//! Statuses as kubelets and schedulers of Kubernetes 1.29 to 1.34 write them.

use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> Pod {
    let pod = json!({
        "metadata": {"name": "iris-7c9-x"},
        "spec": {"containers": []},
        "status": status,
    });
    serde_json::from_value(pod).expect("a pod")
}

#[track_caller]
fn check(status: Value, reason: Option<Reason>, words: &[&str]) {
    let trouble = of_pod(&pod(status));
    assert_eq!(trouble.as_ref().map(|trouble| trouble.reason), reason);
    let message =
        trouble.map(|trouble| trouble.message(Declared::ModelService)).unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "`{message}` has no `{word}`");
    }
}

/// A container `model` that is not ready.
fn container(state: Value, last: Value, restarts: u32) -> Value {
    json!({"phase": "Running", "containerStatuses": [{
        "name": "model", "image": "registry.example/model:1", "imageID": "", "ready": false,
        "restartCount": restarts, "started": false, "state": state, "lastState": last,
    }]})
}

fn init(state: Value) -> Value {
    json!({"phase": "Pending", "initContainerStatuses": [{
        "name": "fetch-model", "image": "registry.example/trainyard:1", "imageID": "", "ready": false,
        "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": state,
    }]})
}

#[test]
fn images() {
    let waiting = |reason: &str, message: &str| {
        container(json!({"waiting": {"reason": reason, "message": message}}), json!({}), 0)
    };
    let not_found = "rpc error: code = NotFound desc = failed to pull and unpack image \"registry.example/model:1\": not found";
    let words =
        ["`iris-7c9-x`", "`registry.example/model:1`", "code = NotFound", "`spec.runtime.image`"];
    check(waiting("ErrImagePull", not_found), Some(Reason::ImagePullFailed), &words);
    let back_off =
        format!("Back-off pulling image \"registry.example/model:1\": ErrImagePull: {not_found}");
    check(waiting("ImagePullBackOff", &back_off), Some(Reason::ImagePullFailed), &words);
    let same = of_pod(&pod(waiting("ErrImagePull", not_found)));
    assert_eq!(same, of_pod(&pod(waiting("ImagePullBackOff", &back_off))));
    check(
        waiting("CreateContainerConfigError", "secret \"keys\" not found"),
        Some(Reason::ContainerConfigError),
        &["secret \"keys\" not found"],
    );
    check(waiting("ContainerCreating", ""), None, &[]);
    check(waiting("PodInitializing", ""), None, &[]);
}

#[test]
fn devices() {
    let running = |health: &str, ready: bool| {
        json!({"phase": "Running", "containerStatuses": [{
            "name": "model", "image": "registry.example/model:1", "imageID": "", "ready": ready,
            "restartCount": 0, "state": {"running": {}},
            "allocatedResourcesStatus": [{
                "name": "nvidia.com/gpu",
                "resources": [
                    {"resourceID": "GPU-a", "health": "Healthy"},
                    {"resourceID": "GPU-b", "health": health},
                ],
            }],
        }]})
    };
    let words = ["`model`", "`GPU-b` of `nvidia.com/gpu`", "doctor pod/iris-7c9-x"];
    check(running("Unhealthy", true), Some(Reason::GpuUnhealthy), &words);
    check(running("Unhealthy", false), Some(Reason::GpuUnhealthy), &words);
    check(running("Unknown", true), None, &[]);
    let mut whole = pod(running("Unhealthy", true));
    let spec = json!({"containers": [{"name": "model"}]});
    whole.spec = serde_json::from_value(spec).expect("a spec");
    assert_eq!(of_pod(&whole).and_then(|trouble| trouble.diagnosis), Some("D48"));
}

#[test]
fn placement() {
    let unschedulable = |message: &str| {
        json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        }]})
    };
    check(
        unschedulable(
            "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
        ),
        Some(Reason::Unschedulable),
        &["0/2 nodes are available: 2 Insufficient cpu;", "`spec.resources`"],
    );
    check(
        unschedulable("0/2 nodes are available: 2 Insufficient nvidia.com/gpu."),
        Some(Reason::Unschedulable),
        &["`spec.resources.gpu`"],
    );
    check(
        unschedulable(
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
        ),
        Some(Reason::Unschedulable),
        &["`spec.placement.nodeSelector`"],
    );
    check(
        unschedulable("0/2 nodes are available: 2 node(s) had untolerated taint {gpu: true}."),
        Some(Reason::Unschedulable),
        &["`spec.placement.tolerations`"],
    );
    check(
        unschedulable("0/2 nodes are available: persistentvolumeclaim \"weights\" not found."),
        Some(Reason::Unschedulable),
        &["create the claim"],
    );
}

#[test]
fn fetching_the_model() {
    let said = |code: i32, message: &str| {
        init(json!({"terminated": {"exitCode": code, "reason": "Error", "message": message}}))
    };
    check(
        said(4, "AccessDenied: access to s3://models/iris was refused (403)\n"),
        Some(Reason::ModelForbidden),
        &[
            "cannot fetch the model: access to s3://models/iris was refused (403); ",
            "credentialsSecret",
        ],
    );
    check(
        said(3, "NotFound: there is nothing"),
        Some(Reason::ModelNotFound),
        &["model: there is nothing; correct `spec.model.uri`"],
    );
    check(said(5, "DigestMismatch: other"), Some(Reason::ModelMismatch), &["sha256"]);
    check(said(7, "Unavailable: connection refused"), Some(Reason::ModelUnavailable), &[]);
    check(said(2, ""), Some(Reason::ModelFetchFailed), &["kubectl logs iris-7c9-x -c fetch-model"]);
    check(said(0, ""), None, &[]);
}

#[test]
fn containers_that_end() {
    let ended = |code: i32, reason: &str, message: &str| json!({"terminated": {"exitCode": code, "reason": reason, "message": message}});
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}});
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    check(
        container(waiting.clone(), ended(137, "OOMKilled", ""), 1),
        Some(Reason::OutOfMemory),
        &["memory limit; raise `spec.resources.memory`"],
    );
    check(
        container(
            waiting.clone(),
            ended(1, "Error", "loading\nerror: model.onnx is no ONNX model\n"),
            3,
        ),
        Some(Reason::CrashLoop),
        &[
            "exit code 1: loading | error: model.onnx is no ONNX model; see `kubectl logs iris-7c9-x -c model --previous`",
        ],
    );
    // Between two crashes it runs, and is not well for that.
    check(container(running.clone(), ended(1, "Error", ""), 1), Some(Reason::CrashLoop), &[]);
    check(
        container(ended(2, "Error", ""), json!({}), 0),
        Some(Reason::CrashLoop),
        &["exit code 2"],
    );
    check(
        container(running.clone(), ended(143, "Error", ""), 1),
        Some(Reason::StartupProbeFailed),
        &["startup probe"],
    );
    check(
        container(
            waiting,
            ended(128, "StartError", "exec: \"nope\": executable file not found"),
            1,
        ),
        Some(Reason::ContainerStartFailed),
        &["executable file not found", "`spec.runtime.command`"],
    );
    check(container(running, json!({}), 0), None, &[]);
}

#[test]
fn failed_pods_and_pods_that_cannot_be_created() {
    check(
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
        Some(Reason::PodFailed),
        &["Evicted: The node was low"],
    );
    let quota = "pods \"iris-7c9-abcde\" is forbidden: exceeded quota: compute, requested: cpu=1, used: cpu=2, limited: cpu=2";
    let trouble = of_create_failure(quota);
    assert_eq!(trouble.reason, Reason::QuotaExceeded);
    assert!(
        !trouble.message(Declared::ModelService).contains("abcde"),
        "{}",
        trouble.message(Declared::ModelService)
    );
    let policy = "pods \"iris-7c9-abcde\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true";
    assert_eq!(of_create_failure(policy).reason, Reason::PodForbidden);
    assert_eq!(of_create_failure("something else").reason, Reason::PodCreateFailed);
}

#[test]
fn events_tell_what_a_status_does_not() {
    let probe = of_event(
        "p",
        "Unhealthy",
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
    );
    assert!(
        probe
            .expect("known")
            .message(Declared::ModelService)
            .contains("is not ready: Readiness probe failed")
    );
    assert_eq!(of_event("p", "BackOff", "").map(|trouble| trouble.reason), None);
}

#[test]
fn long_texts_are_cut_between_characters() {
    let long = "ä".repeat(1000);
    let trouble = Trouble::new(Reason::CrashLoop, "p", &last_lines(&long));
    assert!(trouble.detail.ends_with('…') && trouble.detail.len() <= LONGEST_DETAIL + 3);
    assert_eq!(last_lines(""), "");
}

/// The doctor's own name for what the pod alone tells.
#[test]
fn diagnoses_agree() {
    let of = |state: Value, last: Value| {
        let pod = json!({
            "metadata": {"name": "iris-7c9-x", "namespace": "models"},
            "spec": {"nodeName": "n", "containers": [{"name": "model", "image": "registry.example/model:1",
                "resources": {"limits": {"memory": "1Gi"}}}]},
            "status": container(state, last, 3),
        });
        of_pod(&serde_json::from_value(pod).expect("a pod")).expect("trouble")
    };
    let waiting =
        |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
    let oom = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let trouble = of(waiting("CrashLoopBackOff", ""), oom);
    assert_eq!((trouble.reason, trouble.diagnosis), (Reason::OutOfMemory, Some("D24")));
    assert!(
        trouble.message(Declared::ModelService).ends_with("raise `spec.resources.memory` [D24]"),
        "{}",
        trouble.message(Declared::ModelService)
    );
    let trouble = of(waiting("ImagePullBackOff", "not found"), json!({}));
    assert_eq!((trouble.reason, trouble.diagnosis), (Reason::ImagePullFailed, Some("D18")));
    let trouble = of(waiting("CreateContainerConfigError", "secret \"keys\" not found"), json!({}));
    assert_eq!((trouble.reason, trouble.diagnosis), (Reason::ContainerConfigError, Some("D21")));
    // What only the log tells has no name here.
    let trouble = of(
        waiting("CrashLoopBackOff", ""),
        json!({"terminated": {"exitCode": 1, "reason": "Error"}}),
    );
    assert_eq!((trouble.reason, trouble.diagnosis), (Reason::CrashLoop, None));
    assert_eq!(of_create_failure("exceeded quota: a").diagnosis, Some("D10"));
}
