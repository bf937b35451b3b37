//! Bodies of fuzz targets.

use crate::inflation::Inflation;
use crate::models::Models;
use crate::node::Node;
use crate::policy::Policy;
use crate::prices::read_prices;
use crate::request::Request;
use crate::spot::{Availability, SpotJob, SpotPolicy};
use crate::timed::{Discipline, Timed, timed_pods};
use crate::trace::{read_nodes, read_pods};

/// Reads bytes as nodes, pods and prices, and simulates what was read on a small scale.
pub fn trace(data: &[u8]) {
    let mut models = Models::default();
    let nodes = read_nodes("nodes.csv", data, &mut models);
    drop(read_prices("prices.csv", data, &mut models));
    let Ok(pods) = read_pods("pods.csv", data, &mut models) else { return };
    let nodes: Vec<Node> = match nodes {
        Ok(nodes) => nodes.into_iter().take(8).map(|it| it.node).collect(),
        // Few texts are both: then on what the pods themselves would need.
        Err(_) => pods
            .iter()
            .take(4)
            .map(|pod| {
                Node::empty(crate::node::Capacity {
                    cpu_milli: pod.request.cpu_milli,
                    memory_mib: pod.request.memory_mib,
                    gpus: pod.request.gpu.count(),
                    model: None,
                })
            })
            .collect(),
    };
    let workload: Vec<Request> = pods.iter().take(32).map(|pod| pod.request).collect();
    let inflation = Inflation {
        nodes: &nodes,
        workload: &workload,
        more: &workload,
        models: models.count(),
        load: 1.3,
    };
    for policy in Policy::ALL {
        drop(inflation.run(policy, 0));
    }
    if let Ok(pods) = timed_pods(pods.get(..32).unwrap_or(&pods)) {
        let timed = Timed {
            nodes: &nodes,
            pods: &pods,
            models: models.count(),
            discipline: Discipline::Strict,
            interruptions: None,
        };
        drop(timed.run(Policy::LeastStranding, 0));
    }
}

/// Reads bytes as a trace of spot machines and runs a job on it.
pub fn spot(data: &[u8]) {
    let Ok(availability) = Availability::read("spot.json", data, 1) else { return };
    let job = SpotJob { work: 4e5, deadline: 6e5, changeover: 360.0, spot_price: 0.3 };
    for policy in SpotPolicy::ALL {
        let _ = job.run(policy, &availability, 0);
    }
}
