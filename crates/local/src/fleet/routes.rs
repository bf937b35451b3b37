//! A service as the gateway's table has it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use trainyard_control::rollout::Decision;
use trainyard_gateway::table::{Access, ApiKey, Endpoint, Limits, Mirror, Rate, Revision, Service};
use trainyard_plan::{Plan, RevisionName};

use crate::secret::Entries;

/// Ready endpoints of each revision: name and address.
pub(crate) type Endpoints = BTreeMap<RevisionName, Vec<(Arc<str>, SocketAddr)>>;

/// The entry of one service.
pub(crate) fn routes(
    plan: &Plan,
    keys: &[ApiKey],
    decision: &Decision,
    endpoints: Endpoints,
) -> Service {
    let revisions = endpoints
        .into_iter()
        .map(|(name, endpoints)| Revision {
            weight: decision.revisions.get(&name).map_or(0, |allotment| allotment.weight),
            name: name.to_string(),
            endpoints: endpoints
                .into_iter()
                .map(|(id, address)| Endpoint { id, address })
                .collect(),
        })
        .collect();
    Service {
        models: plan.service.models.clone(),
        hosts: Vec::new(),
        revisions,
        limits: Limits {
            rate: plan
                .access
                .rate_limit
                .map(|limit| Rate { per_second: f64::from(limit.per_second), burst: limit.burst }),
            concurrency_per_endpoint: plan.scaling.max_concurrency,
            ..Limits::default()
        },
        access: Access { api_keys: keys.to_vec() },
        mirror: decision.mirror.as_ref().map(|mirror| Mirror {
            revision: mirror.to.to_string(),
            share: mirror.share.fraction(),
        }),
        sticky_header: plan.rollout.sticky_header.clone(),
        scales_to_zero: plan.scaling.min == 0,
        unavailable: None,
    }
}

/// The keys of a secret whose entries are callers, as digests.
pub(crate) fn digests(entries: &Entries) -> Vec<ApiKey> {
    entries.iter().map(|(name, key)| ApiKey::of(name.clone(), key.expose().as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use trainyard_api::manifest;
    use trainyard_api::scalar::{Bytes, Millicores};
    use trainyard_control::rollout::{Phase, Reason};
    use trainyard_plan::{Facts, Target, compile};

    use super::*;

    #[test]
    fn the_manifests_limits_reach_the_gateway() {
        let text = "apiVersion: trainyard.dev/v1alpha1
kind: ModelService
metadata: {name: iris}
spec:
  model: {uri: file:///m}
  runtime: {name: custom, command: [serve]}
  scaling: {min: 0, maxConcurrency: 3}
  access: {rateLimit: {rps: 5}}
";
        let service = manifest::read("iris.yaml", text).unwrap().services.remove(0).value;
        let target = Target::Local { cpu: Millicores(4000), memory: Bytes(8 << 30), gpus: 0 };
        let model = Some(trainyard_plan::FetchedModel { path: "/m".into(), fingerprint: None });
        let plan = compile(&service, &Facts { target, model }).unwrap();
        let decision = Decision {
            revisions: BTreeMap::new(),
            mirror: None,
            phase: Phase::Stable,
            reason: Reason::Steady,
            look_again_at: None,
        };
        let service = routes(&plan, &[], &decision, Endpoints::new());
        assert_eq!(service.limits.concurrency_per_endpoint, Some(3));
        assert_eq!(service.limits.rate, Some(Rate { per_second: 5.0, burst: 5 }));
        assert!(service.scales_to_zero);
    }
}
