//! The gateway's table of what a cluster holds.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use trainyard_api::ModelService;
use trainyard_api::defaults::complete;
use trainyard_api::model_service::RolloutStatus;
use trainyard_gateway::table::{
    Access, ApiKey, Endpoint, Limits, Mirror, Rate, Revision, Service, Table, Unavailable,
};

use crate::names::{CANDIDATE, CANDIDATE_SUFFIX, SERVICE_LABEL};

/// Which Service an EndpointSlice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub(super) type Key = (String, String);

/// API keys of secrets that were read, or why they could not be.
pub(super) type Keys = HashMap<Key, Result<Vec<ApiKey>, String>>;

/// Builds the table.
///
/// A service is named `NAMESPACE/NAME`, and its host is `NAME.NAMESPACE`, which the cluster's longer
/// names go on from.
pub(super) fn table<'a>(
    services: impl IntoIterator<Item = &'a ModelService>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    keys: &Keys,
) -> Table {
    let endpoints = endpoints(slices);
    let none = Vec::new();
    let mut table = Table::default();
    for service in services {
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name)
        else {
            continue;
        };
        let key = (namespace.clone(), name.clone());
        let of_track = |candidate: bool| {
            let name = if candidate { format!("{name}{CANDIDATE_SUFFIX}") } else { name.clone() };
            // Another service may be called as this one's candidate.
            let of = (namespace.clone(), name, key.1.clone());
            endpoints.get(&of).unwrap_or(&none).clone()
        };
        let entry = entry(service, &key, of_track, keys);
        table.services.insert(format!("{namespace}/{name}").into(), entry);
    }
    table
}

/// The secrets with API keys that services name.
pub(super) fn secrets<'a>(
    services: impl IntoIterator<Item = &'a ModelService>,
) -> std::collections::BTreeSet<Key> {
    services
        .into_iter()
        .filter_map(|service| {
            let secret = service.spec.access.as_ref()?.api_keys_secret.clone()?;
            Some((service.metadata.namespace.clone()?, secret))
        })
        .collect()
}

fn entry(
    service: &ModelService,
    key: &Key,
    of_track: impl Fn(bool) -> Vec<Endpoint>,
    keys: &Keys,
) -> Service {
    let (namespace, name) = key;
    let rollout = service.status.as_ref().and_then(|status| status.rollout.as_ref());
    let hosts = vec![format!("{name}.{namespace}")];
    let models = vec![service.model_name().to_owned()];
    // Not from the plan: replicas of a good revision go on serving when the newest has none.
    let spec = complete(&service.spec);
    let access = match access(spec.access.api_keys_secret.as_deref(), namespace, keys) {
        Ok(access) => access,
        // Nobody gets in by a fault of ours.
        Err(reason) => return Service { hosts, models, ..closed(reason) },
    };
    Service {
        models,
        hosts,
        revisions: revisions(rollout, of_track),
        mirror: rollout.and_then(|rollout| rollout.mirror.as_ref()).map(|mirror| Mirror {
            revision: mirror.revision.clone(),
            share: mirror.share.fraction(),
        }),
        unavailable: (spec.scaling.max == 0).then(|| Unavailable {
            reason: "the service is stopped: `spec.replicas` is 0".to_owned(),
            until: None,
        }),
        limits: Limits {
            rate: spec
                .access
                .rate_limit
                .map(|(per_second, burst)| Rate { per_second: f64::from(per_second), burst }),
            concurrency_per_endpoint: spec.scaling.max_concurrency,
            ..Limits::default()
        },
        access,
        sticky_header: spec.rollout.sticky_header,
        scales_to_zero: spec.scaling.min == 0,
    }
}

/// The revisions with their shares, as the operator has decided; one, if it leaves that to
/// Kubernetes. A revision may have replicas on both tracks.
fn revisions(
    rollout: Option<&RolloutStatus>,
    of_track: impl Fn(bool) -> Vec<Endpoint>,
) -> Vec<Revision> {
    let Some(rollout) = rollout.filter(|rollout| !rollout.tracks.is_empty()) else {
        let (name, weight) = ("stable".to_owned(), 1);
        return vec![Revision { name, weight, endpoints: of_track(false) }];
    };
    let mut revisions: Vec<Revision> = Vec::new();
    for track in &rollout.tracks {
        let endpoints = if track.serves { of_track(track.track == CANDIDATE) } else { Vec::new() };
        match revisions.iter_mut().find(|known| known.name == track.revision) {
            Some(known) => known.endpoints.extend(endpoints),
            None => revisions.push(Revision {
                name: track.revision.clone(),
                weight: track.weight,
                endpoints,
            }),
        }
    }
    revisions
}

