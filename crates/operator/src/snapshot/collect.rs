//! A cluster as the doctor looks at it: objects with their state, events, ends of logs, metrics and
//! probes of nodes.
//!
//! Only reads, and never Secrets. What may not be read is told in the snapshot, so that a check that
//! needs it can say that its answer is unknown. Everything is redacted before it leaves here.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube_client::api::LogParams;
use kube_client::{Api, Client, Error};
use serde_json::Value;
use trainyard_diagnose::wanted::{self, LogWish, MetricsWish};
use trainyard_diagnose::{FORMAT, LogTail, NodeProbe, Sample, Snapshot, Unread, redact, samples};

use super::{CORE, list};
use crate::console::time_text;

/// Of each log, so many lines from its end.
const LINES: i64 = 300;
/// Longest part of a log that is kept, in bytes.
const LONGEST_LOG: i64 = 128 << 10;
/// Logs of one snapshot; what is beyond is told as not read.
const MOST_LOGS: usize = 400;
/// Pages of metrics of one snapshot.
const MOST_PAGES: usize = 100;
/// Requests at once.
const AT_ONCE: usize = 8;
/// For one request; a log or an exporter on a node that is gone would take longer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where objects of a resource are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In no namespace.
    Cluster,
    /// In the namespace that is asked for, or in all.
    Asked,
    /// In all namespaces whatever is asked for: they take room on nodes, or make GPUs usable.
    Everywhere,
}

/// Groups and resources, with where they are looked for. One that the cluster does not have is
/// left out without a word.
const RESOURCES: [(&str, &str, &str, Where); 35] = [
    ("", "nodes", "Node", Where::Cluster),
    ("", "pods", "Pod", Where::Everywhere),
    ("", "events", "Event", Where::Asked),
    ("", "namespaces", "Namespace", Where::Cluster),
    ("", "persistentvolumeclaims", "PersistentVolumeClaim", Where::Asked),
    ("", "persistentvolumes", "PersistentVolume", Where::Cluster),
    ("", "resourcequotas", "ResourceQuota", Where::Asked),
    ("", "services", "Service", Where::Asked),
    ("apps", "daemonsets", "DaemonSet", Where::Everywhere),
    ("apps", "deployments", "Deployment", Where::Asked),
    ("apps", "replicasets", "ReplicaSet", Where::Asked),
    ("apps", "statefulsets", "StatefulSet", Where::Asked),
    ("batch", "cronjobs", "CronJob", Where::Asked),
    ("batch", "jobs", "Job", Where::Asked),
    ("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", Where::Asked),
    ("networking.k8s.io", "networkpolicies", "NetworkPolicy", Where::Asked),
    ("policy", "poddisruptionbudgets", "PodDisruptionBudget", Where::Everywhere),
    ("storage.k8s.io", "storageclasses", "StorageClass", Where::Cluster),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        Where::Cluster,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        Where::Cluster,
    ),
    ("resource.k8s.io", "deviceclasses", "DeviceClass", Where::Cluster),
    ("resource.k8s.io", "resourceclaims", "ResourceClaim", Where::Everywhere),
    ("resource.k8s.io", "resourceslices", "ResourceSlice", Where::Cluster),
    ("kueue.x-k8s.io", "clusterqueues", "ClusterQueue", Where::Cluster),
    ("kueue.x-k8s.io", "localqueues", "LocalQueue", Where::Asked),
    ("kueue.x-k8s.io", "workloads", "Workload", Where::Asked),
    ("scheduling.x-k8s.io", "podgroups", "PodGroup", Where::Asked),
    ("scheduling.volcano.sh", "podgroups", "PodGroup", Where::Asked),
    ("jobset.x-k8s.io", "jobsets", "JobSet", Where::Asked),
    ("leaderworkerset.x-k8s.io", "leaderworkersets", "LeaderWorkerSet", Where::Asked),
    ("kubeflow.org", "pytorchjobs", "PyTorchJob", Where::Asked),
    ("trainer.kubeflow.org", "trainjobs", "TrainJob", Where::Asked),
    ("ray.io", "rayclusters", "RayCluster", Where::Asked),
    ("trainyard.dev", "modelservices", "ModelService", Where::Asked),
    ("trainyard.dev", "trainingjobs", "TrainingJob", Where::Asked),
];

