//! A service as the gateway's table has it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
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
        revisions,
        limits: Limits {
            rate: plan
                .access
                .rate_limit
                .map(|limit| Rate { per_second: f64::from(limit.per_second), burst: limit.burst }),
            ..Limits::default()
        },
        access: Access { api_keys: keys.to_vec() },
        mirror: decision.mirror.as_ref().map(|mirror| Mirror {
            revision: mirror.to.to_string(),
            share: mirror.share.fraction(),
        }),
        sticky_header: None,
        scales_to_zero: plan.scaling.min == 0,
    }
}

/// The keys of a secret whose entries are callers, as digests.
pub(crate) fn digests(entries: &Entries) -> Vec<ApiKey> {
    entries
        .iter()
        .map(|(name, key)| ApiKey {
            name: name.clone(),
            sha256: Sha256::digest(key.expose().as_bytes()).into(),
        })
        .collect()
}
