use serde_json::{Value, json};

use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::patch;
use crate::pending::{Class, Pending, amount, count, names};
use crate::report::Report;
use crate::view::{Pod, View, text};

diagnosis! {
    /// Nodes that could take the pod have a taint that it does not tolerate
    ///
    /// ## Signature
    /// The pod is unschedulable, and for the nodes that need the least change the change is a
    /// toleration (or, for nodes that are cordoned or not ready, the node itself).
    ///
    /// ## Cause
    /// GPU nodes are tainted so that other pods stay away; the pod lacks the toleration. A cordoned
    /// node and one that is not ready have taints too.
    ///
    /// ## How to mend it
    /// Add the toleration that is printed. Where the taint says that the node is not to be used,
    /// uncordon or mend the node instead.
    D03, Error,
    needs: [Pods, Nodes],
    rules: ["GPU08"],
    yields_to: ["D09", "D14"],
    source: "kubernetes/kubernetes, plugin TaintToleration; its message `untolerated taint`",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        let Some(way) = pending.cheapest() else { continue };
        let taints = [Class::GpuTaint, Class::OtherTaint, Class::Away];
        if !taints.iter().any(|it| way.obstacles.contains(it))
            || way.obstacles.contains(&Class::TooLarge)
            || pending.not_advertised().is_some()
        {
            continue;
        }
        tell(view, pending, report);
    }
}

fn tell<'a>(view: &View<'a>, pending: &Pending<'a>, report: &mut Report) {
    let Some(way) = pending.cheapest() else { return };
    let taints = pending.taints(way);
    let object = pending.pod.object;
    let listed: Vec<String> = taints.keys().map(|it| format!("`{it}`")).collect();
    let room = match pending.pod.gpus().first() {
        Some((resource, wanted)) if !way.obstacles.contains(&Class::Short) => {
            format!(" with {} of `{resource}` free", amount(resource, *wanted))
        }
        _ => " that could take the pod".to_owned(),
    };
    let nodes = way.nodes.len();
    let is_away = way.obstacles.contains(&Class::Away);
    let have = if nodes == 1 { "has" } else { "have" };
    let finding = report.at(
        object.reference(),
        format!(
            "{}{room} {have} the taint {}, which the pod does not tolerate",
            count(nodes, "node"),
            listed.join(" and "),
        ),
    );
    finding.unscheduled(object);
    for verdict in pending.nodes_of(way).take(3) {
        finding.field(verdict.node.object, "/spec/taints");
    }
    finding.field(object, "/spec/tolerations");
    if is_away {
        for (taint, (on, value)) in &taints {
            let first = on.first().copied().unwrap_or_default();
            match text(value, "/key") {
                "node.kubernetes.io/unschedulable" => {
                    finding.run(format!("kubectl uncordon {first}"))
                }
                key if key.starts_with("node.kubernetes.io/") => {
                    finding.run(format!("kubectl describe node {first}"))
                }
                _ => finding.advise(format!(
                    "{} with the taint `{taint}` are kept for others; add a node for the pod",
                    names(on.iter().copied())
                )),
            };
        }
    } else {
        if way.obstacles.contains(&Class::OtherTaint) {
            finding.sure(Confidence::Likely);
            finding.advise("if those nodes are meant for it:");
        }
        let patch = with_tolerations(view, &pending.pod, taints.values().map(|(_, taint)| *taint));
        let fix = patch::pod_spec(view, &pending.pod, patch);
        finding.mend(fix);
    }
    if way.obstacles.contains(&Class::Short)
        && let Some(lack) = pending.lack(way)
    {
        finding.advise(format!(
            "and then free {} of `{}` there",
            amount(&lack.resource, lack.wanted),
            lack.resource
        ));
    }
    if way.obstacles.contains(&Class::Placement) {
        finding.advise("and then correct the pod's node selector or affinity");
    }
    if let Some(other) = pending.otherwise() {
        finding.advise(other);
    }
}

/// The list is replaced as a whole, so it holds what is there.
fn with_tolerations<'a, 'v>(
    view: &View<'v>,
    pod: &Pod<'v>,
    taints: impl Iterator<Item = &'a Value>,
) -> Value {
    // Of a pod that is there, none may be taken away.
    let is_alone = view.top(pod.object).kind() == "Pod";
    // The API server puts these two into every pod by itself.
    let is_default = |it: &&Value| {
        let key = text(it, "/key");
        key == "node.kubernetes.io/not-ready" || key == "node.kubernetes.io/unreachable"
    };
    let mut all: Vec<Value> = pod
        .object
        .list("/spec/tolerations")
        .iter()
        .filter(|it| is_alone || !is_default(it))
        .cloned()
        .collect();
    for taint in taints {
        let (key, value) = (text(taint, "/key"), text(taint, "/value"));
        let effect = text(taint, "/effect");
        all.push(if value.is_empty() {
            json!({"key": key, "operator": "Exists", "effect": effect})
        } else {
            json!({"key": key, "operator": "Equal", "value": value, "effect": effect})
        });
    }
    json!({"tolerations": all})
}
