//! From what was seen of a pool to its status.

use k8s_openapi::jiff::Timestamp;
use trainyard_api::GpuPool;
use trainyard_api::gpu_pool::{GpuPoolStatus, PoolResource, SharingMode};
use trainyard_plan::PoolError;
use trainyard_plan::kubernetes::{NodeMarks, node_marks, pool_resources};

use super::inventory::{GpuNode, Inventory, PoolUse};
use super::marks::{has_labels, has_taint};
use crate::status::{Verdict, are_there, merge};

/// One pool at one moment.
pub(super) struct Seen<'a> {
    pub(super) name: &'a str,
    pub(super) pool: &'a GpuPool,
    pub(super) inventory: &'a Inventory,
    /// Why it cannot be used at all.
    pub(super) error: Option<&'a PoolError>,
    /// What the API server refused of what it is made of.
    pub(super) refused: Option<&'a str>,
    /// This operator marks nodes itself.
    pub(super) manages_nodes: bool,
    pub(super) now: Timestamp,
}

/// Names of this many nodes stand in a message.
const NAMED: usize = 3;

/// The status that a pool should have.
pub(super) fn decide(seen: &Seen<'_>) -> GpuPoolStatus {
    let before = seen.pool.status.as_ref();
    let generation = seen.pool.metadata.generation;
    let found = seen.inventory.pools.iter().find(|pool| pool.name == seen.name);
    let sum = |of: fn(&super::inventory::Units) -> u32| {
        let units = found.into_iter().flat_map(|found| &found.units);
        units.fold(0_u32, |sum, units| sum.saturating_add(of(units)))
    };
    let conditions = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
    GpuPoolStatus {
        observed_generation: generation,
        conditions: merge(conditions, verdicts(seen, found), generation, seen.now),
        nodes: found.map_or(0, |found| u32::try_from(found.nodes.len()).unwrap_or(u32::MAX)),
        gpus: found.map_or(0, |found| found.gpus),
        units: sum(|units| units.allocatable),
        allocated: sum(|units| units.allocated),
        // Services should not change because no node is left to ask.
        memory: found.and_then(|found| found.memory).or(before.and_then(|status| status.memory)),
        resources: found
            .into_iter()
            .flat_map(|found| &found.units)
            .map(|units| PoolResource {
                name: units.resource.clone(),
                capacity: units.capacity,
                allocatable: units.allocatable,
                allocated: units.allocated,
            })
            .collect(),
    }
}

/// Whether a status says what this one does. Conditions of others may stand beside ours.
pub(super) fn says(before: &GpuPoolStatus, ours: &GpuPoolStatus) -> bool {
    let rest = GpuPoolStatus { conditions: ours.conditions.clone(), ..before.clone() };
    rest == *ours && are_there(&before.conditions, &ours.conditions)
}

/// Ready, Progressing, Degraded, Stalled.
fn verdicts(seen: &Seen<'_>, found: Option<&PoolUse>) -> [Verdict; 4] {
    let stalled = |reason: &str, message: String| {
        [
            Verdict::no(reason, message.clone()),
            Verdict::no(reason, "waits for a change"),
            Verdict::no(reason, ""),
            Verdict::yes(reason, message),
        ]
    };
    if let Some(error) = seen.error {
        return stalled("InvalidSpec", error.to_string());
    }
    if let Some(refused) = seen.refused {
        return stalled("ApplyRejected", refused.to_owned());
    }
    let nodes: Vec<&GpuNode> = seen
        .inventory
        .nodes
        .iter()
        .filter(|node| node.pools.iter().any(|pool| pool == seen.name))
        .collect();
    let calm = || Verdict::no("NotStalled", "");
    if nodes.is_empty() {
        return [
            Verdict::no("NoNodes", "no node has the labels of `spec.nodeSelector`"),
            Verdict::no("NoNodes", ""),
            Verdict::no("NoNodes", ""),
            calm(),
        ];
    }
    let degraded = degraded(seen.name, &nodes, found);
    let marks = node_marks(seen.name, &seen.pool.spec);
    if seen.pool.spec.mode() == SharingMode::Dra {
        let told = "its devices are claimed; they are not counted here";
        let ready = Verdict::yes("Claimed", told);
        return [ready, unmarked(seen, &nodes, &marks), degraded, calm()];
    }
    let units = found.into_iter().flat_map(|found| &found.units);
    let (there, allocated) = units.fold((0_u32, 0_u32), |(there, allocated), units| {
        (there.saturating_add(units.allocatable), allocated.saturating_add(units.allocated))
    });
    let not_yet: Vec<&GpuNode> =
        nodes.iter().copied().filter(|node| !announces(node, &seen.pool.spec)).collect();
    let resources = pool_resources(&seen.pool.spec).join("`, `");
    let ready = match there {
        0 => Verdict::no("NoUnits", format!("no node announces `{resources}`")),
        there => Verdict::yes("Available", format!("{allocated} of {there} units are in use")),
    };
    let progressing = if not_yet.is_empty() {
        unmarked(seen, &nodes, &marks)
    } else {
        let names = named(&not_yet);
        let bare: Vec<&GpuNode> =
            not_yet.iter().copied().filter(|node| !has_labels(node, &marks)).collect();
        if bare.is_empty() {
            let told = format!(
                "{names} should announce `{resources}` and do not yet; NVIDIA's device plugin has to read the ConfigMap that `nvidia.com/device-plugin.config` chooses"
            );
            Verdict::yes("WaitingForDevicePlugin", told)
        } else if seen.manages_nodes {
            Verdict::yes("LabellingNodes", format!("{} get the pool's labels", named(&bare)))
        } else {
            let commands = marks.commands(&seen.pool.spec.node_selector).join(" && ");
            Verdict::yes(
                "NodesNotLabelled",
                format!("{} do not carry the pool's labels: {commands}", named(&bare)),
            )
        }
    };
    [ready, progressing, degraded, calm()]
}

