//! Content under its hash.
//!
//! Chunks have one size and begin at its multiples. Rolling hashes, as backup programs use them,
//! would find content that moved within a file; in checkpoints it does not, because a training
//! program writes the same tensors in the same order each time, and computing such hashes would take
//! processor time from the training for every byte. Whole files would be simpler, but a file of
//! 50 GB that a kill interrupts would begin anew, and one changed tensor would upload all of it.

use sha2::{Digest, Sha256};

/// One PUT, large enough that a request's latency does not count, small enough that some fit into
/// the memory of an agent, and that S3 and Google tell its MD5.
pub(crate) const DEFAULT_BYTES: u64 = 16 << 20;

pub(crate) fn sha256(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(*DIGITS.get(usize::from(nibble)).unwrap_or(&b'0'));
    let hash = Sha256::digest(bytes);
    hash.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

pub(crate) fn is_sha256(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 64 && text.bytes().all(is_digit)
}

/// Runs file work and hashing away from the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is being torn down cancels blocking work, and then nobody waits.
            Err(_) => std::future::pending().await,
        },
    }
}

#[test]
fn hashes_are_hexadecimal() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(sha256(b""), empty);
    assert!(is_sha256(empty) && !is_sha256(&empty.to_uppercase()) && !is_sha256(""));
}
