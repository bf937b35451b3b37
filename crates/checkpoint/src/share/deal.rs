//! Who fetches which chunk from the store, so that each is fetched about once and all workers fetch
//! as much.
//!
//! Each worker computes the same order of workers for a chunk (rendezvous hashing: Thaler and
//! Ravishankar, "Using name-based mappings to increase hit rates", 1998), so that nothing has to be
//! agreed upon, and where the first of them is missing all turn to the same second one. A list that
//! one worker hands out would need that worker to be there.

use sha2::{Digest, Sha256};

use super::hash::Hash;

/// Workers that are asked for a chunk before the store is. More than one may be missing at a start;
/// who waits for many of them would rather have the chunk.
pub(super) const FIRST: usize = 3;

/// The first workers for a chunk, the best first.
pub(super) fn first(hash: Hash, workers: u32) -> Vec<u32> {
    ranked(&hash.0, (0..workers).collect(), FIRST)
}

/// Workers whom a worker asks what they have: others for each, so that no one is asked by all.
pub(super) fn acquaintances(own: u32, workers: u32, most: usize) -> Vec<u32> {
    let others = (0..workers).filter(|worker| *worker != own).collect();
    ranked(&own.to_be_bytes(), others, most)
}

/// Those among whom a chunk is, in another order for each who asks.
pub(super) fn spread(hash: Hash, own: u32, among: Vec<u32>, most: usize) -> Vec<u32> {
    ranked(&[&hash.0[..], &own.to_be_bytes()].concat(), among, most)
}

/// Where a worker stands for a key; the lowest comes first.
pub(super) fn weight(key: &[u8], worker: u32) -> u64 {
    let digest = Sha256::new().chain_update(key).chain_update(worker.to_be_bytes()).finalize();
    let mut weight = [0; 8];
    weight.copy_from_slice(digest.get(..8).unwrap_or(&[0; 8]));
    u64::from_be_bytes(weight)
}

fn ranked(key: &[u8], among: Vec<u32>, most: usize) -> Vec<u32> {
    let mut ranked: Vec<(u64, u32)> = among.into_iter().map(|it| (weight(key, it), it)).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(most).map(|(_, worker)| worker).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(number: u32) -> Hash {
        let text = crate::chunk::sha256(&number.to_be_bytes());
        Hash::parse(&text).unwrap()
    }

    #[test]
    fn all_fetch_about_as_much() {
        for workers in [2u32, 4, 16] {
            let mut counts = vec![0u32; workers as usize];
            for number in 0..16_000 {
                counts[first(hash(number), workers)[0] as usize] += 1;
            }
            let fair = 16_000 / workers;
            assert!(
                counts.iter().all(|count| count.abs_diff(fair) < fair / 5),
                "{workers}: {counts:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_next_one_is_who_would_be_first_without_the_first(number: u32, workers in 2u32..40) {
            let order = first(hash(number), workers);
            prop_assert_eq!(order.len(), FIRST.min(workers as usize));
            let without = (0..workers).filter(|worker| *worker != order[0]).collect();
            prop_assert_eq!(ranked(&hash(number).0, without, 1), vec![order[1]]);
        }

        #[test]
        fn nobody_asks_itself(own in 0u32..40, more in 1u32..40) {
            let asked = acquaintances(own, own + more, 8);
            prop_assert!(!asked.contains(&own) && asked.len() <= 8);
        }
    }
}
