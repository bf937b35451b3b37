//! Makes the cluster as the pools say, and writes what came of it into their status.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube_client::Resource as _;
use serde_json::{Value, json};
use tokio::time::sleep;
use trainyard_api::GpuPool;
use trainyard_plan::kubernetes::{PluginConfig, node_marks, pool_objects};

use super::Pools;
use super::inventory::Inventory;
use super::known::specs;
use super::marks::patch;
use super::verdict::{Seen, decide, says};
use crate::announce::Announcer;
use crate::cluster::{CallError, Calls, Chain};
use crate::compare::Leaves;
use crate::status::news;

/// Pods with GPUs come and go in bursts.
const GATHER: Duration = Duration::from_millis(500);
/// After a request that failed, and to see what nobody tells: an object that somebody changed or
/// deleted.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What acting needs.
pub(crate) struct Acting<'a> {
    pub(crate) pools: &'a Pools,
    pub(crate) calls: &'a Calls,
    pub(crate) announcer: &'a Announcer,
    /// Where NVIDIA's device plugin reads its configuration.
    pub(crate) config: &'a PluginConfig,
    /// Nodes may be labelled and tainted.
    pub(crate) manages_nodes: bool,
}

/// Acts whenever something changed, for ever. Safe to stop at any await: each write is a whole
/// object, or guarded by a version.
pub(crate) async fn act(acting: Acting<'_>) {
    let mut memory = Memory::default();
    loop {
        if (acting.pools.has_any() && acting.pools.has_nodes()) || memory.has_any() {
            acting.once(&mut memory).await;
        }
        tokio::select! {
            () = acting.pools.changed() => sleep(GATHER).await,
            () = sleep(LOOK_AGAIN) => acting.look(&mut memory).await,
        }
    }
}

/// What was applied, so that nothing is written twice. A new leader starts with an empty one.
#[derive(Default)]
struct Memory {
    /// Objects as they were applied last, by kind and name.
    applied: BTreeMap<(String, String), Value>,
    /// Pools that had objects or nodes.
    pools: BTreeSet<String>,
    /// What was wanted when the rest was deleted last.
    tidied: Option<BTreeSet<(String, String)>>,
}

impl Memory {
    fn has_any(&self) -> bool {
        !self.pools.is_empty()
    }
}

