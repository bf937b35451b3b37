//! Changes of objects as kubectl makes them.

use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::{Fix, ObjectRef};
use crate::view::{Object, Pod, View};

/// A change of an object's fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Patch {
    /// As kubectl's `--type`: `strategic` or `merge`.
    pub patch_type: &'static str,
    pub patch: Value,
}

/// Changes the pod spec where it was written: in the Deployment of a replica, in the ModelService of
/// a Deployment. `spec` holds fields of a PodSpec.
pub(crate) fn pod_spec<'a>(view: &View<'a>, pod: &Pod<'a>, spec: Value) -> Fix {
    let top = view.top(pod.object);
    let patch = match top.kind() {
        "Deployment" | "StatefulSet" | "DaemonSet" => {
            Some(("strategic", json!({"spec": {"template": {"spec": spec.clone()}}})))
        }
        "ModelService" => of_service(&spec).map(|spec| ("merge", json!({"spec": spec}))),
        // Tolerations may be added to a pod that is there.
        "Pod" if only_key(&spec) == Some("tolerations") => {
            Some(("strategic", json!({"spec": spec.clone()})))
        }
        _ => None,
    };
    match patch {
        Some((patch_type, patch)) => object(top, patch_type, patch),
        None => Fix::Advice {
            text: format!("make {} anew with this in its pod spec: {spec}", top.reference()),
        },
    }
}

/// Changes fields of an object.
pub(crate) fn object(object: Object<'_>, patch_type: &'static str, patch: Value) -> Fix {
    let object = object.reference();
    let text = patch.to_string().replace('\'', "'\\''");
    let command = format!(
        "kubectl {}patch {} --type {patch_type} -p '{text}'",
        place(&object),
        named(&object)
    );
    Fix::Patch { object, patch: Patch { patch_type, patch }, command }
}

/// The same of a pod spec in a ModelService, where it has such a field.
fn of_service(spec: &Value) -> Option<Value> {
    match only_key(spec)? {
        key @ ("tolerations" | "nodeSelector") => Some(json!({"placement": {key: spec.get(key)?}})),
        _ => None,
    }
}

fn only_key(spec: &Value) -> Option<&str> {
    let mut keys = spec.as_object()?.keys();
    let key = keys.next()?;
    keys.next().is_none().then_some(key)
}

/// `-n models `, or nothing.
pub(crate) fn place(object: &ObjectRef) -> String {
    if object.namespace.is_empty() { String::new() } else { format!("-n {} ", object.namespace) }
}

/// `deployment/iris`.
pub(crate) fn named(object: &ObjectRef) -> String {
    format!("{}/{}", object.kind.to_ascii_lowercase(), object.name)
}
