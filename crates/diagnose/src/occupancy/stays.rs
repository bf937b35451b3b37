//! Why a pod that runs cannot be moved.

use serde_json::Value;

use super::Moving;
use crate::answer::ObjectRef;
use crate::placement::gang::gang_of;
use crate::schedule::selects;
use crate::view::{Object, Pod, View, list, number, text};

/// The cluster's PodDisruptionBudgets.
pub(super) struct Budgets<'a> {
    all: Vec<Object<'a>>,
}

impl<'a> Budgets<'a> {
    pub(super) fn of(view: &View<'a>) -> Self {
        let mut all = view.of_kind("PodDisruptionBudget").to_vec();
        all.sort_by_key(|budget| (budget.namespace(), budget.name()));
        Self { all }
    }

    /// How many pods each lets go now. One whose status is not written yet lets none go, as for the
    /// API server.
    pub(super) fn allowed(&self) -> Vec<u32> {
        let allowed = |budget: &Object<'a>| budget.number("/status/disruptionsAllowed");
        let allowed = self.all.iter().map(|it| allowed(it).and_then(|it| u32::try_from(it).ok()));
        allowed.map(|it| it.unwrap_or(0)).collect()
    }

    fn of_pod(&self, pod: &Pod<'a>) -> Vec<usize> {
        let means = |budget: &Object<'a>| {
            budget.namespace() == pod.object.namespace()
                && selects(budget.at("/spec/selector"), |key| pod.object.label(key))
        };
        (0..self.all.len()).filter(|at| self.all.get(*at).is_some_and(means)).collect()
    }

    fn name(&self, at: usize) -> ObjectRef {
        self.all.get(at).map(|budget| budget.reference()).unwrap_or_default()
    }
}

/// Annotations by which people forbid it, with the value that does.
const FORBIDDEN: [(&str, &str); 3] = [
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ("karpenter.sh/do-not-disrupt", "true"),
    ("karpenter.sh/do-not-evict", "true"),
];

/// The budgets that a pod is of, and why it has to stay, whatever room there is elsewhere.
pub(super) fn stays<'a>(
    view: &View<'a>,
    pod: &Pod<'a>,
    moving: Moving,
    budgets: &Budgets<'a>,
) -> (Vec<usize>, Option<String>) {
    let own = budgets.of_pod(pod);
    let why =
        by_owner(view, pod, moving).or_else(|| by_spec(pod)).or_else(|| match own.as_slice() {
            [] => None,
            [only] if budgets.allowed().get(*only).is_some_and(|left| *left > 0) => None,
            [only] => Some(format!("{} lets no pod go now", budgets.name(*only))),
            _ => Some(
                "several PodDisruptionBudgets select it, and then nothing evicts it".to_owned(),
            ),
        });
    (own, why)
}

fn by_owner<'a>(view: &View<'a>, pod: &Pod<'a>, moving: Moving) -> Option<String> {
    if pod.object.is_ending() {
        return Some("it is ending".to_owned());
    }
    let Some(owner) = pod.object.controller() else {
        return Some("it has no controller, so that nothing would make it anew".to_owned());
    };
    match owner.kind.as_str() {
        "DaemonSet" => return Some(format!("{owner} has one on each node")),
        "Node" => return Some("it is a static pod of its node".to_owned()),
        _ => {}
    }
    if let Some(gang) = gang_of(view, pod) {
        return Some(format!("{gang} would start anew as a whole"));
    }
    if owner.kind == "Job" && moving == Moving::Services {
        return Some(format!(
            "{owner} would lose what it did since its last checkpoint (`--jobs`)"
        ));
    }
    let forbids = |(key, value): &&(&str, &str)| pod.object.annotation(key) == Some(*value);
    let (key, value) = FORBIDDEN.iter().find(forbids)?;
    Some(format!("its annotation `{key}` is `{value}`"))
}

/// What ties it to its node, or to the places of other pods.
fn by_spec(pod: &Pod<'_>) -> Option<String> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    if !pod.object.list("/spec/resourceClaims").is_empty() {
        return Some("it claims devices, and claims are not counted".to_owned());
    }
    let volumes = pod.object.list("/spec/volumes");
    if let Some(volume) = volumes.iter().find(|volume| volume.get("hostPath").is_some()) {
        return Some(format!("its volume `{}` is a folder of its node", text(volume, "/name")));
    }
    let rule =
        |kind: &str| !pod.object.list(&format!("/spec/affinity/{kind}/{REQUIRED}")).is_empty();
    if rule("podAffinity") || rule("podAntiAffinity") {
        return Some("its place depends on those of other pods by required affinity".to_owned());
    }
    let spread = pod.object.list("/spec/topologySpreadConstraints");
    if spread.iter().any(|it| text(it, "/whenUnsatisfiable") != "ScheduleAnyway") {
        return Some("its place depends on those of other pods by required spreading".to_owned());
    }
    let on_host = pod.object.at("/spec/hostNetwork") == Some(&Value::Bool(true));
    let ports = pod.object.list("/spec/containers").iter().flat_map(|it| list(it, "/ports"));
    let has_port = |port: &Value| on_host || number(port, "/hostPort").is_some_and(|it| it > 0);
    ports.into_iter().any(has_port).then(|| "it has a port of its node".to_owned())
}
