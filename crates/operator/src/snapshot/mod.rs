//! Everything in a cluster as manifests, for checks that look at all of it at once.
//!
//! In: a client. Out: the objects that people or programs declared, without what the cluster adds.
//! Only lists are asked for, and Secrets never: what is not read cannot leak.

mod collect;

use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube_client::{Client, Error};
use serde::Deserialize;
use serde_json::{Map, Value};

pub use collect::{collect, places, probe};

/// What was read.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In the order of groups, resources and names.
    pub objects: Vec<Value>,
    /// Resources that could not be listed, and why not: mostly a missing right.
    pub unread: Vec<(String, String)>,
}

/// The version of the group without a name.
const CORE: &str = "v1";

/// Objects of one answer of the API server.
const PAGE: usize = 500;

/// Groups that hold what the cluster writes for itself, and definitions.
const SKIPPED_GROUPS: [&str; 11] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "custom.metrics.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "external.metrics.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "metrics.k8s.io",
];

/// Resources of other groups that are the same.
const SKIPPED: [&str; 7] = [
    "componentstatuses",
    "controllerrevisions",
    "csinodes",
    "csistoragecapacities",
    "endpoints",
    "events",
    "volumeattachments",
];

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Deserialize, Default)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

/// Reads a cluster; of a namespace, what is in it and what is in none.
///
/// # Errors
///
/// A server that does not answer, or not as Kubernetes does. A resource that may not be listed is
/// told in the snapshot.
pub async fn snapshot(client: &Client, namespace: Option<&str>) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot::default();
    let groups = client.list_api_groups().await?.groups.into_iter();
    let preferred = groups
        .filter(|group| !SKIPPED_GROUPS.contains(&group.name.as_str()))
        .filter_map(|group| Some(group.preferred_version?.group_version));
    for version in std::iter::once(CORE.to_owned()).chain(preferred) {
        let (path, resources) = match version.as_str() {
            CORE => (format!("/api/{CORE}"), client.list_core_api_resources(CORE).await),
            _ => (format!("/apis/{version}"), client.list_api_group_resources(&version).await),
        };
        let resources = match resources {
            Ok(resources) => resources,
            // A server behind the API server that is down takes nothing else with it.
            Err(Error::Api(status)) => {
                snapshot.unread.push((version, status.message));
                continue;
            }
            Err(error) => return Err(error),
        };
        for resource in resources.resources.iter().filter(|resource| is_read(resource)) {
            let within = match namespace {
                Some(namespace) if resource.namespaced => format!("{path}/namespaces/{namespace}"),
                _ => path.clone(),
            };
            let address = format!("{within}/{}", resource.name);
            match list(client, &address).await {
                Ok(items) => snapshot.objects.extend(
                    items.into_iter().filter_map(|item| declared(item, &version, &resource.kind)),
                ),
                Err(Error::Api(status)) => {
                    let name = format!("{} of {version}", resource.name);
                    snapshot.unread.push((name, status.message));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(snapshot)
}

/// Whether objects of a resource are asked for. Kinds that others made to keep secrets, under
/// whatever name, are left alone too.
fn is_read(resource: &APIResource) -> bool {
    resource.verbs.iter().any(|verb| verb == "list")
        && !resource.name.contains('/')
        && !resource.name.contains("secret")
        && !SKIPPED.contains(&resource.name.as_str())
}

async fn list(client: &Client, address: &str) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    let mut next = String::new();
    loop {
        // Continuation tokens are made of characters that need no escape (base64url).
        let request = Request::get(format!("{address}?limit={PAGE}&continue={next}"))
            .body(Vec::new())
            .map_err(Error::HttpError)?;
        let page: Page = client.request(request).await?;
        items.extend(page.items);
        next = page.metadata.next;
        if next.is_empty() {
            return Ok(items);
        }
    }
}

/// An object as it was declared; `None` for what a controller made of another, which is checked
/// where it was declared.
fn declared(mut object: Value, version: &str, kind: &str) -> Option<Value> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let controlled = owners.is_some_and(|owners| {
        owners.iter().any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
    });
    if controlled {
        return None;
    }
    let fields = object.as_object_mut()?;
    // Items of a list do not say it.
    fields.insert("apiVersion".to_owned(), version.into());
    fields.insert("kind".to_owned(), kind.into());
    match fields.remove("status") {
        // What a node has is what pods on it can ask for.
        Some(mut status) if kind == "Node" => {
            let kept: Map<String, Value> = ["allocatable", "capacity"]
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), status.get_mut(key)?.take())))
                .collect();
            fields.insert("status".to_owned(), kept.into());
        }
        _ => {}
    }
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        let of_server = [
            "creationTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "selfLink",
            "uid",
        ];
        metadata.retain(|key, _| !of_server.contains(&key.as_str()));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            // The object once more, as text.
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_and_what_cannot_be_listed_are_not_asked_for() {
        let check = |name: &str, verbs: &[&str], expected: bool| {
            let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
            let resource = APIResource {
                name: name.to_owned(),
                namespaced: true,
                verbs,
                ..Default::default()
            };
            assert_eq!(is_read(&resource), expected, "{name}");
        };
        check("pods", &["get", "list"], true);
        check("pods/log", &["get", "list"], false);
        check("secrets", &["list"], false);
        check("sealedsecrets", &["list"], false);
        check("bindings", &["create"], false);
        check("events", &["list"], false);
    }

    #[test]
    fn what_the_cluster_added_is_taken_off() {
        let node = json!({
            "metadata": {
                "name": "a", "uid": "1", "resourceVersion": "2", "managedFields": [],
                "labels": {"x": "y"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            },
            "status": {"allocatable": {"nvidia.com/gpu": "1"}, "images": []},
        });
        let expected = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "a", "labels": {"x": "y"}, "annotations": {}},
            "status": {"allocatable": {"nvidia.com/gpu": "1"}},
        });
        assert_eq!(declared(node, "v1", "Node"), Some(expected));
        let pod = json!({
            "metadata": {"name": "b", "ownerReferences": [{"kind": "Job", "controller": true}]},
        });
        assert_eq!(declared(pod, "v1", "Pod"), None);
        let odd = json!("x");
        assert_eq!(declared(odd, "v1", "Pod"), None);
    }
}
