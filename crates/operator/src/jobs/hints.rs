//! Which nodes the workers of a start prefer, so that Kubernetes' scheduler packs GPUs as our policy
//! would.
//!
//! In: the Job as it is about to be made, and what the watches for GPU pools have cached anyway; no
//! request is made for this. Out: the Job with preferred node affinity, never a requirement: the
//! scheduler still decides by what it knows then, and takes the next node where a preferred one is
//! full. Cores and memory that pods without GPUs have are not among what is cached.

use serde_json::{Value, json};
use trainyard_diagnose::{Moving, Snapshot, occupancy};
use trainyard_packing::{Defrag, Policy};

use crate::pools::inventory::{GpuNode, GpuPod};

/// The label by which nodes are named; a term by field may name one node only.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// The scheduler adds up the weights of the terms that a node meets, and stretches the sums so that
/// the largest among nodes with room is 100. So each node has half the weight of the one before: once
/// that is full, it is as much wanted as that was.
const WEIGHTS: [u32; 6] = [100, 50, 25, 12, 6, 3];
/// A job's own preference, such as for spot nodes, weighs 100 each and is to win.
const WEIGHTS_BELOW_OTHERS: [u32; 6] = [48, 24, 12, 6, 3, 2];
/// More nodes are not named: a template is stored with each pod.
const MOST_NODES: usize = 64;

/// The Job with preferences; as it was where it wants no GPU, spreads its workers on purpose, or
/// nothing is known to prefer.
pub(super) fn prefer(mut job: Value, nodes: &[GpuNode], pods: &[GpuPod], policy: Policy) -> Value {
    let Some(chosen) = choose(&job, nodes, pods, policy) else { return job };
    let label = |name: &String| {
        let node = nodes.iter().find(|node| node.name == *name)?;
        node.labels.get(HOSTNAME).cloned()
    };
    let hosts: Vec<String> = chosen.iter().filter_map(label).take(MOST_NODES).collect();
    let Some(spec) = job.pointer_mut("/spec/template/spec") else { return job };
    let affinity = &mut spec["affinity"]["nodeAffinity"];
    let preferred = &mut affinity["preferredDuringSchedulingIgnoredDuringExecution"];
    let mut terms = preferred.as_array().cloned().unwrap_or_default();
    let weights = if terms.is_empty() { WEIGHTS } else { WEIGHTS_BELOW_OTHERS };
    let term = |weight: u32, hosts: &[String]| {
        let expression = json!({"key": HOSTNAME, "operator": "In", "values": hosts});
        json!({"weight": weight, "preference": {"matchExpressions": [expression]}})
    };
    let first = hosts.iter().zip(weights);
    terms.extend(first.map(|(host, weight)| term(weight, std::slice::from_ref(host))));
    if let Some(rest) = hosts.get(weights.len()..).filter(|rest| !rest.is_empty()) {
        terms.push(term(1, rest));
    }
    *preferred = json!(terms);
    job
}

/// The names of the nodes, the best first.
fn choose(job: &Value, nodes: &[GpuNode], pods: &[GpuPod], policy: Policy) -> Option<Vec<String>> {
    let spec = job.pointer("/spec/template/spec")?;
    let spreads = spec.get("topologySpreadConstraints").and_then(Value::as_array);
    if spreads.is_some_and(|constraints| !constraints.is_empty()) {
        return None;
    }
    let workers = job.pointer("/spec/parallelism").and_then(Value::as_u64).unwrap_or(1);
    let worker = json!({
        "kind": "Pod",
        "metadata": {
            "name": "worker", "namespace": job.pointer("/metadata/namespace"),
            "labels": job.pointer("/spec/template/metadata/labels"),
        },
        "spec": spec,
    });
    let objects = nodes.iter().map(node).chain(pods.iter().filter_map(pod)).chain([worker]);
    let snapshot = Snapshot { objects: objects.collect(), ..Snapshot::default() };
    let seen = occupancy(&snapshot, Moving::Services).ok()?;
    if !seen.waiting.first()?.has_gpu {
        return None;
    }
    let asked = Defrag {
        sites: &seen.sites,
        tenants: &seen.tenants,
        newcomers: &seen.newcomers,
        budgets: &seen.budgets,
        models: seen.fleet.models(),
        policy,
        most_moves: 0,
    };
    let sites = asked.prefer(0, u32::try_from(workers).unwrap_or(u32::MAX))?;
    let chosen: Vec<String> =
        sites.into_iter().filter_map(|site| seen.nodes.get(site).cloned()).collect();
    (!chosen.is_empty()).then_some(chosen)
}

/// A node as the API server has it, of what packing looks at.
fn node(node: &GpuNode) -> Value {
    let ready = if node.is_ready { "True" } else { "False" };
    json!({
        "kind": "Node",
        "metadata": {"name": node.name, "labels": node.labels},
        "spec": {"taints": node.taints},
        "status": {"allocatable": node.allocatable, "conditions": [{"type": "Ready", "status": ready}]},
    })
}

