//! How many replicas and requests each revision gets: the arithmetic, without memory.

use std::collections::BTreeMap;

use trainyard_plan::{RevisionName, Strategy};

use super::decision::Allotment;
use super::observed::{Observed, Replicas};

impl Replicas {
    /// Replicas that hold a place: all but the draining ones.
    pub(super) fn live(&self) -> u32 {
        self.starting.saturating_add(self.ready).saturating_add(self.failed)
    }

    /// Replicas that hold a place and may not have requests.
    pub(super) fn unready(&self) -> u32 {
        self.starting.saturating_add(self.failed)
    }
}

/// How far a rollout may go above and below the wanted number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slack {
    pub(super) surge: u32,
    pub(super) unavailable: u32,
}

impl Slack {
    /// A strategy's. With neither, nothing could ever move: one above is then allowed.
    pub(super) fn of(strategy: &Strategy) -> Self {
        match *strategy {
            Strategy::Rolling { max_surge, max_unavailable } => {
                let surge = if max_unavailable == 0 { max_surge.max(1) } else { max_surge };
                Self { surge, unavailable: max_unavailable }
            }
            Strategy::Canary { .. } | Strategy::BlueGreen { .. } => {
                Self { surge: 1, unavailable: 0 }
            }
        }
    }
}

/// The revisions of a service, as seen from the one that is to have its replicas: `lead`.
pub(super) struct Room<'a> {
    observed: &'a Observed<'a>,
    pub(super) lead: &'a RevisionName,
    /// Served before `lead`, and grows again where replicas are missing.
    pub(super) stable: Option<&'a RevisionName>,
    /// Gets neither replicas nor requests.
    broken: Option<&'a RevisionName>,
}

/// Replicas of each revision. Draining ones are not counted.
pub(super) type Counted = BTreeMap<RevisionName, u32>;

impl<'a> Room<'a> {
    pub(super) fn new(
        observed: &'a Observed<'a>,
        lead: &'a RevisionName,
        stable: Option<&'a RevisionName>,
        broken: Option<&'a RevisionName>,
    ) -> Self {
        let stable = stable.filter(|stable| *stable != lead);
        Self { observed, lead, stable, broken }
    }

    pub(super) fn of(&self, revision: &RevisionName) -> Replicas {
        self.observed.revisions.get(revision).map(|seen| seen.replicas).unwrap_or_default()
    }

    /// Revisions that are neither the lead nor the stable one, nor broken: left by a rollout that
    /// was superseded or taken back.
    fn leftovers(&self) -> impl Iterator<Item = (&'a RevisionName, Replicas)> {
        let kept = [Some(self.lead), self.stable, self.broken];
        self.observed
            .revisions
            .iter()
            .filter(move |(name, _)| !kept.contains(&Some(*name)))
            .map(|(name, seen)| (name, seen.replicas))
    }

    /// Replicas of all revisions but the lead that hold a place.
    pub(super) fn old_live(&self) -> u32 {
        self.sum_of_old(|replicas| replicas.live())
    }

    fn sum_of_old(&self, count: impl Fn(&Replicas) -> u32) -> u32 {
        let old = self.observed.revisions.iter().filter(|(name, _)| *name != self.lead);
        old.fold(0u32, |sum, (_, seen)| sum.saturating_add(count(&seen.replicas)))
    }

    /// Replicas of the lead when it has `of_lead`, and of the others what then remains to make
    /// `needed` ready ones.
    ///
    /// Leftovers keep ready replicas only, and only while lead and stable do not suffice; the
    /// stable revision has what is missing then, and grows for it.
    fn with_old(&self, of_lead: u32, needed: u32) -> Counted {
        let mut counted: Counted =
            self.observed.revisions.keys().map(|name| (name.clone(), 0)).collect();
        counted.insert(self.lead.clone(), of_lead);
        let mut missing = needed;
        let stable_ready = self.stable.map_or(0, |stable| self.of(stable).ready);
        let mut for_leftovers = missing.saturating_sub(stable_ready);
        for (name, replicas) in self.leftovers() {
            let kept = replicas.ready.min(for_leftovers);
            for_leftovers = for_leftovers.saturating_sub(kept);
            missing = missing.saturating_sub(kept);
            counted.insert(name.clone(), kept);
        }
        if let Some(stable) = self.stable {
            counted.insert(stable.clone(), missing);
        }
        counted
    }

