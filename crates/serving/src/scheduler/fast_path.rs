//! Decides whether a request runs where it was decoded, without a queue or a change of thread.
//!
//! It never does when others wait or no instance is free. Beyond that:
//!
//! - A model that is not batched runs inline below [`LIMIT`]: nothing is gained elsewhere.
//! - A batched one runs inline below [`HOP`], whatever delay is configured: handing a request to a
//!   compute thread and back costs more than a batch could save, and waiting only adds to it.
//! - Between the two a batch may pay. Where a delay is configured, the owner has asked to wait for
//!   one. Without a delay a request runs inline while it is the only one in flight, so that a
//!   lonely client has the shortest way; under load requests queue up, and batches form.
//!
//! Where answers must keep their order, all requests go through the queue, which knows the order.

use std::time::Duration;

use super::options::Batching;

/// The longest that a runtime thread may be held up (docs/architecture.md, invariants).
pub(crate) const LIMIT: Duration = Duration::from_micros(100);

/// Between the two costs of the way through the queue, as `cargo bench --bench scheduler` shows them
/// on two cores: about 50 µs of latency for a lonely request, which wakes two threads, and 4 to 7 µs
/// of compute for each of many under load. A run this short gains little more from a batch.
pub(crate) const HOP: Duration = Duration::from_micros(25);

/// `expected` is how long the request takes alone, as far as known; `others` how many more requests
/// of the same model are in flight.
pub(crate) fn runs_inline(
    batching: Option<&Batching>,
    expected: Option<Duration>,
    others: usize,
) -> bool {
    let Some(expected) = expected else { return false };
    match batching {
        None => expected < LIMIT,
        Some(batching) if batching.preserve_ordering => false,
        Some(_) if expected < HOP => true,
        Some(batching) => batching.max_delay.is_zero() && others == 0 && expected < LIMIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let delay = |us| Batching { max_delay: Duration::from_micros(us), ..Batching::default() };
        let ordered = Batching { preserve_ordering: true, ..Batching::default() };
        #[track_caller]
        fn check(
            batching: Option<&Batching>,
            expected_us: Option<u64>,
            others: usize,
            inline: bool,
        ) {
            let expected = expected_us.map(Duration::from_micros);
            assert_eq!(runs_inline(batching, expected, others), inline);
        }
        check(None, None, 0, false);
        check(None, Some(99), 7, true);
        check(None, Some(100), 0, false);
        check(Some(&delay(0)), Some(24), 7, true);
        check(Some(&delay(500)), Some(24), 7, true);
        check(Some(&delay(0)), Some(60), 0, true);
        check(Some(&delay(0)), Some(60), 1, false);
        check(Some(&delay(500)), Some(60), 0, false);
        check(Some(&delay(0)), Some(100), 0, false);
        check(Some(&ordered), Some(5), 0, false);
    }
}
