//! The requests that reconciles make, each with a deadline.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::resource::v1::DeviceClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_client::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube_client::core::{
    ApiResource, DynamicObject, GroupVersionKind, NamespaceResourceScope, PartialObjectMeta,
};
use kube_client::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::CallError;
use crate::key::ResourceKey;
use crate::kinds::{self, KindIndex};
use crate::names::{FIELD_MANAGER, HANDOVER_MANAGER, managed_by_selector};

/// The API server ends its own requests after a minute; a write of ours takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// Typed access to the objects of services and jobs.
#[derive(Clone)]
pub(crate) struct Calls {
    client: Client,
}

impl Calls {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The metadata of an object; none if there is no such object.
    pub(crate) async fn look_up(
        &self,
        key: &ResourceKey,
        kind: KindIndex,
        name: &str,
    ) -> Result<Option<ObjectMeta>, CallError> {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::namespaced_with(
            self.client.clone(),
            &key.namespace,
            &kinds::owned(kind).resource(),
        );
        let found = within(what("look up", key, kind, name), api.get_opt(name)).await?;
        Ok(found.map(|found| found.metadata))
    }

    /// Applies an object as ours, whoever owned its fields before. Returns it as it is now.
    pub(crate) async fn apply(
        &self,
        key: &ResourceKey,
        kind: KindIndex,
        name: &str,
        body: &Value,
    ) -> Result<Value, CallError> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.patch(what("apply", key, kind, name), (key, kind, name), &params, body).await
    }

    /// Lets an autoscaler have a Deployment's `replicas`: a second owner keeps them as they are
    /// when we stop to apply them. Fails with a conflict if somebody has changed them already.
    pub(crate) async fn hand_over_replicas(
        &self,
        key: &ResourceKey,
        kind: KindIndex,
        name: &str,
        replicas: u32,
    ) -> Result<(), CallError> {
        let owned = kinds::owned(kind);
        let body = json!({
            "apiVersion": owned.api_version(), "kind": owned.kind,
            "metadata": {"name": name, "namespace": &*key.namespace},
            "spec": {"replicas": replicas},
        });
        let params = PatchParams::apply(HANDOVER_MANAGER);
        let what = what("hand over the replicas of", key, kind, name);
        self.patch(what, (key, kind, name), &params, &body).await.map(|_| ())
    }

    async fn patch(
        &self,
        what: String,
        (key, kind, name): (&ResourceKey, KindIndex, &str),
        params: &PatchParams,
        body: &Value,
    ) -> Result<Value, CallError> {
        let api = self.owned(key, kind);
        let applied = within(what, api.patch(name, params, &Patch::Apply(body))).await?;
        Ok(serde_json::to_value(applied).unwrap_or_default())
    }

    /// Deletes this very object once what belongs to it is gone: it is there, and ending, until then.
    pub(crate) async fn end(
        &self,
        key: &ResourceKey,
        kind: KindIndex,
        (name, uid): (&str, &str),
    ) -> Result<(), CallError> {
        let what = what("end", key, kind, name);
        match within(what, self.owned(key, kind).delete(name, &in_foreground(uid))).await {
            Ok(_) | Err(CallError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes this very object; one of the same name that came since stays.
    pub(crate) async fn delete(
        &self,
        key: &ResourceKey,
        kind: KindIndex,
        name: &str,
        uid: &str,
    ) -> Result<(), CallError> {
        let params = delete_params(uid);
        match within(what("delete", key, kind, name), self.owned(key, kind).delete(name, &params))
            .await
        {
            Ok(_) | Err(CallError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Applies the status of a service or job. Conditions of others stay.
    pub(crate) async fn apply_status<T>(
        &self,
        key: &ResourceKey,
        uid: &str,
        status: &impl serde::Serialize,
    ) -> Result<T, CallError>
    where
        T: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        T: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let api: Api<T> = Api::namespaced(self.client.clone(), &key.namespace);
        let body = json!({
            "apiVersion": key.kind.api_version(), "kind": key.kind.kind(),
            // Another resource of that name is not what the status is about.
            "metadata": {"name": &*key.name, "namespace": &*key.namespace, "uid": uid},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let what = format!("write the status of the {} {key}", key.kind.kind());
        within(what, api.patch_status(&key.name, &params, &Patch::Apply(&body))).await
    }

    /// Deletes this very resource, with what belongs to it.
    pub(crate) async fn delete_resource(
        &self,
        key: &ResourceKey,
        uid: &str,
    ) -> Result<(), CallError> {
        let what = format!("delete the {} {key}", key.kind.kind());
        match within(what, self.dynamic(key).delete(&key.name, &delete_params(uid))).await {
            Ok(_) | Err(CallError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has a Job's pods told to end, and no new ones made. Returns it as it is now.
    pub(crate) async fn suspend_job(
        &self,
        key: &ResourceKey,
        kind: KindIndex,
        (name, uid): (&str, &str),
    ) -> Result<Value, CallError> {
        let body = json!({"metadata": {"uid": uid}, "spec": {"suspend": true}});
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        let api = self.owned(key, kind);
        let what = what("suspend", key, kind, name);
        let patched = within(what, api.patch(name, &params, &Patch::Merge(&body))).await?;
        Ok(serde_json::to_value(patched).unwrap_or_default())
    }

    /// Makes a Secret, unless there is one of that name: nothing here may read one to compare.
    pub(crate) async fn create_secret(
        &self,
        key: &ResourceKey,
        secret: &Secret,
    ) -> Result<bool, CallError> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        match within(format!("make the Secret {name} of {key}"), api.create(&params, secret)).await
        {
            Ok(_) => Ok(true),
            Err(CallError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A resource whose content cannot be read, as plain JSON.
    pub(crate) async fn raw(&self, key: &ResourceKey) -> Result<DynamicObject, CallError> {
        let what = format!("read the {} {key}", key.kind.kind());
        within(what, self.dynamic(key).get(&key.name)).await
    }

    /// Sets the conditions of a resource whose content cannot be read. By merge patch, since an
    /// apply would have to read the content too.
    pub(crate) async fn set_raw_conditions(
        &self,
        key: &ResourceKey,
        version: Option<String>,
        conditions: &Value,
        generation: Option<i64>,
    ) -> Result<(), CallError> {
        let body = json!({
            "metadata": {"resourceVersion": version},
            "status": {"conditions": conditions, "observedGeneration": generation},
        });
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        let what = format!("write the conditions of the {} {key}", key.kind.kind());
        let api = self.dynamic(key);
        within(what, api.patch_status(&key.name, &params, &Patch::Merge(&body))).await.map(|_| ())
    }

    /// Keeps a revision; none if one of that name is there.
    pub(crate) async fn create_release(
        &self,
        key: &ResourceKey,
        kept: &ControllerRevision,
    ) -> Result<Option<ControllerRevision>, CallError> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        let what = format!("keep a revision of the ModelService {key}");
        match within(what, self.releases(key).create(&params, kept)).await {
            Ok(kept) => Ok(Some(kept)),
            Err(CallError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a kept revision consists of; none if it is not kept.
    pub(crate) async fn release_content(
        &self,
        key: &ResourceKey,
        name: &str,
    ) -> Result<Option<Value>, CallError> {
        // A list needs no right that watches do not need.
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        let what = format!("read the revision {name} of the ModelService {key}");
        let found = within(what, self.releases(key).list(&params)).await?;
        Ok(found.items.into_iter().next().and_then(|release| release.data).map(|data| data.0))
    }

    pub(crate) async fn delete_release(
        &self,
        key: &ResourceKey,
        name: &str,
        uid: &str,
    ) -> Result<(), CallError> {
        let what = format!("delete the revision {name} of the ModelService {key}");
        match within(what, self.releases(key).delete(name, &delete_params(uid))).await {
            Ok(_) | Err(CallError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The warnings about an object, the newest first.
    pub(crate) async fn warnings(
        &self,
        key: &ResourceKey,
        (kind, name): (&str, &str),
    ) -> Result<Vec<(String, String)>, CallError> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        let fields = format!("regarding.kind={kind},regarding.name={name},type=Warning");
        let params = ListParams::default().fields(&fields).limit(50);
        let mut events =
            within(format!("list the events of the {kind} {name}"), api.list(&params)).await?.items;
        events.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
        let told = events.into_iter();
        Ok(told.map(|e| (e.reason.unwrap_or_default(), e.note.unwrap_or_default())).collect())
    }

    /// Publishes an event, or counts up one that was published before.
    pub(crate) async fn publish(&self, event: &Event) -> Result<(), CallError> {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let name = event.metadata.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let what = format!("publish the event {namespace}/{name}");
        if event.series.is_some() {
            let params =
                PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
            match within(
                what.clone(),
                api.patch(&name, &params, &Patch::Merge(json!({"series": event.series}))),
            )
            .await
            {
                // It has lived its hour: a new one starts.
                Err(CallError::Gone { .. }) => {}
                result => return result.map(|_| ()),
            }
        }
        let fresh = Event { series: None, ..event.clone() };
        match within(what, api.create(&PostParams::default(), &fresh)).await {
            Ok(_) | Err(CallError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Applies an object that belongs to no service, whoever owned its fields before.
    pub(crate) async fn apply_any(&self, object: &Value) -> Result<(), CallError> {
        let (api, kind, name) = self.any(object);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let what = format!("apply the {kind} {name}");
        within(what, api.patch(name, &params, &Patch::Apply(object))).await.map(|_| ())
    }

    /// An object of that kind and name as it is now; none if there is none.
    pub(crate) async fn find_any(&self, object: &Value) -> Result<Option<Value>, CallError> {
        let (api, kind, name) = self.any(object);
        let found = within(format!("read the {kind} {name}"), api.get_opt(name)).await?;
        Ok(found.map(|found| serde_json::to_value(found).unwrap_or_default()))
    }

    /// Where an object is, its kind and its name.
    fn any<'o>(&self, object: &'o Value) -> (Api<DynamicObject>, &'o str, &'o str) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let (version, kind) =
            (text("/apiVersion").unwrap_or_default(), text("/kind").unwrap_or_default());
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api = match text("/metadata/namespace") {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        (api, kind, text("/metadata/name").unwrap_or_default())
    }

    /// Names and uids of the DeviceClasses that were made for GPU pools.
    pub(crate) async fn pool_classes(&self) -> Result<Vec<(String, String)>, CallError> {
        let api: Api<DeviceClass> = Api::all(self.client.clone());
        let selector = format!("{},{}", trainyard_plan::kubernetes::POOL, managed_by_selector());
        let params = ListParams::default().labels(&selector);
        let what = "list the DeviceClasses of GPU pools".to_owned();
        let found = within(what, api.list_metadata(&params)).await?.items.into_iter();
        Ok(found.filter_map(|it| Some((it.metadata.name?, it.metadata.uid?))).collect())
    }

    /// Deletes this very DeviceClass.
    pub(crate) async fn delete_class(&self, name: &str, uid: &str) -> Result<(), CallError> {
        let api: Api<DeviceClass> = Api::all(self.client.clone());
        let what = format!("delete the DeviceClass {name}");
        match within(what, api.delete(name, &delete_params(uid))).await {
            Ok(_) | Err(CallError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes a node's labels and taints.
    pub(crate) async fn patch_node(&self, name: &str, patch: &Value) -> Result<(), CallError> {
        let api: Api<Node> = Api::all(self.client.clone());
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        let what = format!("patch the node {name}");
        within(what, api.patch_metadata(name, &params, &Patch::Merge(patch))).await.map(|_| ())
    }

    /// Applies the status of a resource of the whole cluster. Conditions of others stay.
    pub(crate) async fn apply_cluster_status<K>(
        &self,
        name: &str,
        uid: &str,
        status: &impl serde::Serialize,
    ) -> Result<(), CallError>
    where
        K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let body = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            // Another one of that name is not what the status is about.
            "metadata": {"name": name, "uid": uid},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let what = format!("write the status of the {} {name}", K::kind(&()));
        within(what, api.patch_status(name, &params, &Patch::Apply(&body))).await.map(|_| ())
    }

    fn owned(&self, key: &ResourceKey, kind: KindIndex) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, &kinds::owned(kind).resource())
    }

    fn dynamic(&self, key: &ResourceKey) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, &key.kind.resource())
    }

    fn releases(&self, key: &ResourceKey) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

fn in_foreground(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    DeleteParams::foreground().preconditions(preconditions)
}

fn last_seen(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let old = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    series.or(old).or(event.event_time.as_ref().map(|time| time.0))
}

fn delete_params(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    DeleteParams::background().preconditions(preconditions)
}

fn what(verb: &str, key: &ResourceKey, kind: KindIndex, name: &str) -> String {
    format!("{verb} the {} {}/{name}", kinds::owned(kind).kind, key.namespace)
}

/// Runs a request to its end or the deadline.
async fn within<T>(
    what: String,
    request: impl Future<Output = kube_client::Result<T>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(CallError::of(what, error)),
        Err(_) => Err(CallError::timeout(what)),
    }
}
