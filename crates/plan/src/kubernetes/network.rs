//! The NetworkPolicy.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use trainyard_api::scalar::ModelUri;

use super::labels::{WORKSPACE, selector, texts};
use super::settings::Peer;
use super::{Context, Object, ObjectsError};
use crate::workload::VolumeSource;

/// The label that Kubernetes gives each namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// NodeLocal DNSCache listens there, on the node itself.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// Lets in who has business here, and out to name servers and the model's store only.
///
/// A node's own probes are always let in; that is Kubernetes' rule, not ours.
pub(super) fn network_policy(ctx: &Context<'_>) -> Result<Object, ObjectsError> {
    let mut ingress = vec![requests(ctx)?];
    ingress.extend(monitoring(ctx)?);
    let mut egress = vec![dns()];
    egress.extend(store(ctx));
    Ok(Object::new(&NetworkPolicy {
        metadata: ctx.metadata(ctx.plan.name.clone(), ctx.labels()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(ctx.service_selector()),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    }))
}

/// Requests: from the gateway; where there is none, from the namespace itself and from the
/// workspaces that the manifest names.
fn requests(ctx: &Context<'_>) -> Result<NetworkPolicyIngressRule, ObjectsError> {
    let from = match &ctx.settings.gateway {
        Some(gateway) => vec![pods(gateway)],
        None => {
            let mut from = vec![NetworkPolicyPeer {
                pod_selector: Some(LabelSelector::default()),
                ..NetworkPolicyPeer::default()
            }];
            let workspaces = &ctx.plan.access.from_workspaces;
            if !workspaces.is_empty() {
                from.push(NetworkPolicyPeer {
                    namespace_selector: Some(LabelSelector {
                        match_labels: None,
                        match_expressions: Some(vec![LabelSelectorRequirement {
                            key: WORKSPACE.to_owned(),
                            operator: "In".to_owned(),
                            values: Some(workspaces.clone()),
                        }]),
                    }),
                    ..NetworkPolicyPeer::default()
                });
            }
            // The proxies of a Gateway run in its namespace, or are named by a policy of one's own.
            from.extend(ctx.settings.route.as_ref().map(|parent| {
                let labels = std::collections::BTreeMap::new();
                pods(&Peer { namespace: parent.namespace.clone(), labels })
            }));
            from
        }
    };
    let mut ports = vec![ctx.port("`service.port`", &ctx.plan.service.port)?];
    if let Some(grpc) = &ctx.plan.workload.grpc {
        ports.push(ctx.port("`grpc`", grpc)?);
    }
    ports.dedup();
    let ports = ports.into_iter().map(|number| port("TCP", number)).collect();
    Ok(NetworkPolicyIngressRule { from: Some(from), ports: Some(ports) })
}

fn monitoring(ctx: &Context<'_>) -> Result<Option<NetworkPolicyIngressRule>, ObjectsError> {
    let (Some(from), Some(metrics)) = (&ctx.settings.monitoring, &ctx.plan.workload.metrics) else {
        return Ok(None);
    };
    let number = ctx.port("`metrics`", &metrics.port)?;
    Ok(Some(NetworkPolicyIngressRule {
        from: Some(vec![pods(from)]),
        ports: Some(vec![port("TCP", number)]),
    }))
}

pub(super) fn dns() -> NetworkPolicyEgressRule {
    let cluster = NetworkPolicyPeer {
        namespace_selector: Some(selector(texts([(NAMESPACE_NAME, "kube-system")]))),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicyEgressRule {
        to: Some(vec![cluster, block(NODE_LOCAL_DNS)]),
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
    }
}

/// The store that the model is fetched from: its address is a name, which a policy cannot have, so
/// its ports are open to all. Without a secret, the cloud's own identity may be what gives access.
fn store(ctx: &Context<'_>) -> Vec<NetworkPolicyEgressRule> {
    let model = ctx.plan.workload.volumes.iter().find_map(|volume| match &volume.source {
        VolumeSource::Model { uri, credentials_secret, .. } => Some((uri, credentials_secret)),
        _ => None,
    });
    let Some((uri, secret)) = model else { return Vec::new() };
    let mut ports = match uri {
        ModelUri::Https(url) => vec![https_port(url)],
        _ => std::iter::once(443).chain(ctx.settings.store_ports.iter().copied()).collect(),
    };
    ports.sort_unstable();
    ports.dedup();
    let ports = ports.into_iter().map(|number| port("TCP", number)).collect();
    let mut rules = vec![NetworkPolicyEgressRule { to: None, ports: Some(ports) }];
    let is_cloud = matches!(uri, ModelUri::S3 { .. } | ModelUri::Gs { .. } | ModelUri::Az { .. });
    if is_cloud && secret.is_none() {
        rules.extend(ctx.settings.profile.facts().identity_endpoints.iter().map(|endpoint| {
            NetworkPolicyEgressRule {
                to: Some(vec![block(&endpoint.cidr)]),
                ports: Some(vec![port("TCP", endpoint.port)]),
            }
        }));
    }
    rules
}

/// The port of an https address.
fn https_port(url: &str) -> u16 {
    let rest = url.strip_prefix("https://").unwrap_or(url);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // An IPv6 address has colons inside of its brackets.
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    let port = after_host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or(443)
}

pub(super) fn pods(peer: &Peer) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(selector(texts([(NAMESPACE_NAME, &peer.namespace)]))),
        pod_selector: (!peer.labels.is_empty()).then(|| selector(peer.labels.clone())),
        ..NetworkPolicyPeer::default()
    }
}

pub(super) fn block(cidr: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.to_owned(), except: None }),
        ..NetworkPolicyPeer::default()
    }
}

pub(super) fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number.into())),
        end_port: None,
    }
}

#[test]
fn ports_of_addresses() {
    for (url, expected) in [
        ("https://example.com/m.onnx", 443),
        ("https://example.com:8443/m.onnx", 8443),
        ("https://example.com/a:7/m.onnx", 443),
        ("https://[fd00::1]/m.onnx", 443),
        ("https://[fd00::1]:9443/m.onnx", 9443),
        ("https://example.com:99999/m.onnx", 443),
    ] {
        assert_eq!(https_port(url), expected, "{url}");
    }
}
