//! The pools as they are known now, for all who ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use trainyard_api::{GpuPool, GpuPoolSpec};
use trainyard_plan::{GpuPools, PoolSeen, pool_facts};

use super::inventory::{GpuNode, GpuPod, Inventory, inventory};

/// Pools, nodes and pods with GPUs, and what follows from them for services. Cheap to clone: all
/// clones are one.
#[derive(Debug, Clone, Default)]
pub struct Pools {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What a command line says; a resource of the same name replaces it.
    told: GpuPools,
    has_dra: bool,
    pools: BTreeMap<String, GpuPool>,
    nodes: BTreeMap<String, GpuNode>,
    /// Whether all nodes were seen.
    has_nodes: bool,
    pods: HashMap<(String, String), GpuPod>,
    facts: Arc<GpuPools>,
}

impl Pools {
    /// Pools that are known before any resource was read.
    pub fn told(told: GpuPools) -> Self {
        let pools = Self::default();
        pools.lock().told.clone_from(&told);
        pools.lock().facts = Arc::new(told);
        pools
    }

    /// What the pools mean to services.
    pub(crate) fn facts(&self) -> Arc<GpuPools> {
        self.lock().facts.clone()
    }

    /// The cluster has `resource.k8s.io/v1`.
    pub(super) fn set_dra(&self) {
        self.lock().has_dra = true;
    }

    /// Whether the cluster has it.
    pub(super) fn has_dra(&self) -> bool {
        self.lock().has_dra
    }

    /// The resources by name.
    pub(super) fn resources(&self) -> BTreeMap<String, GpuPool> {
        self.lock().pools.clone()
    }

    pub(super) fn has_any(&self) -> bool {
        !self.lock().pools.is_empty()
    }

    pub(super) fn has_pod(&self, key: &(String, String)) -> bool {
        self.lock().pods.contains_key(key)
    }

    /// Whether the last word about nodes is known.
    pub(super) fn has_nodes(&self) -> bool {
        self.lock().has_nodes
    }

    /// Nodes, and pods with GPUs, as they are cached; none where nobody watches them.
    pub(crate) fn cached(&self) -> Option<(Vec<GpuNode>, Vec<GpuPod>)> {
        let state = self.lock();
        let has_some = state.has_nodes && !state.pools.is_empty();
        has_some.then(|| {
            (state.nodes.values().cloned().collect(), state.pods.values().cloned().collect())
        })
    }

    pub(super) fn inventory(&self) -> Inventory {
        let state = self.lock();
        let specs = state.pools.iter().map(|(name, pool)| (name.clone(), pool.spec.clone()));
        inventory(&specs.collect(), state.nodes.values().cloned(), state.pods.values().cloned())
    }

    /// Takes something in; true if pools mean something else to services now.
    pub(super) fn change(&self, change: impl FnOnce(&mut Seen<'_>)) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        change(&mut Seen {
            pools: &mut state.pools,
            nodes: &mut state.nodes,
            has_nodes: &mut state.has_nodes,
            pods: &mut state.pods,
        });
        let facts = state.meaning();
        let is_news = facts != *state.facts;
        if is_news {
            state.facts = Arc::new(facts);
        }
        self.shared.changed.notify_one();
        is_news
    }

    /// Waits until something changed since the last time. For one caller. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What watches may change.
pub(super) struct Seen<'a> {
    pub(super) pools: &'a mut BTreeMap<String, GpuPool>,
    pub(super) nodes: &'a mut BTreeMap<String, GpuNode>,
    pub(super) has_nodes: &'a mut bool,
    pub(super) pods: &'a mut HashMap<(String, String), GpuPod>,
}

impl State {
    fn meaning(&self) -> GpuPools {
        let mut facts = self.told.clone();
        for (name, pool) in &self.pools {
            let seen = PoolSeen { has_dra: self.has_dra, memory: self.memory(pool) };
            facts.insert(name.clone(), pool_facts(name, &pool.spec, seen));
        }
        facts
    }

    /// The memory of a pool's GPU as its nodes tell it. What was told before holds while no node
    /// does: services should not change because a pool has scaled to nothing.
    fn memory(&self, pool: &GpuPool) -> Option<trainyard_api::scalar::Bytes> {
        let told = pool.status.as_ref().and_then(|status| status.memory);
        if !self.has_nodes {
            return told;
        }
        let own = self.nodes.values().filter(|node| node.has(&pool.spec.node_selector));
        own.filter_map(|node| node.memory).min().or(told)
    }
}

/// The specs of resources.
pub(super) fn specs(pools: &BTreeMap<String, GpuPool>) -> BTreeMap<String, GpuPoolSpec> {
    pools.iter().map(|(name, pool)| (name.clone(), pool.spec.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainyard_api::scalar::Bytes;
    use trainyard_plan::{PoolFacts, Units};

    use super::super::inventory::examples::{node, pool};
    use super::*;

    fn resource(name: &str, spec: serde_json::Value) -> GpuPool {
        GpuPool::new(name, pool(spec))
    }

    #[test]
    fn a_resource_replaces_what_the_command_line_says() {
        let told = PoolFacts::of_shares(4, None);
        let pools = Pools::told([("default".to_owned(), Ok(told))].into());
        assert!(matches!(
            &pools.facts()["default"],
            Ok(PoolFacts { units: Units::Shares { per_gpu: 4, .. }, .. })
        ));
        let whole = resource("default", json!({"nodeSelector": {"pool": "t4"}}));
        assert!(pools.change(|seen| drop(seen.pools.insert("default".into(), whole.clone()))));
        assert!(matches!(&pools.facts()["default"], Ok(PoolFacts { units: Units::Whole, .. })));
        assert!(!pools.change(|seen| drop(seen.pools.insert("default".into(), whole))));
        assert!(pools.change(|seen| seen.pools.clear()));
        assert!(matches!(
            &pools.facts()["default"],
            Ok(PoolFacts { units: Units::Shares { .. }, .. })
        ));
    }

    #[test]
    fn a_pool_without_nodes_keeps_the_memory_that_it_had() {
        let pools = Pools::default();
        let memory = || pools.facts()["t4"].as_ref().expect("usable").memory;
        let mut told = resource("t4", json!({"nodeSelector": {"pool": "t4"}}));
        pools.change(|seen| drop(seen.pools.insert("t4".into(), told.clone())));
        assert_eq!(memory(), None);
        let mut card = node("a", json!({"nvidia.com/gpu": ["1", "1"]}), json!({}));
        assert!(pools.change(|seen| {
            seen.nodes.insert("a".into(), card.clone());
            *seen.has_nodes = true;
        }));
        assert_eq!(memory(), Some(Bytes(15 << 30)));
        told.status = Some(trainyard_api::gpu_pool::GpuPoolStatus {
            memory: Some(Bytes(15 << 30)),
            ..Default::default()
        });
        assert!(!pools.change(|seen| {
            seen.pools.insert("t4".into(), told);
            seen.nodes.clear();
        }));
        assert_eq!(memory(), Some(Bytes(15 << 30)));
        // A smaller card is what all must fit on.
        card.memory = Some(Bytes(8 << 30));
        assert!(pools.change(|seen| drop(seen.nodes.insert("b".into(), card))));
        assert_eq!(memory(), Some(Bytes(8 << 30)));
    }
}
