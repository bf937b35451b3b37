//! Which nodes the workers of a start prefer, so that Kubernetes' scheduler packs GPUs as our policy
//! would.
//!
//! In: the Job as it is about to be made, and what the watches for GPU pools have cached anyway; no
//! request is made for this. Out: the Job with preferred node affinity, never a requirement: the
//! scheduler still decides by what it knows then, and takes the next node where a preferred one is
//! full. Cores and memory that pods without GPUs have are not among what is cached.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trainyard_diagnose::{Moving, Snapshot, occupancy};
use trainyard_packing::Policy;

use crate::pools::inventory::{GpuNode, GpuPod};

const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
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
    let mut terms = wishes(spec);
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
    spec["affinity"]["nodeAffinity"][PREFERRED] = json!(terms);
    job
}

/// The nodes that a pod's spec prefers, as the terms that say so.
fn wishes(spec: &Value) -> Vec<Value> {
    let terms = spec.pointer("/affinity/nodeAffinity").and_then(|it| it.get(PREFERRED));
    terms.and_then(Value::as_array).cloned().unwrap_or_default()
}

/// The Job with a wish not to run on nodes that their cloud is about to take: it would soon start again.
/// No requirement, since the template of a Job stays as it is, and a machine may stay after all.
pub(super) fn avoid(mut job: Value, leaving: &[String]) -> Value {
    /// With others of a job, such as for spot nodes, this is to win: weights add up.
    const TIMES: usize = 2;
    let leaving = leaving.get(..MOST_NODES).unwrap_or(leaving);
    let spec = job.pointer_mut("/spec/template/spec").filter(|_| !leaving.is_empty());
    let Some(spec) = spec else { return job };
    // Of a field, one requirement may name one node.
    let other =
        |name: &String| json!({"key": "metadata.name", "operator": "NotIn", "values": [name]});
    let fields: Vec<Value> = leaving.iter().map(other).collect();
    let mut terms = wishes(spec);
    let term = json!({"weight": 100, "preference": {"matchFields": fields}});
    terms.extend(std::iter::repeat_n(term, TIMES));
    spec["affinity"]["nodeAffinity"][PREFERRED] = json!(terms);
    job
}

/// The names of the nodes, the best first.
fn choose(job: &Value, nodes: &[GpuNode], pods: &[GpuPod], policy: Policy) -> Option<Vec<String>> {
    let spec = job.pointer("/spec/template/spec")?;
    let spreads = spec.get("topologySpreadConstraints").and_then(Value::as_array);
    if spreads.is_some_and(|constraints| !constraints.is_empty()) {
        return None;
    }
    let nodes: Vec<&GpuNode> = nodes.iter().collect();
    let together = together(spec);
    let mut names = match together {
        Some(it) => nearest(job, it.label, &nodes, pods, policy),
        None => Vec::new(),
    };
    // Where the first worker goes, all the others have to go: elsewhere is worse than no wish.
    if together.is_none_or(|it| !it.is_required) {
        let anywhere = choose_among(job, &nodes, pods, policy).map(|it| it.names);
        names.extend(anywhere.into_iter().flatten());
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    (!names.is_empty()).then_some(names)
}

/// The label within one value of which the workers are to be.
#[derive(Clone, Copy)]
struct Together<'a> {
    label: &'a str,
    /// Or else they wait.
    is_required: bool,
}

/// That of the requirement, if they have a wish too.
fn together(spec: &Value) -> Option<Together<'_>> {
    const TERMS: [(&str, bool); 2] = [
        ("/requiredDuringSchedulingIgnoredDuringExecution/0/topologyKey", true),
        ("/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm/topologyKey", false),
    ];
    let affinity = spec.pointer("/affinity/podAffinity")?;
    TERMS.into_iter().find_map(|(term, is_required)| {
        let label = affinity.pointer(term)?.as_str()?;
        Some(Together { label, is_required })
    })
}

/// The nodes of the one value of a label that has room for the most workers, and of those with room
/// for all the one where the fewest GPUs stay idle: larger gaps are for larger jobs.
fn nearest(
    job: &Value,
    key: &str,
    nodes: &[&GpuNode],
    pods: &[GpuPod],
    policy: Policy,
) -> Vec<String> {
    let mut domains: BTreeMap<&str, Vec<&GpuNode>> = BTreeMap::new();
    for node in nodes {
        if let Some(value) = node.labels.get(key) {
            domains.entry(value).or_default().push(node);
        }
    }
    let chosen = domains.values().filter_map(|nodes| choose_among(job, nodes, pods, policy));
    let best = chosen.min_by(|one, other| {
        other.placed.cmp(&one.placed).then_with(|| one.idle.total_cmp(&other.idle))
    });
    best.map(|best| best.names).unwrap_or_default()
}

/// Nodes that the policy chooses, the best first.
struct Chosen {
    names: Vec<String>,
    /// How many workers have room there.
    placed: u32,
    /// GPUs that are left then.
    idle: f64,
}

