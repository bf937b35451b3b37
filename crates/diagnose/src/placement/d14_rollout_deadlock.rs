use serde_json::{Value, json};

use crate::diagnosis::diagnosis;
use crate::patch;
use crate::pending::Class;
use crate::report::Report;
use crate::view::{Object, View};

diagnosis! {
    /// A rolling update waits for a GPU that its own old pods hold
    ///
    /// ## Signature
    /// A Deployment that asks for GPUs has an unschedulable pod of its newest ReplicaSet, while pods of
    /// an older one run, and it may not take an old pod away before the new one is ready.
    ///
    /// ## Cause
    /// With three replicas or fewer, the default of 25% rounds to one pod more and none fewer. Without a
    /// spare GPU the new pod never starts, and the old one never ends.
    ///
    /// ## How to mend it
    /// Allow one pod fewer during an update (`maxUnavailable: 1`, `maxSurge: 0`), or use `Recreate`.
    D14, Error,
    needs: [Pods, Nodes],
    rules: ["SRV05"],
    source: "kubernetes/website, deployments: max surge and max unavailable; LLMKube#192, airunway#400",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        let pod = &pending.pod;
        if pod.gpus().is_empty() || pending.needs(Class::TooLarge) {
            continue;
        }
        let Some(set) = view.owner(pod.object).filter(|it| it.kind() == "ReplicaSet") else {
            continue;
        };
        let Some(deployment) = view.owner(set).filter(|it| it.kind() == "Deployment") else {
            continue;
        };
        let room = pending.needs(Class::Short);
        if !room || unavailable(deployment) > 0 {
            continue;
        }
        let revision = |set: Object<'_>| {
            set.annotation("deployment.kubernetes.io/revision")
                .and_then(|it| it.parse::<i64>().ok())
        };
        let older = view.pods().iter().find(|other| {
            let own = view.owner(other.object);
            other.phase() == "Running"
                && !other.gpus().is_empty()
                && own.is_some_and(|own| {
                    view.owner(own).is_some_and(|it| it.reference() == deployment.reference())
                        && own.name() != set.name()
                        && revision(own) < revision(set)
                })
        });
        let Some(older) = older else { continue };
        let finding = report.at(
            deployment.reference(),
            "its update cannot go on: the new pod finds no free GPU, and the old pod keeps its own until the new one is ready",
        );
        finding.also([pod.object.reference()]);
        finding.unscheduled(pod.object);
        finding.field(older.object, "/spec/nodeName");
        finding.field(deployment, "/spec/replicas");
        finding.field(deployment, "/spec/strategy");
        finding.because(
            "of the defaults 25% and 25%, so few replicas round to maxSurge 1 and maxUnavailable 0",
        );
        let owner = view.top(deployment);
        if owner.kind() == "ModelService" {
            finding.advise(format!("{} needs one free GPU for an update", owner.reference()));
        } else {
            let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
            finding.mend(patch::object(
                deployment,
                "strategic",
                json!({"spec": {"strategy": strategy}}),
            ));
        }
    }
}

/// Pods that may be missing during an update, as Kubernetes rounds it: down.
fn unavailable(deployment: Object<'_>) -> i64 {
    let replicas = deployment.number("/spec/replicas").unwrap_or(1);
    if deployment.text("/spec/strategy/type") == "Recreate" {
        return replicas;
    }
    match deployment.at("/spec/strategy/rollingUpdate/maxUnavailable") {
        Some(Value::Number(number)) => number.as_i64().unwrap_or(0),
        Some(Value::String(text)) => percent(text, replicas),
        _ => percent("25%", replicas),
    }
}

fn percent(text: &str, of: i64) -> i64 {
    match text.strip_suffix('%') {
        Some(number) => number.parse::<i64>().unwrap_or(0).saturating_mul(of) / 100,
        None => text.parse().unwrap_or(0),
    }
}