/// A service that answers nobody, and says why.
fn closed(reason: String) -> Service {
    Service { unavailable: Some(Unavailable { reason, until: None }), ..Service::default() }
}

fn access(secret: Option<&str>, namespace: &str, keys: &Keys) -> Result<Access, String> {
    let Some(secret) = secret else { return Ok(Access::default()) };
    match keys.get(&(namespace.to_owned(), secret.to_owned())) {
        Some(Ok(keys)) if !keys.is_empty() => Ok(Access { api_keys: keys.clone() }),
        Some(Ok(_)) => Err(format!(
            "the secret `{secret}` of `spec.access.apiKeysSecret` has no keys; add an entry for each caller"
        )),
        Some(Err(reason)) => Err(reason.clone()),
        None => Err(format!("the secret `{secret}` with the API keys has not been read yet")),
    }
}

/// A namespace, the name of a Service in it, and the `ModelService` that this is of.
type Of = (String, String, String);

/// Ready endpoints of each Service.
fn endpoints<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> BTreeMap<Of, Vec<Endpoint>> {
    let mut found: BTreeMap<Of, Vec<Endpoint>> = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
        let owner = labels.and_then(|labels| labels.get(SERVICE_LABEL));
        let (Some(namespace), Some(service), Some(owner)) =
            (&slice.metadata.namespace, service, owner)
        else {
            continue;
        };
        let ports = slice.ports.iter().flatten();
        let port = ports
            .filter(|port| port.name.as_deref() == Some("http"))
            .find_map(|port| u16::try_from(port.port?).ok());
        let Some(port) = port else { continue };
        let of = (namespace.clone(), service.clone(), owner.clone());
        let known = found.entry(of).or_default();
        known.extend(slice.endpoints.iter().filter_map(|it| endpoint(it, port)));
    }
    for endpoints in found.values_mut() {
        // While the control plane moves an endpoint from slice to slice it stands in both.
        endpoints.sort();
        endpoints.dedup();
    }
    found
}

