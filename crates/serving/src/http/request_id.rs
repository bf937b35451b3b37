//! Identifiers of requests.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, both ways.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ones are replaced, so that a client cannot fill our logs.
const MAX_LENGTH: usize = 128;

/// The client's own identifier, or a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    match headers.get(REQUEST_ID) {
        Some(id) if !id.is_empty() && id.len() <= MAX_LENGTH => id.clone(),
        _ => new(),
    }
}

/// Sixteen hexadecimal digits: a count, spread over all 64 bits from a start that differs between
/// processes, so that two replicas do not give the same one.
fn new() -> HeaderValue {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // 2^64 divided by the golden ratio: odd, so no value repeats before all were given.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    const DIGITS: [u8; 16] = *b"0123456789abcdef";

    let value = START.wrapping_add(COUNT.fetch_add(1, Relaxed).wrapping_mul(STEP));
    let mut text = [0; 16];
    for (index, digit) in text.iter_mut().enumerate() {
        let nibble = (value >> (60 - 4 * index)) & 0xf;
        *digit = DIGITS.get(nibble as usize).copied().unwrap_or(b'0');
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal digits are a valid header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_own_is_kept_and_others_are_new() {
        let with = |value: String| {
            let value = HeaderValue::from_str(&value).expect("valid");
            request_id(&HeaderMap::from_iter([(REQUEST_ID, value)]))
        };
        assert_eq!(with("abc".to_owned()), "abc");
        assert_eq!(with("x".repeat(129)).len(), 16);
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
