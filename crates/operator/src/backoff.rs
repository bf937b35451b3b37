//! How long to wait before the next try.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(300);

/// The wait after so many failures in a row: doubled each time, between half and all of it by
/// `jitter` (0 to 1), so that what failed together does not come back together.
pub(crate) fn delay(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(20)));
    doubled.min(LONGEST).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// A number from 0 to 1 that differs from call to call. The standard library seeds each of its
/// hash maps anew, which is random enough to spread tries.
pub(crate) fn jitter() -> f64 {
    let bits = RandomState::new().hash_one(0_u8);
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[test]
fn it_doubles_up_to_five_minutes() {
    let milliseconds = |failures| delay(failures, 1.0).as_millis();
    assert_eq!([1, 2, 3, 4].map(milliseconds), [200, 400, 800, 1600]);
    assert_eq!(delay(30, 1.0), LONGEST);
    assert_eq!(delay(u32::MAX, 0.0), LONGEST / 2);
    assert!((0..100).all(|_| (0.0..1.0).contains(&jitter())));
    assert_ne!(jitter(), jitter());
}