/// Whether a node announces what the pool says, and cuts its GPUs as the pool says.
fn announces(node: &GpuNode, spec: &trainyard_api::GpuPoolSpec) -> bool {
    let there = |resource: &String| node.units_of(resource).is_some_and(|units| units.capacity > 0);
    let shares = spec.sharing.as_ref().and_then(|sharing| sharing.shares);
    let as_many = node.replicas().is_none_or(|replicas| shares.is_none_or(|it| it == replicas));
    pool_resources(spec).iter().all(there) && as_many
}

/// What the pool's nodes lack beyond what their plugin does: its taint, mostly.
fn unmarked(seen: &Seen<'_>, nodes: &[&GpuNode], marks: &NodeMarks) -> Verdict {
    let bare: Vec<&GpuNode> =
        nodes.iter().copied().filter(|node| !has_taint(node, marks)).collect();
    if bare.is_empty() {
        return Verdict::no("Complete", "");
    }
    if seen.manages_nodes {
        return Verdict::yes("TaintingNodes", format!("{} get the pool's taint", named(&bare)));
    }
    let commands = marks.commands(&seen.pool.spec.node_selector);
    let command = commands.last().cloned().unwrap_or_default();
    Verdict::yes(
        "NodesNotTainted",
        format!("{} do not carry the pool's taint: {command}", named(&bare)),
    )
}

fn degraded(name: &str, nodes: &[&GpuNode], found: Option<&PoolUse>) -> Verdict {
    let several: Vec<&GpuNode> =
        nodes.iter().copied().filter(|node| node.pools.len() > 1).collect();
    if let Some(first) = several.first() {
        let others: Vec<&str> =
            first.pools.iter().map(String::as_str).filter(|pool| *pool != name).collect();
        let told = format!(
            "{} are also in `{}`; a node can be shared in one way only: change a `spec.nodeSelector`",
            named(&several),
            others.join("`, `")
        );
        return Verdict::yes("NodesInSeveralPools", told);
    }
    let units = found.into_iter().flat_map(|found| &found.units);
    let broken = units.fold(0_u32, |sum, units| {
        sum.saturating_add(units.capacity.saturating_sub(units.allocatable))
    });
    let sick: Vec<&GpuNode> = nodes
        .iter()
        .copied()
        .filter(|node| node.units.iter().any(|units| units.allocatable < units.capacity))
        .collect();
    if broken > 0 {
        let told = format!(
            "{broken} units are of unhealthy GPUs, on {}; reset the GPU, and restart the device plugin's pod there, which cannot bring it back by itself",
            named(&sick)
        );
        return Verdict::yes("GpusUnhealthy", told);
    }
    let down: Vec<&GpuNode> = nodes.iter().copied().filter(|node| !node.is_ready).collect();
    if !down.is_empty() {
        return Verdict::yes("NodesNotReady", format!("{} are not ready", named(&down)));
    }
    Verdict::no("AsAsked", "")
}