/// One endpoint, if it takes new requests: those that end are not ready though they still serve.
fn endpoint(endpoint: &SliceEndpoint, port: u16) -> Option<Endpoint> {
    let conditions = endpoint.conditions.as_ref();
    // Unknown is to be taken for ready, says the API.
    if conditions.and_then(|conditions| conditions.ready) == Some(false) {
        return None;
    }
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref());
    // A pod that has the address of one that was deleted is another replica.
    let id: Arc<str> = format!("{}@{address}:{port}", pod.unwrap_or_default()).into();
    Some(Endpoint { id, address: SocketAddr::new(address, port) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(namespace: &str, name: &str, spec: Value) -> ModelService {
        let mut whole = json!({"model": {"uri": "s3://models/iris"}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
            "metadata": {"namespace": namespace, "name": name}, "spec": whole,
        }))
        .unwrap()
    }

    fn slice(namespace: &str, service: &str, ports: Value, endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {
                "namespace": namespace, "name": format!("{service}-abc"),
                "labels": {
                    "kubernetes.io/service-name": service,
                    "trainyard.dev/service": service.trim_end_matches("-candidate"),
                },
            },
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn http() -> Value {
        json!([{"name": "metrics", "port": 9000}, {"name": "http", "port": 8080}])
    }

    #[test]
    fn ready_endpoints_of_each_service() {
        let services = [service("a", "iris", json!({})), service("b", "iris", json!({}))];
        let slices = [
            slice(
                "a",
                "iris",
                http(),
                json!([
                    {"addresses": ["10.0.0.1"], "conditions": {"ready": true},
                     "targetRef": {"kind": "Pod", "uid": "u1"}},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                    {"addresses": ["10.0.0.3"], "conditions": {}},
                    {"addresses": ["pod.example.com"]},
                    {"addresses": []},
                ]),
            ),
            // The same endpoint on its way to another slice.
            slice(
                "a",
                "iris",
                http(),
                json!([{"addresses": ["10.0.0.1"], "targetRef": {"uid": "u1"}}]),
            ),
            slice(
                "a",
                "iris",
                json!([{"name": "other", "port": 1}]),
                json!([{"addresses": ["10.0.0.9"]}]),
            ),
            slice("b", "other", http(), json!([{"addresses": ["10.0.0.4"]}])),
            slice(
                "b",
                "iris",
                json!([{"name": "http", "port": 99999}]),
                json!([{"addresses": ["10.0.0.5"]}]),
            ),
        ];
        let table = table(&services, &slices, &Keys::new());
        let of = |name: &str| table.services[name].revisions[0].endpoints.clone();
        let ids: Vec<_> = of("a/iris").iter().map(|endpoint| endpoint.id.to_string()).collect();
        assert_eq!(ids, ["@10.0.0.3:8080", "u1@10.0.0.1:8080"]);
        assert_eq!(of("b/iris"), []);
        assert_eq!(table.services["a/iris"].hosts, ["iris.a"]);
        assert_eq!(table.services["a/iris"].models, ["iris"]);
    }

    #[test]
    fn without_its_keys_a_service_is_closed() {
        let guarded = service("a", "iris", json!({"access": {"apiKeysSecret": "keys"}}));
        assert_eq!(secrets([&guarded]), [("a".to_owned(), "keys".to_owned())].into());
        let at = |keys: &Keys| {
            let slices = [slice("a", "iris", http(), json!([{"addresses": ["10.0.0.1"]}]))];
            table([&guarded], &slices, keys).services["a/iris"].clone()
        };
        let key = || ("a".to_owned(), "keys".to_owned());
        for keys in [
            Keys::new(),
            [(key(), Ok(Vec::new()))].into(),
            [(key(), Err("there is no secret".to_owned()))].into(),
        ] {
            let entry = at(&keys);
            assert!(entry.unavailable.is_some() && entry.revisions.is_empty(), "{entry:?}");
        }
        let ann = ApiKey { name: "ann".to_owned(), sha256: [7; 32] };
        let entry = at(&[(key(), Ok(vec![ann]))].into());
        assert_eq!(entry.unavailable, None);
        assert_eq!((entry.access.api_keys.len(), entry.revisions[0].endpoints.len()), (1, 1));
    }

    #[test]
    fn revisions_are_split_as_the_operator_says() {
        let mut iris = service("a", "iris", json!({"rollout": {"strategy": "canary"}}));
        let track = |track: &str, revision: &str, weight: u32, serves: bool| json!({"track": track, "revision": revision, "weight": weight, "serves": serves});
        let slices = |owner: &str| {
            let mut slices = [
                slice("a", "iris", http(), json!([{"addresses": ["10.0.0.1"]}])),
                slice("a", "iris-candidate", http(), json!([{"addresses": ["10.0.0.2"]}])),
            ];
            let labels = slices[1].metadata.labels.as_mut().expect("labels");
            labels.insert("trainyard.dev/service".to_owned(), owner.to_owned());
            slices
        };
        let mut shown = |tracks: Value, owner: &str| -> Vec<String> {
            iris.status = serde_json::from_value(json!({"rollout": {
                "phase": "Paused", "reason": "CanaryStep", "tracks": tracks, "memory": "",
                "mirror": {"revision": "r2", "share": "5%"},
            }}))
            .expect("a status");
            let table = table([&iris], &slices(owner), &Keys::new());
            let service = &table.services["a/iris"];
            assert_eq!(service.mirror.as_ref().map(|mirror| mirror.share), Some(0.05));
            let show = |revision: &Revision| {
                format!("{} {} {}", revision.name, revision.weight, revision.endpoints.len())
            };
            service.revisions.iter().map(show).collect()
        };
        let both = || json!([track("stable", "r1", 80, true), track("candidate", "r2", 20, true)]);
        assert_eq!(shown(both(), "iris"), ["r1 80 1", "r2 20 1"]);
        // A service of its own that is called so.
        assert_eq!(shown(both(), "iris-candidate"), ["r1 80 1", "r2 20 0"]);
        let over = json!([track("stable", "r2", 100, false), track("candidate", "r2", 100, true)]);
        assert_eq!(shown(over, "iris"), ["r2 100 1"]);
        let moved = json!([track("stable", "r2", 100, true), track("candidate", "r2", 100, true)]);
        assert_eq!(shown(moved, "iris"), ["r2 100 2"]);
    }

    #[test]
    fn a_service_that_was_stopped_says_so() {
        let table = table([&service("a", "iris", json!({"replicas": 0}))], [], &Keys::new());
        let said = table.services["a/iris"].unavailable.as_ref().expect("said");
        assert!(said.reason.contains("spec.replicas"));
    }

    #[test]
    fn limits_of_the_manifest_hold() {
        let spec = json!({
            "scaling": {"min": 1, "max": 2, "maxConcurrency": 3}, "access": {"rateLimit": {"rps": 5}},
        });
        let table = table([&service("a", "iris", spec)], [], &Keys::new());
        let limits = &table.services["a/iris"].limits;
        assert_eq!(limits.concurrency_per_endpoint, Some(3));
        assert_eq!(limits.rate, Some(Rate { per_second: 5.0, burst: 5 }));
    }
}
