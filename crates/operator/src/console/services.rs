//! Services as the cluster has them.

use k8s_openapi::api::apps::v1::Deployment;
use kube_client::Api;
use kube_client::api::ListParams;
use kube_client::core::DynamicObject;
use serde_json::Value;
use trainyard_api::nearest;

use super::failure::ask;
use super::{Console, ConsoleError, Kind};

/// Namespace and name.
pub type Key = (String, String);

/// Which services are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// These; all if there are none.
    pub names: Vec<String>,
    /// Those with these labels, in Kubernetes' notation.
    pub labels: Option<String>,
}

/// Namespace and name of a resource.
pub fn key(service: &Value) -> Key {
    let text = |field: &str| service["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

impl Console {
    /// The services, by namespace and name; each of those named is there, or it is an error.
    pub async fn services(&self, selection: &Selection) -> Result<Vec<Value>, ConsoleError> {
        let mut found = Vec::new();
        if selection.names.is_empty() {
            let mut params = ListParams::default();
            params.label_selector.clone_from(&selection.labels);
            let list = ask("list the services", self.resources().list(&params)).await?;
            found.extend(list.items.into_iter().map(|it| self.value(it)));
        }
        for name in &selection.names {
            found.push(self.service(name).await?);
        }
        found.sort_by_key(key);
        found.dedup_by_key(|service| key(service));
        Ok(found)
    }

    /// One service.
    pub async fn service(&self, name: &str) -> Result<Value, ConsoleError> {
        let what = format!("get the service `{name}`");
        let api = self.resource();
        let found = match ask(&what, api.get(name)).await {
            Err(ConsoleError::Refused { reason, .. }) if reason == "NotFound" => None,
            result => Some(result?),
        };
        match found {
            Some(found) => Ok(self.value(found)),
            None => Err(self.not_found(name).await),
        }
    }

    /// How operator and gateway are, such as `trainyard-operator 2/2`; nothing where they are not
    /// found, or not to be seen.
    pub async fn programs(&self) -> Vec<String> {
        let api: Api<Deployment> = Api::all(self.client.clone());
        let params = ListParams::default().labels(crate::install::SELECTOR);
        let found = ask("list operator and gateway", api.list(&params)).await;
        let programs = found.into_iter().flatten().map(|deployment| {
            let status = deployment.status.unwrap_or_default();
            let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
            let name = deployment.metadata.name.unwrap_or_default();
            format!("{name} {}/{wanted}", status.ready_replicas.unwrap_or(0))
        });
        programs.collect()
    }

    /// That there is no such service, with what may have been meant.
    pub(super) async fn not_found(&self, name: &str) -> ConsoleError {
        let namespace = self.home().to_owned();
        // A person may be allowed to read the one and not the others: then there is no hint.
        let params = ListParams::default();
        let near = ask("list the services", self.resource().list_metadata(&params)).await;
        let names: Vec<String> =
            near.into_iter().flatten().filter_map(|it| it.metadata.name).collect();
        let mut hint = nearest(name, names.iter().map(String::as_str))
            .map(|near| format!("did you mean `{near}`?"));
        if hint.is_none() {
            let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &self.kind.resource());
            let fields = ListParams::default().fields(&format!("metadata.name={name}"));
            let elsewhere = ask("list all services", all.list_metadata(&fields)).await;
            hint =
                elsewhere.into_iter().flatten().find_map(|it| it.metadata.namespace).map(|other| {
                    format!("there is one in the namespace `{other}`: add `-n {other}`")
                });
        }
        if hint.is_none() && !names.is_empty() && names.len() <= 10 {
            hint = Some(format!("there are: {}", names.join(", ")));
        }
        ConsoleError::NotFound {
            resource: self.kind.full_name(),
            name: name.to_owned(),
            namespace,
            hint,
        }
    }

    /// All resources in question.
    pub(super) fn resources(&self) -> Api<DynamicObject> {
        match self.namespace() {
            Some(namespace) => {
                Api::namespaced_with(self.client.clone(), namespace, &self.kind.resource())
            }
            None => Api::all_with(self.client.clone(), &self.kind.resource()),
        }
    }

    /// Where a resource is that is named.
    pub(super) fn resource(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.home(), &self.kind.resource())
    }
}

impl Console {
    fn value(&self, object: DynamicObject) -> Value {
        value(self.kind, object)
    }
}

/// A resource as people see it: who wrote which field is left out, as kubectl does.
pub(super) fn value(kind: Kind, mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    // Entries of a list do not say what they are.
    let resource = kind.resource();
    object.types.get_or_insert(kube_client::core::TypeMeta {
        api_version: resource.api_version,
        kind: resource.kind,
    });
    serde_json::to_value(object).unwrap_or_default()
}
