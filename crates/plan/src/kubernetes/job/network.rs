//! The NetworkPolicy of a job's workers.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicySpec,
};

use super::workers::cloud;
use super::{Context, METRICS};
use crate::kubernetes::Object;
use crate::kubernetes::labels::selector;
use crate::kubernetes::network::{block, dns, pods, port};

/// Where every cloud's metadata service is.
const METADATA: &str = "169.254.169.254/32";

/// Lets workers reach each other by any port, since frameworks choose theirs; lets in who reads
/// metrics; and out to name servers and stores. Stores of data sets and checkpoints have names,
/// which a policy cannot have, so their ports are open to all.
pub(super) fn policy(ctx: &Context<'_>) -> Object {
    let workers = || NetworkPolicyPeer {
        pod_selector: Some(selector(ctx.selector())),
        ..NetworkPolicyPeer::default()
    };
    let mut ingress = vec![NetworkPolicyIngressRule { from: Some(vec![workers()]), ports: None }];
    if let Some(from) = &ctx.settings.monitoring {
        ingress.push(NetworkPolicyIngressRule {
            from: Some(vec![pods(from)]),
            ports: Some(vec![port("TCP", METRICS)]),
        });
    }
    let mut stores: Vec<u16> =
        std::iter::once(443).chain(ctx.settings.store_ports.iter().copied()).collect();
    stores.sort_unstable();
    stores.dedup();
    let mut egress = vec![
        NetworkPolicyEgressRule { to: Some(vec![workers()]), ports: None },
        dns(),
        NetworkPolicyEgressRule {
            to: None,
            ports: Some(stores.into_iter().map(|number| port("TCP", number)).collect()),
        },
    ];
    let mut endpoints: Vec<(&str, u16)> = Vec::new();
    // Notices that the cloud takes the machine.
    endpoints.extend(cloud(ctx).map(|_| (METADATA, 80)));
    // Without a secret, the cloud's own identity may be what gives access to its stores.
    let checkpoint = ctx.plan.checkpoint.as_ref();
    if checkpoint.is_none_or(|it| it.credentials_secret.is_none())
        || ctx.plan.data.iter().any(|set| set.credentials_secret.is_none())
    {
        let facts = ctx.settings.profile.facts();
        endpoints.extend(facts.identity_endpoints.iter().map(|it| (it.cidr.as_str(), it.port)));
    }
    endpoints.sort_unstable();
    endpoints.dedup();
    egress.extend(endpoints.into_iter().map(|(cidr, number)| NetworkPolicyEgressRule {
        to: Some(vec![block(cidr)]),
        ports: Some(vec![port("TCP", number)]),
    }));
    Object::new(&NetworkPolicy {
        metadata: ctx.metadata(ctx.shared_name(), ctx.labels()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(ctx.selector())),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    })
}