fn choose_among(
    job: &Value,
    nodes: &[&GpuNode],
    pods: &[GpuPod],
    policy: Policy,
) -> Option<Chosen> {
    let spec = job.pointer("/spec/template/spec")?;
    let workers = job.pointer("/spec/parallelism").and_then(Value::as_u64).unwrap_or(1);
    let worker = json!({
        "kind": "Pod",
        "metadata": {
            "name": "worker", "namespace": job.pointer("/metadata/namespace"),
            "labels": job.pointer("/spec/template/metadata/labels"),
        },
        "spec": spec,
    });
    let names: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let is_here = |it: &&GpuPod| it.node.as_deref().is_some_and(|node| names.contains(node));
    let pods = pods.iter().filter(is_here).filter_map(pod);
    let objects = nodes.iter().map(|it| node(it)).chain(pods).chain([worker]);
    let snapshot = Snapshot { objects: objects.collect(), ..Snapshot::default() };
    let seen = occupancy(&snapshot, Moving::Services).ok()?;
    if !seen.waiting.first()?.has_gpu {
        return None;
    }
    let asked = seen.defrag(policy, 0);
    let preferred = asked.prefer(0, u32::try_from(workers).unwrap_or(u32::MAX))?;
    let sites = preferred.sites.into_iter();
    Some(Chosen {
        names: sites.filter_map(|site| seen.nodes.get(site).cloned()).collect(),
        placed: preferred.placed,
        idle: preferred.idle,
    })
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
            "spec": {"parallelism": workers, "template": {
                "metadata": {"labels": {"job": "j"}},
                "spec": {"containers": [{"resources": resources}]},
            }},
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

    fn near(mut spec: Value, is_required: bool) -> Value {
        let term = json!({"topologyKey": "rack", "labelSelector": {"matchLabels": {"job": "j"}}});
        let affinity = if is_required {
            json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]})
        } else {
            json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]})
        };
        spec["affinity"]["podAffinity"] = affinity;
        spec
    }

    #[test]
    fn a_gang_goes_where_all_of_it_has_room_and_no_larger_gap_is_lost() {
        let rack = |name: &str, rack: &str| card(name, json!({"rack": rack}), json!([]), 4);
        // Rack x has room for 3 workers of 2, y for 4, z for 5 of which one node is in use.
        let nodes = [
            rack("x1", "x"),
            rack("x2", "x"),
            rack("y1", "y"),
            rack("y2", "y"),
            rack("z1", "z"),
            rack("z2", "z"),
            rack("z3", "z"),
            card("none", json!({}), json!([]), 4),
        ];
        let pods = [has(Some("x1"), 2, 1), has(Some("z1"), 2, 1)];
        let with = |workers| {
            [true, false].map(|is_required| {
                let job = job(workers, 2, near(json!({}), is_required));
                terms(&prefer(job, &nodes, &pods, Policy::LeastStranding))
            })
        };
        let firsts = |terms: &[(u64, Vec<String>)], count: usize| -> Vec<String> {
            terms.iter().take(count).flat_map(|(_, hosts)| hosts.clone()).collect()
        };
        for terms in with(3) {
            assert_eq!(firsts(&terms, 2), ["host-x1", "host-x2"], "{terms:?}");
        }
        for terms in with(4) {
            assert_eq!(firsts(&terms, 2), ["host-y1", "host-y2"], "{terms:?}");
        }
        for terms in with(5) {
            assert_eq!(firsts(&terms, 1), ["host-z1"], "{terms:?}");
            let first: BTreeSet<String> = firsts(&terms, 3).into_iter().collect();
            assert_eq!(first, ["host-z1", "host-z2", "host-z3"].map(str::to_owned).into());
        }
        // Where one rack is required, no other is named.
        let [required, _] = with(3);
        let all: BTreeSet<String> = required.into_iter().flat_map(|(_, hosts)| hosts).collect();
        assert_eq!(all, ["host-x1", "host-x2"].map(str::to_owned).into());
        // A label that nobody has: a wish for it is as none.
        let with_block = |is_required| {
            let text = job(1, 1, near(json!({}), is_required)).to_string().replace("rack", "block");
            let job = serde_json::from_str(&text).expect("JSON");
            terms(&prefer(job, &nodes, &pods, Policy::LeastStranding))
        };
        let wished = with_block(false);
        assert!(["host-x1", "host-z1"].contains(&wished[0].1[0].as_str()), "{wished:?}");
        assert!(with_block(true).is_empty());
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
        assert_eq!(avoid(plain.clone(), &[]), plain);
        assert_eq!(prefer(json!({"kind": "Job"}), &[], &[], Policy::Fgd), json!({"kind": "Job"}));
    }

    #[test]
    fn nodes_that_go_are_avoided() {
        let spot = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 100, "preference": {"matchExpressions": [{"key": "spot", "operator": "Exists"}]}}]}}});
        let avoiding = avoid(job(1, 1, spot), &["a".to_owned(), "b".to_owned()]);
        let at = "/spec/template/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";
        let not =
            |name: &str| json!({"key": "metadata.name", "operator": "NotIn", "values": [name]});
        let term = json!({"weight": 100, "preference": {"matchFields": [not("a"), not("b")]}});
        let terms = avoiding.pointer(at).and_then(Value::as_array).expect("terms");
        assert_eq!(terms.get(1..), Some([term.clone(), term].as_slice()));
    }
}
