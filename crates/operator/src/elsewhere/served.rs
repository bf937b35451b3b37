//! What is read of other systems, and which of it a cluster has.

use std::time::Duration;

use kube_client::api::ListParams;
use kube_client::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube_client::{Api, Client};
use tokio::time::timeout;
use trainyard_plan::QueueSystem;

use crate::cluster::known_resources;
use crate::settings::Scope;

/// A question to the API server takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a resource of another system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tells {
    /// Which queues there are.
    Queues,
    /// Which priorities it has names for.
    Priorities,
    /// How it stands with a Job.
    Groups,
}

/// One resource of another system. What is watched and what RBAC allows follow from the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) system: QueueSystem,
    pub(crate) tells: Tells,
    /// Newest first; what is read of it is the same in all.
    versions: &'static [&'static str],
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) is_namespaced: bool,
    pub(crate) why: &'static str,
}

const fn watched(
    system: QueueSystem,
    tells: Tells,
    versions: &'static [&'static str],
    (kind, plural): (&'static str, &'static str),
    is_namespaced: bool,
) -> Watched {
    let why = match tells {
        Tells::Queues => "whether another system has the queue that a job names",
        Tells::Priorities => "what a job's priority is called there",
        Tells::Groups => "why a job that was handed over waits",
    };
    Watched { system, tells, versions, kind, plural, is_namespaced, why }
}

use QueueSystem::{Kai, Kueue, Volcano};

pub(crate) static WATCHED: [Watched; 7] = [
    watched(Kueue, Tells::Queues, &["v1beta2", "v1beta1"], ("LocalQueue", "localqueues"), true),
    watched(Kueue, Tells::Groups, &["v1beta2", "v1beta1"], ("Workload", "workloads"), true),
    watched(
        Kueue,
        Tells::Priorities,
        &["v1beta2", "v1beta1"],
        ("WorkloadPriorityClass", "workloadpriorityclasses"),
        false,
    ),
    watched(Kai, Tells::Queues, &["v2"], ("Queue", "queues"), false),
    watched(Kai, Tells::Groups, &["v2alpha2"], ("PodGroup", "podgroups"), true),
    watched(Volcano, Tells::Queues, &["v1beta1"], ("Queue", "queues"), false),
    watched(Volcano, Tells::Groups, &["v1beta1"], ("PodGroup", "podgroups"), true),
];

impl Watched {
    pub(crate) fn group(&self) -> &'static str {
        self.system.group()
    }
}

/// One of [`WATCHED`] that the cluster has and that may be read.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) watched: &'static Watched,
    pub(crate) resource: ApiResource,
}

/// What the cluster has of [`WATCHED`]. Asks until it has an answer. Cancel-safe.
///
/// An operator of some namespaces sees nothing that is of the whole cluster. What may not be read is
/// left aside, so that a missing right keeps nobody from acting.
pub(crate) async fn discover(client: &Client, scope: &Scope) -> Vec<Found> {
    let mut all = Vec::new();
    for watched in &WATCHED {
        let is_in_scope = watched.is_namespaced || matches!(scope, Scope::Cluster);
        if !is_in_scope {
            continue;
        }
        if let Some(found) = find(client, watched).await
            && may_be_read(client, &found, scope).await
        {
            all.push(found);
        }
    }
    all
}

async fn find(client: &Client, watched: &'static Watched) -> Option<Found> {
    for version in watched.versions {
        let version_of_group = format!("{}/{version}", watched.group());
        if known_resources(client, &version_of_group).await.contains(watched.plural) {
            let gvk = GroupVersionKind::gvk(watched.group(), version, watched.kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, watched.plural);
            return Some(Found { watched, resource });
        }
    }
    None
}

async fn may_be_read(client: &Client, found: &Found, scope: &Scope) -> bool {
    let namespace = scope.watched().into_iter().next().flatten();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &found.resource),
        None => Api::all_with(client.clone(), &found.resource),
    };
    let asked = timeout(DEADLINE, api.list_metadata(&ListParams::default().limit(1))).await;
    match asked {
        Ok(Err(kube_client::Error::Api(status))) if status.code == 403 => {
            tracing::warn!(
                system = found.watched.system.name(),
                resource = found.watched.plural,
                "it may not be read, so that no job is handed over by it; give the operator the rights that `trainyard operator --print-rbac` prints"
            );
            false
        }
        // The watch asks again.
        _ => true,
    }
}

#[test]
fn what_is_read_of_each_system() {
    for system in QueueSystem::ALL {
        let of =
            |tells| WATCHED.iter().filter(|it| it.system == system && it.tells == tells).count();
        assert_eq!((of(Tells::Queues), of(Tells::Groups)), (1, 1), "{system:?}");
    }
}