/// Nodes by name, the first few of them.
fn named(nodes: &[&GpuNode]) -> String {
    let names: Vec<String> =
        nodes.iter().take(NAMED).map(|node| format!("`{}`", node.name)).collect();
    match nodes.len().saturating_sub(NAMED) {
        0 => format!("the nodes {}", names.join(", ")),
        more => format!("the nodes {} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use trainyard_plan::kubernetes::node_marks;
    use trainyard_plan::{SHARED, WHOLE};

    use super::super::inventory::examples::{node, pod, pool};
    use super::super::inventory::inventory;
    use super::*;

    fn spec() -> trainyard_api::GpuPoolSpec {
        pool(json!({"nodeSelector": {"pool": "t4"}, "sharing": {"mode": "mps", "shares": 4}}))
    }

    /// The first condition of each status `True`, or else `Ready` with its reason.
    fn told(nodes: Vec<GpuNode>, manages_nodes: bool, more: Option<Value>) -> Vec<String> {
        let mut pools = BTreeMap::from([("t4".to_owned(), spec())]);
        pools.extend(more.map(|spec| ("other".to_owned(), pool(spec))));
        let inventory = inventory(&pools, nodes, [pod("x", Some("a"), SHARED, 1)]);
        let resource = GpuPool::new("t4", spec());
        let status = decide(&Seen {
            name: "t4",
            pool: &resource,
            inventory: &inventory,
            error: None,
            refused: None,
            manages_nodes,
            now: Timestamp::UNIX_EPOCH,
        });
        let conditions = status.conditions.iter().filter(|it| it.status == "True");
        conditions.map(|it| format!("{} {}: {}", it.type_, it.reason, it.message)).collect()
    }

    #[test]
    fn conditions_of_others_are_no_reason_to_write() {
        let inventory = inventory(&BTreeMap::new(), Vec::new(), []);
        let look = |status: Option<GpuPoolStatus>, second: i64| {
            let mut pool = GpuPool::new("t4", spec());
            pool.status = status;
            decide(&Seen {
                name: "t4",
                pool: &pool,
                inventory: &inventory,
                error: None,
                refused: None,
                manages_nodes: false,
                now: Timestamp::from_second(second).unwrap(),
            })
        };
        let first = look(None, 1);
        let mut live = first.clone();
        let mut other = first.conditions[0].clone();
        other.type_ = "Audited".to_owned();
        live.conditions.insert(0, other);
        // What is decided later is still what stands there.
        assert!(says(&live, &look(Some(live.clone()), 60)));
        let mut changed = live.clone();
        changed.conditions[1].reason = "Other".to_owned();
        assert!(!says(&changed, &look(Some(changed.clone()), 60)));
        assert!(!says(&GpuPoolStatus { nodes: 1, ..live }, &first));
    }

    fn cut(units: Value, replicas: &str) -> GpuNode {
        let marks = node_marks("t4", &spec());
        let mut labels = json!(marks.labels);
        labels["nvidia.com/gpu.replicas"] = json!(replicas);
        node("a", json!({SHARED: units}), labels)
    }

    #[test]
    fn table() {
        assert!(told(Vec::new(), false, None).is_empty());
        assert_eq!(
            told(vec![cut(json!(["4", "4"]), "4")], false, None),
            ["Ready Available: 1 of 4 units are in use"]
        );
        let whole = || node("a", json!({WHOLE: ["1", "1"]}), json!({}));
        let by_hand = told(vec![whole()], false, None);
        assert_eq!(by_hand.len(), 1, "{by_hand:?}");
        assert!(
            by_hand[0].starts_with("Progressing NodesNotLabelled: the nodes `a` do not"),
            "{by_hand:?}"
        );
        assert!(by_hand[0].contains("kubectl label nodes -l pool=t4"), "{by_hand:?}");
        let managed = told(vec![whole()], true, None);
        assert!(managed[0].starts_with("Progressing LabellingNodes"), "{managed:?}");
        let other_number = told(vec![cut(json!(["2", "2"]), "2")], false, None);
        assert!(other_number[1].contains("WaitingForDevicePlugin"), "{other_number:?}");
        let sick = told(vec![cut(json!(["4", "0"]), "4")], false, None);
        assert!(
            sick[0].starts_with("Degraded GpusUnhealthy: 4 units are of unhealthy"),
            "{sick:?}"
        );
        let two = json!({"nodeSelector": {"pool": "t4"}});
        let shared = told(vec![cut(json!(["4", "4"]), "4")], false, Some(two));
        assert!(shared[1].starts_with("Degraded NodesInSeveralPools"), "{shared:?}");
        assert!(shared[1].contains("also in `other`"), "{shared:?}");
    }

    #[test]
    fn the_same_again_is_no_change() {
        let pools = BTreeMap::from([("t4".to_owned(), spec())]);
        let inventory = inventory(&pools, [cut(json!(["4", "4"]), "4")], []);
        let mut resource = GpuPool::new("t4", spec());
        let mut status = |second| {
            let status = decide(&Seen {
                name: "t4",
                pool: &resource,
                inventory: &inventory,
                error: None,
                refused: None,
                manages_nodes: false,
                now: Timestamp::from_second(second).expect("a time"),
            });
            resource.status = Some(status.clone());
            status
        };
        assert_eq!(status(0), status(100));
    }
}
