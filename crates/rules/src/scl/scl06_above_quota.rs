use super::subject::{self, KINDS};
use crate::context::Context;
use crate::model::{Manager, Object};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// The maximum of replicas needs more GPUs than there may be
    ///
    /// ## What it does
    /// Multiplies an autoscaler's maximum by the accelerators of one replica, and compares with a
    /// ResourceQuota of the same namespace and with the limits of the Karpenter NodePool that the
    /// pods choose.
    ///
    /// ## Why it matters
    /// Replicas above the quota are refused or stay Pending. The autoscaler believes that it scaled,
    /// and users wait in the queue at the very time for which the maximum was meant.
    ///
    /// ## How to fix it
    /// Raise the quota, or lower the maximum to what fits.
    SCL06, Error,
    evidence: "kubernetes/website docs/concepts/policy/resource-quotas: extended resources; karpenter.sh, NodePools: spec.limits",
    check: Check::Objects(&KINDS, check),
    examples: [
        Example::bad("eight replicas, four GPUs", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.12.0
          args: [--model, meta-llama/Llama-3.1-8B-Instruct]
          resources:
            requests: {cpu: 4, memory: 32Gi}
            limits: {nvidia.com/gpu: 1}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: server}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: server}
  maxReplicas: 8
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: gpus}
spec:
  hard:
    requests.nvidia.com/gpu: 4
", &[22]),
        Example::good("it fits", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.12.0
          args: [--model, meta-llama/Llama-3.1-8B-Instruct]
          resources:
            requests: {cpu: 4, memory: 32Gi}
            limits: {nvidia.com/gpu: 1}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: server}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: server}
  maxReplicas: 4
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: gpus}
spec:
  hard:
    requests.nvidia.com/gpu: 4
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(subject) = subject::read(context, object) else { return };
    let (Some(target), Some(most)) = (subject.target, subject.autoscaler.max) else { return };
    // Groups of pods count by what is in one group, which their replicas are multiples of.
    let groups = target.spec().get("replicas").int().unwrap_or(1).max(1);
    let mut asked: Vec<(&str, i64)> = Vec::new();
    for pod in &subject.pods {
        let per_group = match pod.manager {
            Manager::LeaderWorkerSet => match pod.replicas {
                Some(replicas) => replicas / groups,
                None => return,
            },
            Manager::Deployment | Manager::StatefulSet | Manager::ReplicaSet => 1,
            _ => return,
        };
        for (_, device) in pod.devices() {
            let Some(count) = device.count else { return };
            asked.push((device.name, count.saturating_mul(per_group)));
        }
    }
    for (name, per_replica) in asked {
        let all = per_replica.saturating_mul(most);
        let Some((limit, whose)) = limit(context, object, target, name, &subject.pods) else {
            continue;
        };
        if all <= limit {
            continue;
        }
        let spec = object.spec();
        let key = if subject.is_keda() { "maxReplicaCount" } else { "maxReplicas" };
        report
            .at(
                spec.get(key),
                format!("{most} replicas need {all} `{name}`, and {whose} allows {limit}"),
            )
            .fix(format!("raise that limit, or set `{key}` to {}", limit / per_replica.max(1)));
    }
}

/// The tightest limit on a resource, and what sets it.
fn limit(
    context: &Context<'_>,
    scaler: &Object<'_>,
    target: &Object<'_>,
    resource: &str,
    pods: &[&crate::model::Pod<'_>],
) -> Option<(i64, String)> {
    let bundle = context.bundle;
    let key = format!("requests.{resource}");
    let quotas = bundle.in_namespace("ResourceQuota", target.namespace, target.root);
    let quotas = quotas.filter(|quota| {
        let distance = bundle.distance(quota.root, target.root);
        let same = !quota.namespace.is_empty() && quota.namespace == target.namespace;
        // Quotas of some priorities or kinds of pods hold for those alone.
        let scoped =
            quota.spec().get("scopes").is_set() || quota.spec().get("scopeSelector").is_set();
        !scoped
            && (same && distance <= 1 || distance == 0 && quota.may_share_namespace(target))
            && quota.may_share_namespace(scaler)
    });
    let of = |node: Node<'_>| node.quantity().map(|amount| amount.units());
    let quota = quotas
        .filter_map(|quota| {
            let hard = of(quota.spec().get("hard").get(&key))?;
            Some((hard, format!("ResourceQuota `{}`", quota.name)))
        })
        .min_by_key(|(hard, _)| *hard);
    let pool = pods
        .iter()
        .flat_map(|pod| pod.node_requirements())
        .find(|label| label.key == "karpenter.sh/nodepool" && label.values.len() == 1)
        .and_then(|label| {
            let pool = bundle.find("NodePool", "", label.values.first()?, target.root)?;
            let hard = of(pool.spec().get("limits").get(resource))?;
            Some((hard, format!("NodePool `{}`", pool.name)))
        });
    [quota, pool].into_iter().flatten().min_by_key(|(hard, _)| *hard)
}
