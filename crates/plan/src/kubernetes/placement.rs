//! Where pods may run: affinity, tolerations and spread.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinity,
    PodAffinityTerm, PodSpec, PreferredSchedulingTerm, Toleration as PodToleration,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use trainyard_api::model_service::{Spot, Spread, TaintEffect, Toleration, TolerationOperator};

use super::labels::{Texts, selector};
use super::profile::Profile;
use crate::gpu::PRODUCTS;
use crate::policy::Placement;
use crate::workload::Gpu;

/// How long a pod waits on a node that does not answer. Kubernetes' own 300 s spare what is dear to
/// move; a replica holds nothing that another one cannot load, and a worker of a job keeps the others
/// waiting: each minute without it is a minute at a fraction of the capacity, or at none.
const NODE_LOST_SECONDS: i64 = 30;
/// The taints that Kubernetes gives such a node.
const NODE_LOST: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Requirements that a node meets all of.
type Term = Vec<NodeSelectorRequirement>;

/// What says where pods may run.
pub(super) struct Placing<'a> {
    pub(super) placement: &'a Placement,
    pub(super) gpu: Option<&'a Gpu>,
    pub(super) profile: Profile,
    /// Labels of the pods that are to be kept apart, or together.
    pub(super) pods: Texts,
    /// A label that differs between pods of one template and of the next, where Kubernetes itself
    /// sets one.
    pub(super) template_label: Option<&'static str>,
}

