//! The revisions of a service, kept as ControllerRevisions, and the way back to one.
//!
//! A revision is what its name is made of: model, runtime, resources and batching. Replicas,
//! rollout, access and placement are not part of it, so that going back changes none of these.

use std::cmp::Reverse;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube_client::api::{ListParams, PostParams};
use kube_client::core::{ApiResource, DynamicObject};
use kube_client::{Api, Client, Error};
use serde_json::{Map, Value, json};
use trainyard_api::ModelService;

use crate::cluster::{CallError, Calls};
use crate::desired::owner;
use crate::key::{Declared, ResourceKey};
use crate::metrics::Metrics;
use crate::names::{
    MANAGED_BY, MANAGED_BY_LABEL, ROLLBACK_ANNOTATION, ROLLBACK_MANAGER, SERVICE_LABEL,
    managed_by_selector,
};
use crate::world::{Entry, Release, Source, World, owner_uid};

/// Revisions that are kept beside the newest; as many as a StatefulSet keeps.
const KEPT: usize = 10;

/// What a revision consists of, as fields of the spec.
const FIELDS: [&str; 4] = ["model", "runtime", "resources", "batching"];

/// How often a rollback is tried when the service changes under it.
const TRIES: u32 = 5;

/// Keeps the revision that a service asks for, as the newest, and lets go of the oldest; not of those
/// in use.
pub(crate) async fn keep(
    calls: &Calls,
    world: &World,
    metrics: &Metrics,
    key: &ResourceKey,
    (service, entry): (&ModelService, &Entry),
    revision: &str,
    in_use: &[String],
) -> Result<(), CallError> {
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    let mut ours: Vec<&Release> =
        entry.releases.iter().filter(|release| release.owner.as_deref() == Some(uid)).collect();
    ours.sort_by_key(|release| Reverse(release.number));
    let newest = ours.first().map_or(0, |release| release.number);
    let known = ours.iter().find(|release| *release.name == *revision);
    if known.is_none_or(|known| known.number != newest) {
        if let Some(earlier) = known {
            // It becomes the newest by a new object. A patch of its number would be refused where
            // its content has an `&`: the API server writes that differently once it has read it,
            // and takes it for another content. What it consists of stands in the spec.
            calls.delete_release(key, &earlier.name, &earlier.uid).await?;
            metrics.wrote("ControllerRevision", "delete");
            world.remove(key, Source::Releases, &earlier.name, earlier.resource_version);
        }
        let release = release(key, service, revision, newest.saturating_add(1));
        if let Some(kept) = calls.create_release(key, &release).await? {
            metrics.wrote("ControllerRevision", "create");
            world.settle_release(key, &kept);
        }
    }
    let old = ours.iter().filter(|release| *release.name != *revision).skip(KEPT);
    for release in old.filter(|release| !in_use.iter().any(|name| **name == *release.name)) {
        calls.delete_release(key, &release.name, &release.uid).await?;
        metrics.wrote("ControllerRevision", "delete");
    }
    Ok(())
}

fn release(
    key: &ResourceKey,
    service: &ModelService,
    revision: &str,
    number: i64,
) -> ControllerRevision {
    let spec = serde_json::to_value(&service.spec).unwrap_or_default();
    let labels = [(MANAGED_BY_LABEL, MANAGED_BY), (SERVICE_LABEL, &*key.name)];
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(revision.to_owned()),
            namespace: Some(key.namespace.to_string()),
            labels: Some(labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()),
            owner_references: Some(vec![owner(key, service.metadata.uid.as_deref())]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(content(&spec))),
        revision: number,
    }
}

/// What the revision that a service asks for consists of.
pub(crate) fn content_of(service: &ModelService) -> Value {
    content(&serde_json::to_value(&service.spec).unwrap_or_default())
}

/// The service as it would be with the content of another revision, and all else as it is.
pub(crate) fn with_content(
    service: &ModelService,
    content: &Value,
) -> Result<ModelService, String> {
    let mut spec = serde_json::to_value(&service.spec).map_err(|error| error.to_string())?;
    write_content(&mut spec, content);
    let spec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
    Ok(ModelService { spec, ..service.clone() })
}

fn write_content(spec: &mut Value, content: &Value) {
    for field in FIELDS {
        match content.get(field) {
            Some(value) => spec[field] = value.clone(),
            None => {
                if let Some(spec) = spec.as_object_mut() {
                    spec.remove(field);
                }
            }
        }
    }
}

