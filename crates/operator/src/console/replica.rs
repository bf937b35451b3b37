//! Replicas of a service, told from their pods.

use k8s_openapi::api::core::v1::{Container, Pod};
use kube_client::api::ListParams;

use super::failure::ask;
use super::{Console, ConsoleError};
use crate::key::Declared;
use crate::names::{ATTEMPT_LABEL, REVISION_LABEL};
use crate::pods::PodFacts;
use trainyard_control::job::Worker;

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub namespace: String,
    pub service: String,
    pub name: String,
    pub revision: String,
    pub state: ReplicaState,
    /// Node of a pod; process of a machine.
    pub place: String,
    /// Where it answers; none while it has no address.
    pub address: Option<String>,
    pub restarts: i64,
    /// Milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// What is wrong, and how to mend it.
    pub trouble: Option<String>,
}

/// How far a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// No node has taken it.
    Pending,
    /// Its model is fetched.
    Fetching,
    Starting,
    Ready,
    /// It finishes what it has begun.
    Draining,
    Ended,
    Failed,
}

impl ReplicaState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Fetching => "fetching",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

impl Console {
    /// Replicas of one service, or of all, by name.
    pub async fn replicas(&self, service: Option<&str>) -> Result<Vec<Replica>, ConsoleError> {
        let mut replicas: Vec<Replica> =
            self.pods(service).await?.iter().map(Replica::of).collect();
        replicas.sort_by(|a, b| {
            (&a.namespace, &a.service, &a.name).cmp(&(&b.namespace, &b.service, &b.name))
        });
        Ok(replicas)
    }

    /// The pods of one service, or of all.
    pub(super) async fn pods(&self, service: Option<&str>) -> Result<Vec<Pod>, ConsoleError> {
        let params = ListParams::default().labels(&self.selector(service));
        Ok(ask("list the replicas' pods", self.api::<Pod>().list(&params)).await?.items)
    }
}

impl Replica {
    pub(super) fn of(pod: &Pod) -> Self {
        let facts = PodFacts::of(pod);
        let label = |name: &str| {
            let labels = pod.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(name)).cloned().unwrap_or_default()
        };
        let is_worker = facts.worker.is_some();
        let of = if is_worker { Declared::TrainingJob } else { Declared::ModelService };
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let containers = status.into_iter().flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten())
        });
        let address = status.and_then(|status| status.pod_ip.clone());
        let port = spec.and_then(|spec| spec.containers.iter().find_map(port));
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            service: label(of.label()),
            name: facts.name.to_string(),
            revision: label(if is_worker { ATTEMPT_LABEL } else { REVISION_LABEL }),
            state: state(pod, &facts),
            place: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            address: address.zip(port).map(|(ip, port)| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }),
            restarts: containers.map(|container| i64::from(container.restart_count)).sum(),
            since_ms: facts.created.saturating_mul(1000),
            trouble: facts.trouble.as_deref().map(|trouble| trouble.message(of)).or_else(|| {
                let end = facts.worker.as_ref()?.end.as_ref()?;
                (end.outcome != Worker::Finished).then(|| end.message.clone())
            }),
        }
    }
}

fn port(container: &Container) -> Option<i32> {
    let ports = container.ports.iter().flatten();
    ports.filter(|port| port.name.as_deref() == Some("http")).map(|port| port.container_port).next()
}

fn state(pod: &Pod, facts: &PodFacts) -> ReplicaState {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let is_fetching = || {
        let init = status.into_iter().flat_map(|it| it.init_container_statuses.iter().flatten());
        init.into_iter().any(|container| !container.ready)
    };
    match phase {
        "Failed" => ReplicaState::Failed,
        "Succeeded" => ReplicaState::Ended,
        _ if facts.ending => ReplicaState::Draining,
        _ if facts.ready => ReplicaState::Ready,
        _ if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) => ReplicaState::Pending,
        _ if is_fetching() => ReplicaState::Fetching,
        _ => ReplicaState::Starting,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "iris-1", "namespace": "a",
                "labels": {"trainyard.dev/service": "iris", "trainyard.dev/revision": "iris-r1"},
            },
            "spec": {
                "nodeName": "node-1",
                "containers": [{"name": "server", "ports": [{"name": "metrics", "containerPort": 1}, {"name": "http", "containerPort": 8080}]}],
            },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn states() {
        let of = |status| Replica::of(&pod(status)).state;
        let container = |ready: bool| json!([{"name": "c", "image": "", "imageID": "", "ready": ready, "restartCount": 2, "state": {}}]);
        let ready = json!([{"type": "Ready", "status": "True"}]);
        assert_eq!(of(json!({"phase": "Running", "conditions": ready})), ReplicaState::Ready);
        assert_eq!(
            of(json!({"phase": "Pending", "initContainerStatuses": container(false)})),
            ReplicaState::Fetching
        );
        assert_eq!(
            of(json!({"phase": "Running", "containerStatuses": container(false)})),
            ReplicaState::Starting
        );
        assert_eq!(of(json!({"phase": "Failed"})), ReplicaState::Failed);
        let mut unplaced = pod(json!({"phase": "Pending"}));
        unplaced.spec.as_mut().unwrap().node_name = None;
        assert_eq!(Replica::of(&unplaced).state, ReplicaState::Pending);
    }

    #[test]
    fn what_a_person_looks_for() {
        let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
        let status = json!({
            "phase": "Pending", "podIP": "10.0.0.7",
            "containerStatuses": [{"name": "server", "image": "x", "imageID": "", "ready": false, "restartCount": 2, "state": waiting}],
        });
        let replica = Replica::of(&pod(status));
        assert_eq!(replica.address.as_deref(), Some("10.0.0.7:8080"));
        assert_eq!((replica.restarts, replica.revision.as_str()), (2, "iris-r1"));
        assert!(replica.trouble.unwrap().contains("cannot pull the image `x`"));
    }
}
