//! What people ask of a cluster by hand: which services and jobs there are and how they are, what
//! happened, what replicas and workers print; and the changes that they make by hand.
//!
//! In: a client and a namespace, or all of them. Out: resources as the cluster has them, and plain
//! values for what is told of them. What a person may not do comes as a [`ConsoleError`] that names
//! the missing right. The functions that read a cluster's objects are pure; nothing here prints.

mod change;
mod events;
mod failure;
mod gpus;
mod logs;
mod queues;
mod replica;
mod revisions;
mod services;
mod stores;
mod summary;
mod watch;

pub use change::{Cascade, Deletion};
pub use events::{Happened, merge};
pub use failure::{ConsoleError, Right};
pub use logs::{Containers, Line, LogRequest};
pub(crate) use queues::{Elsewhere, Standing};
pub use queues::{JobAdmitted, JobWaiting, QueueSeen};
pub use replica::{Replica, ReplicaState};
pub use revisions::Kept;
pub use services::{Key, Selection, key};
pub use stores::{JobStore, Ran, is_of_a_store};
pub use summary::{Awaited, Summary, time_text, unix_ms};
pub use watch::Watch;

pub use crate::key::Declared as Kind;
pub use trainyard_api::queue::QueueUse;

use kube_client::Client;

use crate::names::PREFLIGHT_LABEL;

/// Services, or jobs, of one namespace of a cluster, or of all.
#[derive(Clone)]
pub struct Console {
    client: Client,
    namespace: Option<String>,
    kind: Kind,
}

impl Console {
    /// Of services; `None` stands for all namespaces.
    pub fn new(client: Client, namespace: Option<String>) -> Self {
        Self { client, namespace, kind: Kind::ModelService }
    }

    /// The same for resources of that kind.
    pub fn of(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The namespace; none for all of them.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The namespace that a single service is looked for in.
    fn home(&self) -> &str {
        self.namespace.as_deref().unwrap_or_else(|| self.client.default_namespace())
    }

    /// Selects what belongs to one resource of the kind, or to any: its replicas or workers, and no
    /// pod that only looks before they are made.
    fn selector(&self, name: Option<&str>) -> String {
        let label = self.kind.label();
        let whose = name.map_or_else(|| label.to_owned(), |name| format!("{label}={name}"));
        format!("{whose},!{PREFLIGHT_LABEL}")
    }

    fn api<K>(&self) -> kube_client::Api<K>
    where
        K: kube_client::Resource<Scope = kube_client::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match &self.namespace {
            Some(namespace) => kube_client::Api::namespaced(self.client.clone(), namespace),
            None => kube_client::Api::all(self.client.clone()),
        }
    }
}