/// The part of a spec that a revision consists of.
fn content(spec: &Value) -> Value {
    let fields = FIELDS.into_iter().filter_map(|field| {
        spec.get(field)
            .filter(|value| !value.is_null())
            .map(|value| (field.to_owned(), value.clone()))
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

/// Why there is no way back.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    #[error("there is no ModelService `{service}` in the namespace `{namespace}`")]
    NoService { namespace: String, service: String },
    #[error("`{service}` has no revision before the one that it asks for")]
    NoEarlier { service: String },
    #[error("`{service}` has no revision `{wanted}`; it has {known}")]
    NoSuchRevision { service: String, wanted: String, known: String },
    #[error("`{service}` asks for the content of revision `{revision}` already")]
    AlreadyThere { service: String, revision: String },
    #[error("`{service}` changed {TRIES} times while it was rolled back; try again")]
    Busy { service: String },
    #[error("the API server did not {what}")]
    Api { what: String, source: Box<Error> },
}

/// Lets a service ask for an earlier revision again; returns its name.
///
/// `to` is a revision's name or its number; none is the newest one whose content is another than
/// what the service asks for now. The revision's model, runtime, resources and batching are
/// written into the spec, which the operator then rolls out replica by replica, without the steps
/// and pauses of a strategy: whoever goes back is in a hurry.
pub async fn rollback(
    client: Client,
    namespace: &str,
    service: &str,
    to: Option<&str>,
) -> Result<String, RollbackError> {
    let resource = ApiResource::erase::<ModelService>(&());
    let services: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let releases: Api<ControllerRevision> = Api::namespaced(client, namespace);
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| RollbackError::Api { what, source: Box::new(source) }
    };
    for _ in 0..TRIES {
        let found = services.get_opt(service).await.map_err(failed("give the service"))?;
        let Some(mut found) = found else {
            let (namespace, service) = (namespace.to_owned(), service.to_owned());
            return Err(RollbackError::NoService { namespace, service });
        };
        let labels = format!("{},{SERVICE_LABEL}={service}", managed_by_selector());
        let kept = releases
            .list(&ListParams::default().labels(&labels))
            .await
            .map_err(failed("list the service's revisions"))?;
        let uid = found.metadata.uid.clone().unwrap_or_default();
        let ours: Vec<ControllerRevision> = kept
            .items
            .into_iter()
            .filter(|release| {
                let of = (Declared::ModelService, service);
                owner_uid(&release.metadata, of).as_deref() == Some(uid.as_str())
            })
            .collect();
        let (name, content) = choose(service, &content(&found.data["spec"]), ours, to)?;
        write_content(&mut found.data["spec"], &content);
        let annotations = found.metadata.annotations.get_or_insert_default();
        annotations.insert(ROLLBACK_ANNOTATION.to_owned(), name.clone());
        let params =
            PostParams { field_manager: Some(ROLLBACK_MANAGER.into()), ..PostParams::default() };
        // With the resource version that was read: who changed it in the meantime is not undone.
        match services.replace(service, &params, &found).await {
            Ok(_) => return Ok(name),
            Err(Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(failed("change the service")(error)),
        }
    }
    Err(RollbackError::Busy { service: service.to_owned() })
}

fn choose(
    service: &str,
    current: &Value,
    mut releases: Vec<ControllerRevision>,
    to: Option<&str>,
) -> Result<(String, Value), RollbackError> {
    releases.sort_by_key(|release| Reverse(release.revision));
    let name = |release: &ControllerRevision| release.metadata.name.clone().unwrap_or_default();
    let data = |release: &ControllerRevision| {
        release.data.as_ref().map(|data| data.0.clone()).unwrap_or_else(|| json!({}))
    };
    let Some(wanted) = to else {
        let earlier = releases.iter().find(|release| data(release) != *current);
        let earlier =
            earlier.ok_or_else(|| RollbackError::NoEarlier { service: service.to_owned() })?;
        return Ok((name(earlier), data(earlier)));
    };
    let number = wanted.parse::<i64>().ok();
    let found =
        releases.iter().find(|release| name(release) == wanted || number == Some(release.revision));
    let Some(found) = found else {
        let known: Vec<String> = releases
            .iter()
            .map(|release| format!("{} ({})", release.revision, name(release)))
            .collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let (service, wanted) = (service.to_owned(), wanted.to_owned());
        return Err(RollbackError::NoSuchRevision { service, wanted, known });
    };
    if data(found) == *current {
        let (service, revision) = (service.to_owned(), name(found));
        return Err(RollbackError::AlreadyThere { service, revision });
    }
    Ok((name(found), data(found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(number: i64, uri: &str) -> ControllerRevision {
        ControllerRevision {
            metadata: ObjectMeta { name: Some(format!("iris-{number}")), ..ObjectMeta::default() },
            data: Some(RawExtension(json!({"model": {"uri": uri}}))),
            revision: number,
        }
    }

    #[track_caller]
    fn check(current: &str, to: Option<&str>, expected: Result<&str, &str>) {
        // Revision 3 has the content of 2: only the operator's own image differed.
        let all = vec![kept(1, "s3://a"), kept(3, "s3://b"), kept(2, "s3://b")];
        let chosen = choose("iris", &json!({"model": {"uri": current}}), all, to);
        let chosen = chosen.map(|(name, _)| name).map_err(|error| error.to_string());
        assert_eq!(chosen.as_deref().map_err(|error| error.as_str()), expected);
    }

    #[test]
    fn table() {
        check("s3://b", None, Ok("iris-1"));
        check("s3://a", None, Ok("iris-3"));
        check("s3://new", None, Ok("iris-3"));
        check("s3://b", Some("1"), Ok("iris-1"));
        check("s3://b", Some("iris-1"), Ok("iris-1"));
        check("s3://b", Some("2"), Err("`iris` asks for the content of revision `iris-2` already"));
        check(
            "s3://b",
            Some("7"),
            Err("`iris` has no revision `7`; it has 3 (iris-3), 2 (iris-2), 1 (iris-1)"),
        );
    }

    #[test]
    fn a_revision_is_what_its_name_is_made_of() {
        let spec = json!({"model": {"uri": "s3://a"}, "scaling": {"min": 3}, "resources": null});
        assert_eq!(content(&spec), json!({"model": {"uri": "s3://a"}}));
        let error = choose("iris", &content(&spec), vec![kept(1, "s3://a")], None);
        assert_eq!(
            error.map_err(|error| error.to_string()),
            Err("`iris` has no revision before the one that it asks for".into())
        );
    }
}