impl Acting<'_> {
    /// Forgets what is not as it was applied.
    async fn look(&self, memory: &mut Memory) {
        let mut changed = Vec::new();
        for (key, wanted) in &memory.applied {
            match self.calls.find_any(wanted).await {
                Ok(Some(live)) => {
                    let missing =
                        Leaves::of(wanted).missing_from(&Leaves::of(&live), &Leaves::default());
                    if !missing.is_empty() {
                        changed.push(key.clone());
                    }
                }
                Ok(None) => changed.push(key.clone()),
                Err(error) => tracing::debug!(error = %Chain(&error), "is looked at again later"),
            }
        }
        memory.applied.retain(|key, _| !changed.contains(key));
    }

    async fn once(&self, memory: &mut Memory) {
        let pools = self.pools.resources();
        let inventory = self.pools.inventory();
        let refused = self.apply(&pools, memory).await;
        let is_marking = self.manages_nodes && self.mark(&pools, &inventory).await;
        for (name, pool) in &pools {
            self.tell(name, pool, &inventory, refused.as_deref()).await;
        }
        // After the last pool nodes are looked at until they are bare.
        if !(pools.is_empty() && is_marking) {
            memory.pools = pools.into_keys().collect();
        }
    }

    /// Applies what pools are made of; what the API server refused, if it did.
    async fn apply(
        &self,
        pools: &BTreeMap<String, GpuPool>,
        memory: &mut Memory,
    ) -> Option<String> {
        let mut refused = None;
        let mut wanted = BTreeSet::new();
        for object in pool_objects(&specs(pools), self.config) {
            let mut object = object.into_value();
            let owned_by = owners(pools, &object);
            object["metadata"]["ownerReferences"] = json!(owned_by);
            let text = |pointer: &str| {
                object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            let key = (text("/kind"), text("/metadata/name"));
            wanted.insert(key.clone());
            if memory.applied.get(&key) == Some(&object) {
                continue;
            }
            match self.calls.apply_any(&object).await {
                Ok(()) => {
                    tracing::info!(kind = key.0, name = key.1, "applied for GPU pools");
                    memory.applied.insert(key, object);
                }
                Err(CallError::Rejected { what, reason }) => {
                    refused = Some(format!("the API server refuses to {what}: {reason}"));
                }
                Err(CallError::Gone { what }) => {
                    refused = Some(format!(
                        "cannot {what}: the namespace `{}` is not there; name the device plugin's with the operator's `--device-plugin-config NAMESPACE/NAME`",
                        self.config.namespace
                    ));
                }
                Err(error) => tracing::warn!(error = %Chain(&error), "tries again"),
            }
        }
        memory.applied.retain(|key, _| wanted.contains(key));
        if self.pools.has_dra() && memory.tidied.as_ref() != Some(&wanted) {
            match self.tidy(&wanted).await {
                Ok(()) => memory.tidied = Some(wanted),
                Err(error) => tracing::warn!(error = %Chain(&error), "tries again"),
            }
        }
        refused
    }

    /// Deletes DeviceClasses of pools that share their GPUs in another way now. What a deleted pool
    /// had goes with its owner.
    async fn tidy(&self, wanted: &BTreeSet<(String, String)>) -> Result<(), CallError> {
        for (name, uid) in self.calls.pool_classes().await? {
            if wanted.contains(&("DeviceClass".to_owned(), name.clone())) {
                continue;
            }
            self.calls.delete_class(&name, &uid).await?;
            tracing::info!(name, "deleted the DeviceClass of a pool that has none any more");
        }
        Ok(())
    }

    /// Labels and taints nodes; true if one was not as it should be.
    async fn mark(&self, pools: &BTreeMap<String, GpuPool>, inventory: &Inventory) -> bool {
        let marks: BTreeMap<&str, _> = pools
            .iter()
            .map(|(name, pool)| (name.as_str(), node_marks(name, &pool.spec)))
            .collect();
        let mut is_marking = false;
        for node in &inventory.nodes {
            // One that several pools select keeps what it has, until a person has decided.
            let marks = match node.pools.as_slice() {
                [] => None,
                [only] => marks.get(only.as_str()),
                _ => continue,
            };
            let Some(patch) = patch(node, marks) else { continue };
            is_marking = true;
            match self.calls.patch_node(&node.name, &patch).await {
                Ok(()) => tracing::info!(node = node.name, "has the marks of its pool"),
                Err(CallError::Conflict { .. } | CallError::Gone { .. }) => {}
                Err(error) => tracing::warn!(error = %Chain(&error), "a node is not marked"),
            }
        }
        is_marking
    }

    async fn tell(&self, name: &str, pool: &GpuPool, inventory: &Inventory, refused: Option<&str>) {
        let facts = self.pools.facts();
        let error = facts.get(name).and_then(|facts| facts.as_ref().err());
        let status = decide(&Seen {
            name,
            pool,
            inventory,
            error,
            refused,
            manages_nodes: self.manages_nodes,
            now: Timestamp::now(),
        });
        if pool.status.as_ref().is_some_and(|before| says(before, &status)) {
            return;
        }
        let uid = pool.metadata.uid.as_deref().unwrap_or_default();
        match self.calls.apply_cluster_status::<GpuPool>(name, uid, &status).await {
            Ok(()) => {
                let before = pool.status.as_ref().map(|status| status.conditions.as_slice());
                for news in news(before.unwrap_or_default(), &status.conditions) {
                    self.announcer.announce_pool(name, uid, news);
                }
            }
            Err(CallError::Gone { .. } | CallError::Conflict { .. }) => {}
            Err(error) => tracing::warn!(error = %Chain(&error), "a pool's status is not written"),
        }
    }
}

/// The pools that an object belongs to: it goes with the last of them.
fn owners(pools: &BTreeMap<String, GpuPool>, object: &Value) -> Vec<Value> {
    let label = object["metadata"]["labels"][trainyard_plan::kubernetes::POOL].as_str();
    let own = pools.iter().filter(|(name, _)| label.is_none_or(|label| label == name.as_str()));
    own.map(|(name, pool)| {
        json!({
            "apiVersion": GpuPool::api_version(&()), "kind": GpuPool::kind(&()),
            "name": name, "uid": pool.metadata.uid,
        })
    })
    .collect()
}