/// Adds all of it to a pod.
pub(super) fn place(placing: &Placing<'_>, pod: &mut PodSpec) {
    let Placing { placement, gpu, profile, .. } = *placing;
    let facts = profile.facts();

    let mut node_selector = placement.node_selector.clone();
    let mut tolerations = placement.tolerations.clone();
    if let Some(gpu) = gpu {
        tolerations.extend(facts.gpu_tolerations.iter().cloned());
        if let Some(device) = &gpu.device {
            tolerations.extend(device.tolerations.iter().cloned());
            for (key, value) in &device.node_selector {
                // What the manifest says of a node wins over what the pool does.
                node_selector.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    if placement.spot != Spot::Never {
        tolerations.extend(facts.spot_tolerations.iter().cloned());
    }
    let mut seen = Vec::new();
    tolerations.retain(|it| {
        !seen.contains(it) && {
            seen.push(it.clone());
            true
        }
    });

    pod.node_selector = (!node_selector.is_empty()).then_some(node_selector);
    let mut tolerations: Vec<_> = tolerations.iter().map(toleration).collect();
    let lost = NODE_LOST.into_iter().filter(|taint| !tolerations.iter().any(|t| covers(t, taint)));
    let lost: Vec<_> = lost.map(node_lost).collect();
    tolerations.extend(lost);
    pod.tolerations = Some(tolerations);
    pod.affinity = affinity(placing);
    pod.topology_spread_constraints = spread(placing);
}

fn affinity(placing: &Placing<'_>) -> Option<Affinity> {
    let facts = placing.profile.facts();
    let is_spot = || -> Vec<Term> {
        let labels = facts.spot_labels.iter();
        labels.map(|label| vec![requirement(&label.key, "In", &label.value)]).collect()
    };
    // Each alternative of one thing with each of the next: terms are alternatives of a node.
    let mut terms: Vec<Term> = vec![Vec::new()];
    let mut need = |alternatives: Vec<Term>| {
        terms = terms
            .iter()
            .flat_map(|term| alternatives.iter().map(|more| [term.as_slice(), more].concat()))
            .collect();
    };
    if let Some(product) = placing.gpu.and_then(|gpu| gpu.product.as_deref()) {
        let labels = facts.product_labels.iter();
        let known = labels.filter_map(|label| {
            let value = match &label.alias {
                None => product,
                Some(alias) => PRODUCTS.get(product)?.aliases.get(alias)?,
            };
            Some(vec![requirement(&label.key, "In", value)])
        });
        need(known.collect());
    }
    let mut preferred = None;
    match placing.placement.spot {
        // A node without the label passes too.
        Spot::Never => need(vec![
            facts.spot_labels.iter().map(|it| requirement(&it.key, "NotIn", &it.value)).collect(),
        ]),
        Spot::Only => need(is_spot()),
        Spot::Prefer => {
            let terms = is_spot().into_iter();
            preferred = Some(
                terms
                    .map(|term| PreferredSchedulingTerm {
                        weight: 100,
                        preference: node_term(term),
                    })
                    .collect(),
            );
        }
    }
    terms.retain(|term| !term.is_empty());
    let required = (!terms.is_empty())
        .then(|| NodeSelector { node_selector_terms: terms.into_iter().map(node_term).collect() });
    let nodes = (required.is_some() || preferred.is_some()).then_some(NodeAffinity {
        required_during_scheduling_ignored_during_execution: required,
        preferred_during_scheduling_ignored_during_execution: preferred,
    });
    let pods = together(placing);
    if nodes.is_none() && pods.is_none() {
        return None;
    }
    Some(Affinity { node_affinity: nodes, pod_affinity: pods, ..Affinity::default() })
}

/// Keeps the pods on nodes near to one another. The scheduler lets the first of them go where it
/// likes, though none is there that it would have to be near to.
fn together(placing: &Placing<'_>) -> Option<PodAffinity> {
    let topology = &placing.placement.topology;
    let near = |key: &String| PodAffinityTerm {
        label_selector: Some(selector(placing.pods.clone())),
        topology_key: key.clone(),
        ..PodAffinityTerm::default()
    };
    let required = topology.required.as_ref().map(|key| vec![near(key)]);
    let preferred = topology.preferred.as_ref();
    let preferred = preferred
        .map(|key| vec![WeightedPodAffinityTerm { weight: 100, pod_affinity_term: near(key) }]);
    (required.is_some() || preferred.is_some()).then_some(PodAffinity {
        required_during_scheduling_ignored_during_execution: required,
        preferred_during_scheduling_ignored_during_execution: preferred,
    })
}

fn requirement(key: &str, operator: &str, value: &str) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(vec![value.to_owned()]),
    }
}

fn node_term(term: Term) -> NodeSelectorTerm {
    NodeSelectorTerm { match_expressions: Some(term), match_fields: None }
}

fn toleration(toleration: &Toleration) -> PodToleration {
    PodToleration {
        key: toleration.key.clone(),
        operator: Some(
            match (toleration.operator, &toleration.key) {
                // Without a key there is nothing to equal.
                (Some(TolerationOperator::Exists), _) | (None, None) => "Exists",
                (Some(TolerationOperator::Equal) | None, _) => "Equal",
            }
            .to_owned(),
        ),
        value: toleration.value.clone(),
        effect: toleration.effect.map(|effect| {
            match effect {
                TaintEffect::NoSchedule => "NoSchedule",
                TaintEffect::PreferNoSchedule => "PreferNoSchedule",
                TaintEffect::NoExecute => "NoExecute",
            }
            .to_owned()
        }),
        toleration_seconds: toleration.toleration_seconds,
    }
}

/// Whether the manifest says already what is to be done on nodes with a taint that evicts, as the
/// API server judges it too before it adds its own default.
fn covers(toleration: &PodToleration, taint: &str) -> bool {
    toleration.key.as_deref().is_none_or(|key| key == taint)
        && toleration.effect.as_deref().is_none_or(|effect| effect == "NoExecute")
}

fn node_lost(taint: &str) -> PodToleration {
    PodToleration {
        key: Some(taint.to_owned()),
        operator: Some("Exists".to_owned()),
        value: None,
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(NODE_LOST_SECONDS),
    }
}

/// Keeps pods of one revision apart where that can be had: a pod that waits serves nobody.
fn spread(placing: &Placing<'_>) -> Option<Vec<TopologySpreadConstraint>> {
    const NODE: &str = "kubernetes.io/hostname";
    const ZONE: &str = "topology.kubernetes.io/zone";
    let over: &[&str] = match placing.placement.spread {
        Spread::Nodes => &[NODE],
        Spread::Zones => &[ZONE, NODE],
        Spread::None => return None,
    };
    let constraint = |key: &&str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: (*key).to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(selector(placing.pods.clone())),
        // Pods of the revision before do not count; they go.
        match_label_keys: placing.template_label.map(|label| vec![label.to_owned()]),
        ..TopologySpreadConstraint::default()
    };
    Some(over.iter().map(constraint).collect())
}