/// The same of a pod; none of one that waits.
fn pod(pod: &GpuPod) -> Option<Value> {
    let node = pod.node.as_ref()?;
    let (cpu, memory) = pod.asks;
    let units = pod.units.iter().map(|(resource, units)| (resource.clone(), json!(units)));
    let mut requests: serde_json::Map<String, Value> = units.collect();
    requests.insert("cpu".to_owned(), json!(format!("{cpu}m")));
    requests.insert("memory".to_owned(), json!(memory));
    Some(json!({
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "spec": {"nodeName": node, "containers": [{"resources": {"requests": requests}}]},
        "status": {"phase": "Running"},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, labels: Value, taints: Value, gpus: u32) -> GpuNode {
        let mut labels = labels;
        labels[HOSTNAME] = json!(format!("host-{name}"));
        GpuNode::of(
            &serde_json::from_value(json!({
                "metadata": {"name": name, "labels": labels},
                "spec": {"taints": taints},
                "status": {
                    "capacity": {"nvidia.com/gpu": gpus.to_string()},
                    "allocatable": {"nvidia.com/gpu": gpus.to_string(), "cpu": "16", "memory": "64Gi", "pods": "110"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }))
            .expect("a node"),
        )
    }

    fn has(node: Option<&str>, gpus: u32, cores: u32) -> GpuPod {
        let resources = json!({
            "requests": {"cpu": cores.to_string(), "memory": "1Gi", "nvidia.com/gpu": gpus},
            "limits": {"nvidia.com/gpu": gpus},
        });
        GpuPod::of(
            &serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "ml"},
                "spec": {"nodeName": node, "containers": [{"name": "c", "resources": resources}]},
            }))
            .expect("a pod"),
        )
        .expect("it has GPUs")
    }

    fn job(workers: u32, gpus: u32, spec: Value) -> Value {
        let resources = json!({"requests": {"cpu": "1", "nvidia.com/gpu": gpus}});
        let mut job = json!({
            "kind": "Job", "metadata": {"name": "j", "namespace": "ml"},
            "spec": {"parallelism": workers, "template": {"spec": {"containers": [{"resources": resources}]}}},
        });
        for (key, value) in spec.as_object().expect("a map") {
            job["spec"]["template"]["spec"][key] = value.clone();
        }
        job
    }

    /// Weights and hosts of the terms.
    fn terms(job: &Value) -> Vec<(u64, Vec<String>)> {
        let at = "/spec/template/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";
        let terms = job.pointer(at).and_then(Value::as_array).cloned().unwrap_or_default();
        terms
            .iter()
            .map(|term| {
                let values = term.pointer("/preference/matchExpressions/0/values");
                let values = values.and_then(Value::as_array).cloned().unwrap_or_default();
                let values = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                (term["weight"].as_u64().expect("a weight"), values)
            })
            .collect()
    }

    fn of(weight: u64, host: &str) -> (u64, Vec<String>) {
        (weight, vec![host.to_owned()])
    }

    #[test]
    fn a_node_in_use_is_filled_first() {
        let nodes = ["a", "b", "c"].map(|name| card(name, json!({}), json!([]), 4));
        let pods = [has(Some("b"), 2, 1), has(Some("c"), 3, 1), has(None, 4, 1)];
        let with = |workers, gpus| {
            terms(&prefer(job(workers, gpus, json!({})), &nodes, &pods, Policy::LeastStranding))
        };
        assert_eq!(with(1, 1), [of(100, "host-c"), of(50, "host-b")]);
        assert_eq!(with(1, 2), [of(100, "host-b"), of(50, "host-a")]);
        assert_eq!(with(2, 2), [of(100, "host-b"), of(50, "host-a")]);
        assert_eq!(with(1, 4), [of(100, "host-a")]);
        // Nobody has so many, and nobody knows better than the scheduler.
        assert!(with(1, 8).is_empty());
        assert!(with(1, 0).is_empty());
    }

    #[test]
    fn what_the_job_says_itself_holds() {
        let taints = json!([{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]);
        let nodes = [
            card("a", json!({"zone": "x"}), json!([]), 4),
            card("b", json!({"zone": "y"}), json!([]), 4),
            card("c", json!({"zone": "x"}), taints, 4),
        ];
        let pods = [has(Some("b"), 2, 1), has(Some("c"), 3, 16)];
        let with =
            |spec: Value| terms(&prefer(job(1, 1, spec), &nodes, &pods, Policy::LeastStranding));
        assert_eq!(with(json!({"nodeSelector": {"zone": "x"}})), [of(100, "host-a")]);
        // The third has no cores left.
        let tolerates = json!({"tolerations": [{"operator": "Exists"}]});
        assert_eq!(with(tolerates), [of(100, "host-b"), of(50, "host-a")]);
        let spreads = json!({"topologySpreadConstraints": [{"topologyKey": HOSTNAME}]});
        assert!(with(spreads).is_empty());
        let own = json!([{"weight": 100, "preference": {"matchExpressions": [{"key": "spot", "operator": "Exists"}]}}]);
        let affinity =
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": own}});
        let all = with(json!({"affinity": affinity}));
        assert_eq!(all, [(100, vec![]), of(48, "host-b"), of(24, "host-a")]);
    }

    #[test]
    fn many_nodes_share_a_term() {
        let nodes: Vec<GpuNode> =
            (0..100).map(|at| card(&format!("n{at:03}"), json!({}), json!([]), 1)).collect();
        let terms = terms(&prefer(job(90, 1, json!({})), &nodes, &[], Policy::LeastStranding));
        let weights: Vec<u64> = terms.iter().map(|(weight, _)| *weight).collect();
        assert_eq!(weights, [100, 50, 25, 12, 6, 3, 1]);
        assert_eq!(terms[6].1.len(), MOST_NODES - WEIGHTS.len());
    }

    #[test]
    fn nothing_known_changes_nothing() {
        let plain = job(2, 1, json!({}));
        assert_eq!(prefer(plain.clone(), &[], &[], Policy::Fgd), plain);
        assert_eq!(prefer(json!({"kind": "Job"}), &[], &[], Policy::Fgd), json!({"kind": "Job"}));
    }
}
