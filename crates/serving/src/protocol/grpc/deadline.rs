//! The deadline that a gRPC client sends along.

use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;

/// When the client stops waiting, counted from `now`; `None` if it waits for ever.
///
/// A value that does not follow the protocol (at most eight digits and a unit) is ignored, as other
/// servers do: the client still enforces its own deadline.
pub(crate) fn deadline(metadata: &MetadataMap, now: Instant) -> Option<Instant> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    now.checked_add(parse(text)?)
}

/// Reads the value of a `grpc-timeout` header.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.len().checked_sub(1)?;
    let (digits, unit) = text.split_at_checked(unit_at)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        check("5S", Some(Duration::from_secs(5)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3_600)));
        check("250m", Some(Duration::from_millis(250)));
        check("10u", Some(Duration::from_micros(10)));
        check("1n", Some(Duration::from_nanos(1)));
        check("2M", Some(Duration::from_secs(120)));
        for wrong in ["", "S", "5", "5s", "123456789S", "-1S", "+1S", "1é", "é", " 1S"] {
            check(wrong, None);
        }
    }

    #[track_caller]
    fn check(text: &str, expected: Option<Duration>) {
        assert_eq!(parse(text), expected, "{text:?}");
    }
}
