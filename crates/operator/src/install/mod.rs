//! Puts Trainyard into a cluster and takes it out again: definitions, rights, operator and gateway.

mod manifests;

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_client::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube_client::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use kube_client::{Api, Client};
use serde_json::Value;
use tokio::time::Instant;
use trainyard_plan::kubernetes::ParentGateway;

use crate::names::{GATEWAY, OPERATOR};

pub(crate) use manifests::SELECTOR;
pub use manifests::{Installation, Lint};

/// The field manager of installations.
const MANAGER: &str = "trainyard-install";
/// How often is looked whether something has become so.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// For a definition to be served.
const DEFINED_WITHIN: Duration = Duration::from_secs(60);

/// Why an installation did not come about.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("cannot {what}")]
    Call { what: String, source: Box<kube_client::Error> },
    #[error(
        "the cluster holds `{name}` objects stored as {stored}, which this version of Trainyard does not know; install a newer one"
    )]
    StoredVersions { name: String, stored: String },
    #[error("the definition `{name}` was not accepted within {} s", DEFINED_WITHIN.as_secs())]
    NotDefined { name: String },
    #[error(
        "`{name}` is not available after {} s: {ready} of {wanted} pods are ready; see `kubectl -n {namespace} describe pods -l app.kubernetes.io/name={name}`",
        waited.as_secs()
    )]
    NotAvailable { name: String, namespace: String, ready: i32, wanted: i32, waited: Duration },
}

/// What was done to one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Such as `deployment.apps/trainyard-operator`.
    pub object: String,
    pub change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Created,
    Changed,
    Unchanged,
    Deleted,
}

/// Installs or upgrades, and tells of each object. Doing it again changes nothing.
pub async fn install(
    client: &Client,
    installation: &Installation,
    mut tell: impl FnMut(&Done),
) -> Result<(), InstallError> {
    let crds =
        trainyard_api::crds().map(|crd| (crd.metadata.name.clone().unwrap_or_default(), crd));
    for (name, crd) in &crds {
        keeps_stored(client, name, crd).await?;
    }
    tell(&apply(client, &installation.namespace()).await?);
    for (name, crd) in &crds {
        tell(&apply(client, &serde_json::to_value(crd).unwrap_or_default()).await?);
        defined(client, name).await?;
    }
    for object in installation.objects() {
        tell(&apply(client, &object).await?);
    }
    if has_admission_policies(client).await? {
        for object in installation.admission() {
            tell(&apply(client, &object).await?);
        }
    }
    if installation.lint.is_none() {
        // An installation before may have had it; the API server would ask nobody.
        delete(client, &installation.lint_objects(Lint::Labelled), &mut tell).await?;
    }
    Ok(())
}

