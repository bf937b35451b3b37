use serde_json::Value;

use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any, of_failed};
use crate::report::Report;
use crate::view::{Object, Pod, View, list, text};

diagnosis! {
    /// The model cannot be fetched from its hub or store
    ///
    /// ## Signature
    /// A container failed, and its log has an HTTP status 401, 403 or 429 of a model hub or store, or a
    /// name that cannot be resolved, or a connection to it that times out.
    ///
    /// ## Cause
    /// A token that is missing, wrong, or without access to a gated model; a limit of requests; a
    /// NetworkPolicy that closes DNS or the way out; a proxy that is not set.
    ///
    /// ## How to mend it
    /// By the cause. The NetworkPolicies that choose the pod are named.
    D32, Error,
    needs: [Pods, Logs, Resource("networkpolicies.networking.k8s.io")],
    rules: ["SRV13", "NET01", "NET02", "SRV12"],
    source: "huggingface/huggingface_hub: its errors; judgement",
    check: check,
}

const HUBS: [&str; 9] = [
    "huggingface",
    "hf.co",
    "modelscope",
    "hub",
    "s3",
    "amazonaws",
    "storage.googleapis",
    "blob.core",
    "http",
];

fn is_refusal(line: &str) -> bool {
    let names_hub = has_any(line, &HUBS);
    has_any(line, &["gatedrepoerror", "repositorynotfounderror", "cannot access gated repo"])
        || names_hub
            && has_any(
                line,
                &[
                    "401 client error",
                    "403 client error",
                    "429 client error",
                    "401 unauthorized",
                    "403 forbidden",
                    "429 too many",
                ],
            )
        || is_unresolved(line)
        || names_hub && is_unreachable(line)
}

fn is_unresolved(line: &str) -> bool {
    has_any(
        line,
        &[
            "temporary failure in name resolution",
            "name or service not known",
            "failed to resolve",
            "could not resolve host",
            "nameresolutionerror",
            "no such host",
            "dns error",
        ],
    ) || has_all(line, &["lookup ", "i/o timeout"])
}

fn is_unreachable(line: &str) -> bool {
    has_any(
        line,
        &[
            "connecttimeout",
            "connection timed out",
            "operation timed out",
            "connect timeout",
            "connection refused",
            "max retries exceeded",
            "network is unreachable",
        ],
    )
}

fn check(view: &View<'_>, report: &mut Report) {
    for hit in of_failed(view, is_refusal) {
        let line = hit.line;
        let says = |parts: &[&str]| has_any(line, parts);
        let is_network =
            is_unresolved(line) || is_unreachable(line) && !says(&["401", "403", "429"]);
        let policies = if is_network { closing(view, &hit.pod) } else { Vec::new() };
        let no_dns = !policies.is_empty() && !policies.iter().any(|it| allows_dns(*it));
        let (why, fix) = if no_dns {
            (
                "NetworkPolicies close its way to DNS",
                "allow egress to the cluster's DNS (UDP and TCP port 53), and to the hub",
            )
        } else if is_unresolved(line) {
            (
                "a name cannot be resolved",
                "let the pod reach the cluster's DNS (UDP and TCP port 53)",
            )
        } else if says(&["429"]) {
            (
                "the hub limits requests",
                "send a token, and keep the model in a cache volume or an object store of your own",
            )
        } else if says(&["gated", "403"]) {
            (
                "the token may not read the model",
                "accept the model's licence with the token's account, or use a token that may read it",
            )
        } else if says(&["401", "repositorynotfound", "unauthorized"]) {
            (
                "there is no token, or it is not valid",
                "give the container the token from a Secret (`HF_TOKEN`), and check the model's name",
            )
        } else {
            (
                "the hub does not answer",
                "let the pod reach the hub: egress policy, proxy (`HTTPS_PROXY`), firewall",
            )
        };
        let finding = report.at(
            hit.pod.object.reference(),
            format!("container `{}` cannot fetch its model: {why}", hit.container.name()),
        );
        finding.ended(&hit.pod, &hit.container).hit(&hit);
        if is_network {
            for policy in policies {
                finding.field(policy, "/spec/egress");
                finding.field(policy, "/spec/policyTypes");
                let policy = policy.reference();
                finding.because(format!(
                    "{policy} chooses the pod and limits where it may connect to"
                ));
                finding.run(format!(
                    "kubectl -n {} get networkpolicy {} -o yaml",
                    policy.namespace, policy.name
                ));
            }
        } else {
            let token = list(hit.container.spec, "/env")
                .iter()
                .find(|it| matches!(text(it, "/name"), "HF_TOKEN" | "HUGGING_FACE_HUB_TOKEN"));
            match token {
                Some(token) => finding.value(
                    hit.pod.object,
                    &format!("spec.containers[{}].env", hit.container.name()),
                    token.get("valueFrom").cloned().unwrap_or_else(|| text(token, "/name").into()),
                ),
                None => finding.because("the container has no `HF_TOKEN`"),
            };
        }
        finding.advise(fix);
    }
}

/// NetworkPolicies that choose the pod and limit egress.
fn closing<'a>(view: &View<'a>, pod: &Pod<'a>) -> Vec<Object<'a>> {
    view.of_kind("NetworkPolicy")
        .iter()
        .filter(|policy| {
            policy.namespace() == pod.object.namespace()
                && policy.list("/spec/policyTypes").iter().any(|it| it == "Egress")
                && policy.at("/spec/podSelector").is_some_and(|selector| {
                    crate::schedule::selects(Some(selector), |key| pod.object.label(key))
                })
        })
        .copied()
        .collect()
}

/// Whether a policy lets DNS through: a rule without ports, or with port 53.
fn allows_dns(policy: Object<'_>) -> bool {
    policy.list("/spec/egress").iter().any(|rule| {
        let ports = list(rule, "/ports");
        ports.is_empty()
            || ports.iter().any(|port| {
                let from = port.get("port");
                let start = from.and_then(Value::as_i64);
                let end = port.get("endPort").and_then(Value::as_i64).or(start);
                from.is_none()
                    || from.and_then(Value::as_str).is_some_and(|name| name.contains("dns"))
                    || start.zip(end).is_some_and(|(start, end)| (start..=end).contains(&53))
            })
    })
}