/// What says where pods are and may be: of the resources above, all that
/// [`occupancy`](trainyard_diagnose::occupancy()) looks at, and owners by which people know pods.
const PLACES: [&str; 11] = [
    "nodes",
    "pods",
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "storageclasses",
    "poddisruptionbudgets",
    "deployments",
    "replicasets",
    "jobs",
    "podgroups",
];

/// Reads a cluster for the doctor; of a namespace, what is in it and what it depends on.
///
/// # Errors
///
/// A server that does not answer, or not as Kubernetes does. What may not be read is told in the
/// snapshot.
pub async fn collect(client: &Client, namespace: Option<&str>) -> Result<Snapshot, Error> {
    let mut snapshot = objects(client, namespace, |_| true).await?;
    logs(client, namespace, &mut snapshot).await;
    probes(client, &mut snapshot).await;
    metrics(client, namespace, &mut snapshot).await;
    snapshot.sort();
    Ok(snapshot)
}

/// Reads where pods are and may be, in all namespaces.
///
/// # Errors
///
/// As [`collect`].
pub async fn places(client: &Client) -> Result<Snapshot, Error> {
    let mut snapshot = objects(client, None, |resource| PLACES.contains(&resource)).await?;
    snapshot.sort();
    Ok(snapshot)
}

/// The objects of some resources, redacted.
async fn objects(
    client: &Client,
    namespace: Option<&str>,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Snapshot, Error> {
    let version = client.apiserver_version().await?;
    let groups = client.list_api_groups().await?.groups.into_iter();
    let preferred: BTreeMap<String, String> = groups
        .filter_map(|group| Some((group.name, group.preferred_version?.group_version)))
        .collect();
    let mut snapshot = Snapshot {
        format: FORMAT.to_owned(),
        taken_at: now(),
        kubernetes_version: version.git_version,
        ..Snapshot::default()
    };
    let wanted = RESOURCES.into_iter().filter(|(_, resource, ..)| is_wanted(resource));
    for (group, resource, kind, place) in wanted {
        let api_version = match group {
            "" => CORE,
            _ => match preferred.get(group) {
                Some(version) => version,
                None => continue,
            },
        };
        read(client, namespace, (group, api_version, resource, kind), place, &mut snapshot).await?;
    }
    snapshot.objects.iter_mut().for_each(redact::object);
    Ok(snapshot)
}

/// This machine's clock: what is compared with it is minutes and more.
fn now() -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    time_text(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)).unwrap_or_default()
}

