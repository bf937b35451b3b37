//! Which revision, and which two of its replicas, a request may go to.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};

/// The revision whose part of the circle holds `position`; `None` if there is no weight.
///
/// A revision owns a part as wide as its weight, in the given order. So positions that step evenly
/// split requests evenly, and a shift of weight moves only the requests between old and new edges.
pub(crate) fn revision_at(
    weights: impl Iterator<Item = u32> + Clone,
    position: u32,
) -> Option<usize> {
    let total: u64 = weights.clone().map(u64::from).sum();
    // Below `total`, since position < 2^32.
    let place = ((u128::from(total) * u128::from(position)) >> 32) as u64;
    let mut end = 0;
    weights.enumerate().find_map(|(index, weight)| {
        end += u64::from(weight);
        (place < end).then_some(index)
    })
}

/// How far the position moves from one request to the next: 2^32 over the golden ratio. Positions
/// then fill the circle evenly at any moment, which random ones do not at low rates.
pub(crate) const GOLDEN_STEP: u32 = 0x9E37_79B9;

/// The position of all requests with one value of the sticky header.
pub(crate) fn sticky_position(value: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    hasher.write(value);
    (hasher.finish() >> 32) as u32
}

/// Two different indices below `count`, uniformly; the same twice if there is only one.
pub(crate) fn two_of(count: usize, random: u64) -> Option<(usize, usize)> {
    let first = below(count, (random >> 32) as u32)?;
    let Some(other) = below(count - 1, random as u32) else { return Some((first, first)) };
    Some((first, if other < first { other } else { other + 1 }))
}

fn below(count: usize, random: u32) -> Option<usize> {
    (count > 0).then(|| ((count as u128 * u128::from(random)) >> 32) as usize)
}

/// A random number, from a generator of this thread: choices need spread, not secrecy.
pub(crate) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new({
            use std::hash::BuildHasher;
            std::hash::RandomState::new().hash_one(0)
        });
    }
    STATE.with(|state| {
        // SplitMix64 (Steele, Lea, Flood 2014).
        let seed = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        state.set(seed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

/// True for about this share of calls.
pub(crate) fn sample(share: f64, random: u64) -> bool {
    ((random >> 11) as f64) < share * (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_weight_no_revision() {
        assert_eq!(revision_at([].into_iter(), 7), None);
        assert_eq!(revision_at([0, 0].into_iter(), 7), None);
        assert_eq!(revision_at([0, 1].into_iter(), u32::MAX), Some(1));
    }

    #[test]
    fn two_of_few() {
        assert_eq!(two_of(0, 1), None);
        assert_eq!(two_of(1, u64::MAX), Some((0, 0)));
        assert_eq!(two_of(2, 0), Some((0, 1)));
        assert_eq!(two_of(2, u64::MAX), Some((1, 0)));
    }

    #[test]
    fn power_of_two_choices_spreads_better_than_random() {
        let mut loads = vec![0u32; 100];
        for _ in 0..100_000 {
            let (a, b) = two_of(loads.len(), random()).unwrap();
            let less = if loads[b] < loads[a] { b } else { a };
            loads[less] += 1;
        }
        // Random choice would be off by about 100 somewhere; two choices stay within a few.
        assert!(loads.iter().all(|load| load.abs_diff(1_000) < 20), "{loads:?}");
    }

    #[test]
    fn samples_are_about_the_share() {
        let hits = (0..100_000).filter(|_| sample(0.25, random())).count();
        assert!(hits.abs_diff(25_000) < 1_000, "{hits}");
        assert!((0..1_000).all(|_| sample(1.0, random())));
        assert!((0..1_000).all(|_| !sample(0.0, random())));
    }

    proptest! {
        #[test]
        fn golden_steps_split_by_weight_at_any_moment(
            weights in proptest::collection::vec(0u32..100, 1..5), start in any::<u32>(),
        ) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let mut counts = vec![0u32; weights.len()];
            for turn in 1..=500u32 {
                let position = start.wrapping_add(GOLDEN_STEP.wrapping_mul(turn));
                counts[revision_at(weights.iter().copied(), position).unwrap()] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let due = f64::from(turn) * f64::from(*weight) / f64::from(total);
                    prop_assert!((f64::from(*count) - due).abs() < 5.0, "{counts:?} {turn}");
                }
            }
        }

        #[test]
        fn a_shift_of_weight_moves_only_what_it_must(position in any::<u32>(), step in 0u32..=100) {
            let at = |new: u32| revision_at([100 - new, new].into_iter(), position);
            // Once on the new revision, a growing weight never brings a caller back.
            if at(step) == Some(1) {
                for more in step..=100 {
                    prop_assert_eq!(at(more), Some(1));
                }
            }
        }

        #[test]
        fn two_are_distinct_and_in_range(count in 2usize..50, random in any::<u64>()) {
            let (a, b) = two_of(count, random).unwrap();
            prop_assert!(a != b && a < count && b < count);
        }
    }
}
