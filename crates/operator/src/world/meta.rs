//! What an object's metadata says about the resource that it belongs to.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use trainyard_api::model_service::MODEL_NAME;

use crate::key::{Declared, ResourceKey};
use crate::names::{MANAGED_BY, MANAGED_BY_LABEL, ROLLBACK_ANNOTATION};

const GROUP: &str = "trainyard.dev/";

/// The version of an object, as a number. They are compared only to ignore what is not newer than
/// what is known already. The API promises no numbers: another text counts as [`NEWEST`].
pub(crate) fn resource_version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(NEWEST)
}

/// A version that cannot be compared: always taken in, so that nothing is missed.
const NEWEST: u64 = u64::MAX;

/// Whether an object of this version tells more than one that is known.
pub(crate) fn is_news(version: u64, known: u64) -> bool {
    version > known || version == NEWEST
}

/// The service or job that an object belongs to, by its label.
pub(crate) fn belongs_to(metadata: &ObjectMeta) -> Option<ResourceKey> {
    let labels = metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY_LABEL).map(String::as_str) != Some(MANAGED_BY) {
        return None;
    }
    let named = |kind: &Declared| labels.get(kind.label()).map(|name| (*kind, name));
    let (kind, name) = Declared::ALL.iter().find_map(named)?;
    Some(ResourceKey::new(kind, metadata.namespace.as_deref()?, name))
}

/// Takes away what no decision needs, of which there may be much.
pub(crate) fn strip(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| name == ROLLBACK_ANNOTATION || name == MODEL_NAME);
    }
}

/// The uid of the resource of that kind and name that controls an object. `Some("")` if something else does.
///
/// It may be another uid than that of the resource which is there now: of one that was deleted, and
/// whose objects the garbage collector did not come to yet.
pub(crate) fn owner_uid(metadata: &ObjectMeta, of: (Declared, &str)) -> Option<Box<str>> {
    let owners = metadata.owner_references.as_ref()?;
    let controller = owners.iter().find(|owner| owner.controller == Some(true))?;
    let is_meant = controller.kind == of.0.kind()
        && controller.api_version.starts_with(GROUP)
        && controller.name == of.1;
    Some(if is_meant { controller.uid.as_str().into() } else { "".into() })
}

/// Whether a resource may have an object that this controls: an orphan (which was ours before a
/// deletion that left it), its own, or one of a resource of the same name that is no more.
pub(crate) fn may_be_ours(owner: Option<&str>) -> bool {
    owner.is_none_or(|uid| !uid.is_empty())
}

#[test]
fn whose_an_object_is_and_how_new() {
    let of = |api_version: &str, kind: &str, name: &str| {
        let owner = serde_json::json!({
            "apiVersion": api_version, "kind": kind, "name": name, "uid": "u", "controller": true,
        });
        let metadata = serde_json::json!({"ownerReferences": [owner]});
        let metadata: ObjectMeta = serde_json::from_value(metadata).expect("metadata");
        owner_uid(&metadata, (Declared::ModelService, "iris"))
    };
    assert_eq!(of("trainyard.dev/v1alpha1", "ModelService", "iris").as_deref(), Some("u"));
    assert_eq!(of("trainyard.dev/v1alpha1", "ModelService", "other").as_deref(), Some(""));
    assert_eq!(of("apps/v1", "Deployment", "iris").as_deref(), Some(""));
    // A job of the same name has objects of its own.
    assert_eq!(of("trainyard.dev/v1alpha1", "TrainingJob", "iris").as_deref(), Some(""));
    assert_eq!(owner_uid(&ObjectMeta::default(), (Declared::ModelService, "iris")), None);
    assert!(is_news(2, 1) && !is_news(1, 1) && is_news(NEWEST, NEWEST));
    assert!(may_be_ours(None) && may_be_ours(Some("u")) && !may_be_ours(Some("")));
}

#[test]
fn what_a_service_is_called_is_kept() {
    let metadata = serde_json::json!({
        "annotations": {MODEL_NAME: "my_model", ROLLBACK_ANNOTATION: "1", "example.com/a": "long"},
        "managedFields": [{"manager": "kubectl"}],
    });
    let mut metadata: ObjectMeta = serde_json::from_value(metadata).expect("metadata");
    strip(&mut metadata);
    let kept: Vec<_> = metadata.annotations.into_iter().flatten().map(|(name, _)| name).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept.iter().all(|name| name.starts_with("trainyard.dev/")), "{kept:?}");
    assert_eq!(metadata.managed_fields, None);
}