async fn read(
    client: &Client,
    namespace: Option<&str>,
    (group, api_version, resource, kind): (&str, &str, &str, &str),
    place: Where,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    let base = match group {
        "" => format!("/api/{api_version}"),
        _ => format!("/apis/{api_version}"),
    };
    let everywhere = format!("{base}/{resource}");
    let within = namespace.map(|namespace| format!("{base}/namespaces/{namespace}/{resource}"));
    let what = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let mut answer = match (&within, place) {
        (Some(within), Where::Asked) => list(client, within).await,
        _ => list(client, &everywhere).await,
    };
    let mut unread = |what: &str, reason: String| {
        snapshot.unread.push(Unread { what: what.to_owned(), reason, not_asked: false });
    };
    if let (Err(Error::Api(status)), Some(within), Where::Everywhere) = (&answer, &within, place)
        && status.code == 403
    {
        unread(&format!("{what} of other namespaces"), status.message.clone());
        answer = list(client, within).await;
    }
    match answer {
        Ok(items) => snapshot.objects.extend(items.into_iter().map(|mut item| {
            // Items of a list do not say it.
            if let Some(fields) = item.as_object_mut() {
                fields.insert("apiVersion".to_owned(), api_version.into());
                fields.insert("kind".to_owned(), kind.into());
            }
            item
        })),
        // The group is there without this resource.
        Err(Error::Api(status)) if status.code == 404 => {}
        Err(Error::Api(status)) => unread(&what, status.message),
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn logs(client: &Client, namespace: Option<&str>, snapshot: &mut Snapshot) {
    let mut wishes = wanted::logs(snapshot, namespace);
    if wishes.len() > MOST_LOGS {
        snapshot.unread.push(Unread {
            what: "logs".to_owned(),
            reason: format!(
                "{} of {} were left out; name a namespace",
                wishes.len() - MOST_LOGS,
                wishes.len()
            ),
            not_asked: false,
        });
        wishes.truncate(MOST_LOGS);
    }
    let mut forbidden = None;
    for (wish, answer) in read_logs(client, wishes, LINES).await {
        match answer {
            Ok(text) => snapshot.logs.push(LogTail {
                namespace: wish.namespace,
                pod: wish.pod,
                container: wish.container,
                previous: wish.previous,
                lines: text.lines().map(redact::line).collect(),
            }),
            Err(Unreadable::Forbidden(reason)) => forbidden = Some(reason),
            // It has not started, or its log is gone: there is nothing to read.
            Err(Unreadable::Nothing) => {}
            Err(Unreadable::Failed(reason)) => snapshot.unread.push(Unread {
                what: format!("logs of pod {}/{}", wish.namespace, wish.pod),
                reason,
                not_asked: false,
            }),
        }
    }
    if let Some(reason) = forbidden {
        snapshot.unread.push(Unread { what: "logs".to_owned(), reason, not_asked: false });
    }
}

/// Why a log was not read.
enum Unreadable {
    Forbidden(String),
    Nothing,
    Failed(String),
}

async fn read_logs(
    client: &Client,
    wishes: Vec<LogWish>,
    lines: i64,
) -> Vec<(LogWish, Result<String, Unreadable>)> {
    let requests = wishes.into_iter().map(|wish| async move {
        let params = LogParams {
            container: Some(wish.container.clone()),
            previous: wish.previous,
            tail_lines: Some(lines),
            limit_bytes: Some(LONGEST_LOG),
            ..LogParams::default()
        };
        let pods: Api<Pod> = Api::namespaced(client.clone(), &wish.namespace);
        let answer = match tokio::time::timeout(DEADLINE, pods.logs(&wish.pod, &params)).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(Error::Api(status))) => Err(match status.code {
                403 => Unreadable::Forbidden(status.message),
                400 | 404 => Unreadable::Nothing,
                _ => Unreadable::Failed(status.message),
            }),
            Ok(Err(error)) => Err(Unreadable::Failed(error.to_string())),
            Err(_) => Err(Unreadable::Failed(no_answer())),
        };
        (wish, answer)
    });
    futures_util::stream::iter(requests).buffered(AT_ONCE).collect().await
}

fn no_answer() -> String {
    format!("no answer within {} s", DEADLINE.as_secs())
}

/// Takes in what pods with the label of probes printed last.
async fn probes(client: &Client, snapshot: &mut Snapshot) {
    let wishes = wanted::probes(snapshot);
    for (wish, answer) in read_logs(client, wishes, 1).await {
        let pod = format!("{}/{}", wish.namespace, wish.pod);
        let result = answer.ok().and_then(|text| serde_json::from_str::<Value>(text.trim()).ok());
        match result.and_then(|result| probe(result).ok()) {
            Some(probe) => snapshot.probes.push(probe),
            None => snapshot.unread.push(Unread {
                what: "probes".to_owned(),
                reason: format!(
                    "the last line of pod {pod} is no result of `trainyard agent --probe`"
                ),
                not_asked: false,
            }),
        }
    }
    if snapshot.probes.is_empty() && wanted::has_gpus(snapshot) {
        snapshot.unread.push(Unread {
            what: "probes".to_owned(),
            reason: "no node was probed: `trainyard agent --probe` on a node, see docs/doctor.md"
                .to_owned(),
            not_asked: true,
        });
    }
}

