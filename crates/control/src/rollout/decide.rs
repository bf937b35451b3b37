//! The decision.

use std::collections::BTreeMap;

use super::decision::{Allotment, Decision, Phase, Reason};
use super::observed::Observed;
use super::state::State;

pub(super) fn decide(state: &mut State, observed: &Observed<'_>) -> Decision {
    let target = observed.revisions.get(observed.target).copied().unwrap_or_default();
    let is_ready = target.replicas.ready >= observed.wanted;
    let mut revisions: BTreeMap<_, _> = observed
        .revisions
        .iter()
        .map(|(name, revision)| {
            let replicas = if is_ready { 0 } else { revision.replicas.ready };
            (name.clone(), Allotment { replicas, weight: 0 })
        })
        .collect();
    let weight = if target.replicas.ready > 0 { 100 } else { 0 };
    revisions.insert(observed.target.clone(), Allotment { replicas: observed.wanted, weight });
    state.remember(observed.wanted);
    if is_ready {
        state.complete(observed.target);
    }
    Decision {
        revisions,
        mirror: None,
        phase: if is_ready { Phase::Stable } else { Phase::Progressing },
        reason: if is_ready { Reason::Steady } else { Reason::NewRevision },
        look_again_at: None,
    }
}
