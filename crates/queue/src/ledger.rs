//! What the queues of a cohort use, and what each may still have.

use crate::amounts::Resource;
use crate::cohort::{Cohort, Demand, WIDTH};

/// Use by queue and cell, and of what the cohort lends.
#[derive(Clone)]
pub(crate) struct Ledger {
    own: Vec<u64>,
    /// Beyond what each queue keeps for itself, by cell.
    pooled: Vec<u64>,
}

impl Ledger {
    pub(crate) fn new(cohort: &Cohort<'_>) -> Self {
        Self { own: vec![0; cohort.cells() * cohort.queues.len()], pooled: vec![0; cohort.cells()] }
    }

    pub(crate) fn used(&self, cohort: &Cohort<'_>, queue: usize, cell: usize) -> u64 {
        self.own[queue * cohort.cells() + cell]
    }

    /// Counts what a workload uses. What is not rationed is not counted.
    pub(crate) fn add(&mut self, cohort: &Cohort<'_>, queue: usize, demand: &Demand) {
        self.change(cohort, queue, demand, |used, amount| used.saturating_add(amount));
    }

    pub(crate) fn remove(&mut self, cohort: &Cohort<'_>, queue: usize, demand: &Demand) {
        self.change(cohort, queue, demand, |used, amount| used.saturating_sub(amount));
    }

    fn change(
        &mut self,
        cohort: &Cohort<'_>,
        queue: usize,
        demand: &Demand,
        new: impl Fn(u64, u64) -> u64,
    ) {
        for (cell, _, amount) in demand.cells() {
            let Some(quota) = cohort.quota(queue, cell) else { continue };
            let used = &mut self.own[queue * cohort.cells() + cell];
            let before = used.saturating_sub(quota.guaranteed());
            *used = new(*used, amount);
            let after = used.saturating_sub(quota.guaranteed());
            self.pooled[cell] = self.pooled[cell].saturating_sub(before).saturating_add(after);
        }
    }

    /// What a queue may still have of a cell; none if that is not rationed.
    pub(crate) fn left(&self, cohort: &Cohort<'_>, queue: usize, cell: usize) -> Option<u64> {
        let quota = cohort.quota(queue, cell)?;
        let used = self.used(cohort, queue, cell);
        let of_own = quota.guaranteed().saturating_sub(used);
        let mut of_pool = cohort.lendable[cell].saturating_sub(self.pooled[cell]);
        if let Some(limit) = quota.borrowing_limit {
            let from_pool = used.saturating_sub(quota.guaranteed());
            let most = quota.lendable().saturating_add(limit);
            of_pool = of_pool.min(most.saturating_sub(from_pool));
        }
        Some(of_own.saturating_add(of_pool))
    }

    /// Whether all that is asked for is left.
    pub(crate) fn fits(&self, cohort: &Cohort<'_>, queue: usize, demand: &Demand) -> bool {
        self.lacking(cohort, queue, demand).next().is_none()
    }

    /// What is asked for and not left: cell, resource, how much is asked for, and left.
    pub(crate) fn lacking<'l>(
        &'l self,
        cohort: &'l Cohort<'_>,
        queue: usize,
        demand: &Demand,
    ) -> impl Iterator<Item = (usize, Resource, u64, u64)> + 'l {
        demand.cells().filter_map(move |(cell, resource, amount)| {
            let left = self.left(cohort, queue, cell)?;
            (amount > left).then_some((cell, resource, amount, left))
        })
    }

    /// Whether a queue uses more than its own of a cell.
    pub(crate) fn borrows(&self, cohort: &Cohort<'_>, queue: usize, cell: usize) -> bool {
        let quota = cohort.quota(queue, cell);
        quota.is_some_and(|quota| self.used(cohort, queue, cell) > quota.nominal)
    }

    /// Whether a queue would use more than its own with this.
    pub(crate) fn would_borrow(&self, cohort: &Cohort<'_>, queue: usize, demand: &Demand) -> bool {
        demand.cells().any(|(cell, _, amount)| {
            let quota = cohort.quota(queue, cell);
            let used = self.used(cohort, queue, cell).saturating_add(amount);
            quota.is_some_and(|quota| used > quota.nominal)
        })
    }

    /// The largest part, over resources, that a queue has borrowed of what the cohort lends, with
    /// what it would take on top, in thousandths, by its weight.
    pub(crate) fn share(&self, cohort: &Cohort<'_>, queue: usize, with: Option<&Demand>) -> u64 {
        let mut largest = 0u128;
        for at in 0..WIDTH {
            let (mut borrowed, mut lendable) = (0u128, 0u128);
            for flavour in 0..cohort.flavours.len() {
                let cell = flavour * WIDTH + at;
                lendable += u128::from(cohort.lendable[cell]);
                let Some(quota) = cohort.quota(queue, cell) else { continue };
                let more = with.filter(|demand| demand.flavour == flavour);
                let more = more.map_or(0, |demand| demand.amounts.of(Resource::ALL[at]));
                let used = self.used(cohort, queue, cell).saturating_add(more);
                borrowed += u128::from(used.saturating_sub(quota.nominal));
            }
            if borrowed > 0 {
                // Rounded up: who borrows at all has a share.
                largest = largest.max((borrowed * 1000).div_ceil(lendable.max(1)));
            }
        }
        u64::try_from(largest.div_ceil(u128::from(cohort.queues[queue].weight))).unwrap_or(u64::MAX)
    }
}