/// The result of `trainyard agent --probe`.
///
/// # Errors
///
/// A value that is none, with what it lacks.
pub fn probe(result: Value) -> Result<NodeProbe, String> {
    let text = |key: &str| result.get(key).and_then(Value::as_str).unwrap_or_default();
    let (format, node) = (text("format"), text("node").to_owned());
    if format != trainyard_diagnose::PROBE_FORMAT {
        return Err(format!(
            "its format is `{format}`, not `{}`",
            trainyard_diagnose::PROBE_FORMAT
        ));
    }
    if node.is_empty() {
        return Err("it does not say of which node it is".to_owned());
    }
    Ok(NodeProbe { node, result })
}

async fn metrics(client: &Client, namespace: Option<&str>, snapshot: &mut Snapshot) {
    let mut wishes = wanted::metrics(snapshot, namespace);
    let has_exporter = wishes.iter().any(|wish| !wish.of_itself);
    let left_out = wishes.len().saturating_sub(MOST_PAGES);
    wishes.truncate(MOST_PAGES);
    let requests = wishes.into_iter().map(|wish| async move {
        let answer = match tokio::time::timeout(DEADLINE, page(client, &wish)).await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(Error::Api(status))) => Err(status.message),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(no_answer()),
        };
        (wish, answer)
    });
    let answers: Vec<(MetricsWish, Result<Vec<Sample>, String>)> =
        futures_util::stream::iter(requests).buffered(AT_ONCE).collect().await;
    let mut unread = |reason: String, not_asked: bool| {
        snapshot.unread.push(Unread { what: "metrics".to_owned(), reason, not_asked });
    };
    for (wish, answer) in answers {
        match answer {
            Ok(samples) => snapshot.metrics.extend(samples),
            Err(reason) => {
                unread(format!("of pod {}/{}: {reason}", wish.namespace, wish.pod), false)
            }
        }
    }
    if left_out > 0 {
        unread(format!("of {left_out} pods, which are too many; name a namespace"), false);
    }
    if !has_exporter && wanted::has_gpus(snapshot) {
        snapshot.unread.push(Unread {
            what: "metrics".to_owned(),
            reason: "no pod of dcgm-exporter was found".to_owned(),
            not_asked: true,
        });
    }
}

/// A page through the API server's proxy: pods' addresses are not reachable from everywhere.
async fn page(client: &Client, wish: &MetricsWish) -> Result<Vec<Sample>, Error> {
    let MetricsWish { namespace, pod, port, path, of_itself } = wish;
    let path = path.trim_start_matches('/');
    let address = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/{path}");
    let request = Request::get(address).body(Vec::new()).map_err(Error::HttpError)?;
    let page = client.request_text(request).await?;
    Ok(samples(&page, of_itself.then_some((namespace, pod))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_not_asked_for() {
        assert!(RESOURCES.iter().all(|(_, resource, kind, _)| {
            !resource.contains("secret")
                && !resource.contains("configmap")
                && !kind.contains("Secret")
        }));
    }

    #[test]
    fn places_are_among_what_is_known() {
        for place in PLACES {
            assert!(RESOURCES.iter().any(|(_, resource, ..)| *resource == place), "{place}");
        }
    }

    #[test]
    fn results_of_probes() {
        let good = json!({"format": "trainyard-probe/1", "node": "a", "gpus": []});
        assert_eq!(probe(good).map(|it| it.node), Ok("a".to_owned()));
        assert!(probe(json!({"format": "trainyard-probe/1"})).unwrap_err().contains("which node"));
        assert!(probe(json!([])).unwrap_err().contains("trainyard-probe/1"));
    }
}