    /// The lead is the stable revision: it takes all places, as fast as leftovers that still carry
    /// requests leave them.
    pub(super) fn settled(&self, slack: Slack) -> Counted {
        let wanted = self.observed.wanted;
        let lead = self.of(self.lead);
        let mut counted = self.with_old(0, wanted.saturating_sub(lead.ready.min(wanted)));
        let old: u32 = counted.values().sum();
        let room = wanted.saturating_add(slack.surge).saturating_sub(old);
        counted.insert(self.lead.clone(), room.max(lead.ready).min(wanted));
        counted
    }

    /// The old revision stays whole beside `of_lead` new replicas.
    pub(super) fn beside(&self, of_lead: u32) -> Counted {
        let wanted = self.observed.wanted;
        // None is taken away that is there: a later stage would only start it again.
        let of_lead = of_lead.max(self.of(self.lead).live()).min(wanted);
        self.with_old(of_lead, wanted)
    }

    /// Old replicas go as new ones become ready.
    ///
    /// New ones that are not ready yet are at most as many as the slack, so that a broken revision
    /// breaks few; and where old ones still drain, their room is not given away twice.
    pub(super) fn replacing(&self, slack: Slack) -> Counted {
        let wanted = self.observed.wanted;
        let lead = self.of(self.lead);
        let ready = lead.ready.min(wanted);
        let nobody_serves =
            self.stable.is_none() && self.sum_of_old(|replicas| replicas.ready) == 0;
        // Beside replicas that stay, new ones cost no room and no request.
        let stays = self.observed.stable_stays;
        let at_once = if nobody_serves || stays {
            wanted
        } else {
            ready.saturating_add(slack.surge).saturating_add(slack.unavailable).min(wanted)
        };
        let taken = self.old_live().saturating_add(self.sum_of_old(|replicas| replicas.draining));
        let taken = if stays { 0 } else { taken };
        let room = wanted.saturating_add(slack.surge).saturating_sub(taken);
        let of_lead = room.max(lead.live()).min(at_once).max(ready);
        let needed = wanted.saturating_sub(slack.unavailable).saturating_sub(ready);
        self.with_old(of_lead, needed)
    }

    /// Adds the weights: `share` percent of the requests for the lead, the rest for the others by
    /// their ready replicas. `None` gives the lead as much as it has of the ready replicas.
    ///
    /// Replicas that are to go carry nothing. Where one side has no ready replica, the other has
    /// all.
    pub(super) fn weighted(
        &self,
        counted: Counted,
        share: Share,
    ) -> BTreeMap<RevisionName, Allotment> {
        let carrying = |name: &RevisionName, replicas: u32| {
            if Some(name) == self.broken { 0 } else { self.of(name).ready.min(replicas) }
        };
        let of_lead = counted.get(self.lead).map_or(0, |count| carrying(self.lead, *count));
        let old: u32 = counted
            .iter()
            .filter(|(name, _)| *name != self.lead)
            .fold(0, |sum, (name, count)| sum.saturating_add(carrying(name, *count)));
        let for_lead = match (of_lead, old) {
            (0, _) => 0,
            (_, 0) => 100,
            _ => share.percent(of_lead, old),
        };
        let for_old = if old == 0 { 0 } else { 100u32.saturating_sub(for_lead) };

        let mut before = 0u32;
        counted
            .into_iter()
            .map(|(name, replicas)| {
                let weight = if name == *self.lead {
                    for_lead
                } else {
                    // Differences of a running sum: they add up to the whole without a remainder.
                    let after = before.saturating_add(carrying(&name, replicas));
                    let weight = part(for_old, after, old) - part(for_old, before, old);
                    before = after;
                    weight
                };
                (name, Allotment { replicas, weight })
            })
            .collect()
    }
}

/// The lead's share of the requests while others have ready replicas.
#[derive(Debug, Clone, Copy)]
pub(super) enum Share {
    /// This percentage.
    Percent(u32),
    /// As much as its share of the ready replicas, and at least this percentage.
    ByReplicas { at_least: u32 },
}

impl Share {
    fn percent(self, of_lead: u32, old: u32) -> u32 {
        match self {
            Self::Percent(percent) => percent.min(100),
            Self::ByReplicas { at_least } => {
                // One percent at least: a ready replica is there to be used.
                part(100, of_lead, of_lead.saturating_add(old)).max(at_least).clamp(1, 100)
            }
        }
    }
}

/// `total × count / of`, rounded down; 0 of nothing.
fn part(total: u32, count: u32, of: u32) -> u32 {
    let part = u64::from(total) * u64::from(count) / u64::from(of.max(1));
    u32::try_from(part).unwrap_or(u32::MAX)
}
