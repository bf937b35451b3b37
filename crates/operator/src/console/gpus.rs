//! What a cluster has with GPUs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube_client::api::ListParams;
use kube_client::{Api, ResourceExt};
use trainyard_api::GpuPool;

use super::failure::ask;
use super::{Console, ConsoleError};
use crate::pools::inventory::{GpuNode, GpuPod, Inventory, inventory};

impl Console {
    /// Pools, nodes and pods with GPUs, and what could not be read of them and why.
    ///
    /// Who may not list the pods of all namespaces sees those of his own: what others have is free
    /// to him by these figures, and the note says so.
    pub async fn gpus(&self) -> Result<(Inventory, Vec<String>), ConsoleError> {
        let mut notes = Vec::new();
        let params = ListParams::default();
        let pools: Api<GpuPool> = Api::all(self.client.clone());
        let pools: BTreeMap<_, _> = match ask("list the GPU pools", pools.list(&params)).await {
            Ok(pools) => pools.into_iter().map(|pool| (pool.name_any(), pool.spec)).collect(),
            // A cluster without Trainyard has GPUs too.
            Err(ConsoleError::NotInstalled) => BTreeMap::new(),
            Err(ConsoleError::Forbidden { right: Some(right), .. }) => {
                notes.push(format!("pools are not shown: you may not {}", right.words()));
                BTreeMap::new()
            }
            Err(error) => return Err(error),
        };
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = ask("list the nodes", nodes.list(&params)).await?;
        let alive = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let pods: Api<Pod> = Api::all(self.client.clone());
        let pods = match ask("list the pods", pods.list(&alive)).await {
            Ok(pods) => pods,
            Err(ConsoleError::Forbidden { right: Some(right), .. }) => {
                let home = self.home();
                notes.push(format!(
                    "only pods of the namespace `{home}` are counted: you may not {} elsewhere",
                    right.words()
                ));
                let own: Api<Pod> = Api::namespaced(self.client.clone(), home);
                ask("list the pods", own.list(&alive)).await?
            }
            Err(error) => return Err(error),
        };
        let nodes = nodes.iter().map(GpuNode::of);
        Ok((inventory(&pools, nodes, pods.iter().filter_map(GpuPod::of)), notes))
    }
}