/// Waits until the operator and the gateway have all their pods.
pub async fn available(
    client: &Client,
    namespace: &str,
    limit: Duration,
) -> Result<(), InstallError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + limit;
    for name in [OPERATOR, GATEWAY] {
        loop {
            let what = || format!("read the Deployment {namespace}/{name}");
            let found = deployments.get(name).await.map_err(|error| call(what(), error))?;
            let wanted = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = found.status.unwrap_or_default();
            let seen = status.observed_generation >= found.metadata.generation;
            let ready =
                status.ready_replicas.unwrap_or(0).min(status.updated_replicas.unwrap_or(0));
            if seen && ready >= wanted && status.replicas == Some(wanted) {
                break;
            }
            if Instant::now() > deadline {
                let (name, namespace) = (name.to_owned(), namespace.to_owned());
                return Err(InstallError::NotAvailable {
                    name,
                    namespace,
                    ready,
                    wanted,
                    waited: limit,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// Takes operator, gateway and rights out. Definitions, services, what they run and the namespace
/// stay: replicas go on serving, and an installation that comes later takes them over.
pub async fn uninstall(
    client: &Client,
    installation: &Installation,
    mut tell: impl FnMut(&Done),
) -> Result<(), InstallError> {
    // Pods before the rights that they need to end well.
    let mut objects = installation.admission().to_vec();
    objects.extend(installation.objects());
    // It may have been made by an installation with other flags.
    let any = ParentGateway { namespace: String::new(), name: String::new() };
    objects.push(installation.http_route(&any));
    objects.extend(installation.lint_objects(Lint::Labelled));
    delete(client, &objects, &mut tell).await
}

/// Deletes what is there of these, the last first.
async fn delete(
    client: &Client,
    objects: &[Value],
    tell: &mut impl FnMut(&Done),
) -> Result<(), InstallError> {
    for object in objects.iter().rev() {
        let named = Named::of(object);
        let what = format!("delete {}", named.shown());
        match named.api(client).delete(&named.name, &DeleteParams::foreground()).await {
            Ok(_) => tell(&Done { object: named.shown(), change: Change::Deleted }),
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(call(what, error)),
        }
    }
    Ok(())
}

/// The oldest Kubernetes among the API server and the nodes, such as `1.34`: what objects may use.
/// Nodes that the caller may not list are taken to be as new as the API server.
pub async fn oldest_version(client: &Client) -> Result<Option<String>, InstallError> {
    let what = || "ask the API server for its version".to_owned();
    let server = client.apiserver_version().await.map_err(|error| call(what(), error))?;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.map(|list| list.items).unwrap_or_default();
    let kubelets =
        nodes.into_iter().filter_map(|node| Some(node.status?.node_info?.kubelet_version));
    let minors = kubelets.chain([server.git_version]).filter_map(|version| minor(&version));
    Ok(minors.min().map(|minor| format!("1.{minor}")))
}

/// 34 of `v1.34.1-eks-3abbec1`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("v1.")?.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
}

/// Whether the API server knows ValidatingAdmissionPolicies, as from Kubernetes 1.30.
async fn has_admission_policies(client: &Client) -> Result<bool, InstallError> {
    match client.list_api_group_resources("admissionregistration.k8s.io/v1").await {
        Ok(list) => Ok(list.resources.iter().any(|it| it.kind == "ValidatingAdmissionPolicy")),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(call("see which kinds the API server knows".to_owned(), error)),
    }
}

/// An upgrade must not take a version away that objects are stored as: they could not be read.
async fn keeps_stored(
    client: &Client,
    name: &str,
    next: &CustomResourceDefinition,
) -> Result<(), InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let what = || format!("read the definition {name}");
    let Some(known) = api.get_opt(name).await.map_err(|error| call(what(), error))? else {
        return Ok(());
    };
    let stored = known.status.and_then(|status| status.stored_versions).unwrap_or_default();
    let lost: Vec<String> = stored
        .into_iter()
        .filter(|stored| !next.spec.versions.iter().any(|version| version.name == *stored))
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(InstallError::StoredVersions { name: name.to_owned(), stored: lost.join(", ") })
}

async fn defined(client: &Client, name: &str) -> Result<(), InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let deadline = Instant::now() + DEFINED_WITHIN;
    while Instant::now() < deadline {
        let what = || format!("read the definition {name}");
        let known = api.get(name).await.map_err(|error| call(what(), error))?;
        let conditions = known.status.and_then(|status| status.conditions).unwrap_or_default();
        if conditions.iter().any(|it| it.type_ == "Established" && it.status == "True") {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(InstallError::NotDefined { name: name.to_owned() })
}

async fn apply(client: &Client, object: &Value) -> Result<Done, InstallError> {
    let named = Named::of(object);
    let api = named.api(client);
    let what = format!("apply {}", named.shown());
    let before = api.get_opt(&named.name).await.map_err(|error| call(what.clone(), error))?;
    let params = PatchParams::apply(MANAGER).force();
    let applied = api
        .patch(&named.name, &params, &Patch::Apply(object))
        .await
        .map_err(|error| call(what, error))?;
    let change = match before {
        None => Change::Created,
        Some(before) if content(&before) == content(&applied) => Change::Unchanged,
        Some(_) => Change::Changed,
    };
    Ok(Done { object: named.shown(), change })
}

/// What a person wrote, and not what the API server and controllers keep beside it: those write a
/// status, and with it a new resource version, at any time.
fn content(object: &DynamicObject) -> impl PartialEq + use<> {
    let mut data = object.data.clone();
    if let Some(fields) = data.as_object_mut() {
        fields.remove("status");
    }
    let metadata = &object.metadata;
    (data, metadata.labels.clone(), metadata.annotations.clone())
}

/// Which object a manifest is.
struct Named {
    resource: ApiResource,
    namespace: Option<String>,
    name: String,
}

impl Named {
    fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let types =
            TypeMeta { api_version: text(&object["apiVersion"]), kind: text(&object["kind"]) };
        let kind = GroupVersionKind::try_from(&types)
            .unwrap_or_else(|_| GroupVersionKind::gvk("", "v1", &types.kind));
        Self {
            resource: ApiResource::from_gvk(&kind),
            namespace: object["metadata"]["namespace"].as_str().map(str::to_owned),
            name: text(&object["metadata"]["name"]),
        }
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }

    /// As kubectl shows it.
    fn shown(&self) -> String {
        let kind = self.resource.kind.to_lowercase();
        let group = &self.resource.group;
        let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
        format!("{kind}/{}", self.name)
    }
}

fn call(what: String, source: kube_client::Error) -> InstallError {
    InstallError::Call { what, source: Box::new(source) }
}

/// Whether there is no such object, or no such kind: of that the API server says "404 page not
/// found", in no form of Kubernetes'.
fn is_not_found(error: &kube_client::Error) -> bool {
    matches!(error, kube_client::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_new_status_is_no_change() {
        let object = |version: &str, label: &str, kind: &str, reason: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Policy",
                "metadata": {"name": "a", "resourceVersion": version, "labels": {"a": label}},
                "spec": {"kind": kind},
                "status": {"reason": reason},
            }))
            .expect("an object")
        };
        let before = object("1", "x", "Pod", "");
        assert!(content(&before) == content(&object("2", "x", "Pod", "Checked")));
        assert!(content(&before) != content(&object("2", "y", "Pod", "")));
        assert!(content(&before) != content(&object("2", "x", "Job", "")));
    }
    #[test]
    fn the_minor_version_is_read_as_clouds_write_it() {
        let cases = [
            ("v1.34.1", Some(34)),
            ("v1.29.15-gke.1274000", Some(29)),
            ("v1.31.2-eks-94953ac", Some(31)),
            ("v1.37.0-alpha.2+dirty", Some(37)),
            ("v1.30+", Some(30)),
            ("", None),
            ("v2.1", None),
        ];
        for (version, expected) in cases {
            assert_eq!(minor(version), expected, "{version}");
        }
    }
}
