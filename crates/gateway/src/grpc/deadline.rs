//! `grpc-timeout`: up to eight digits and a unit.

use std::time::Duration;

/// Reads a timeout; `None` if it is none, and then the call has no deadline of its own.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Writes a timeout in the finest unit that has room, rounded down.
pub(super) fn format(timeout: Duration) -> String {
    const ROOM: u128 = 100_000_000;
    let (micros, millis) = (timeout.as_micros(), timeout.as_millis());
    if micros < ROOM {
        format!("{micros}u")
    } else if millis < ROOM {
        format!("{millis}m")
    } else {
        format!("{}S", u128::from(timeout.as_secs()).min(ROOM - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        assert_eq!(parse("20m"), Some(Duration::from_millis(20)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "m", "5", "-5m", "5x", "123456789m", "5é", "１m"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(format(Duration::from_secs(99)), "99000000u");
        assert_eq!(format(Duration::from_secs(100)), "100000m");
        assert_eq!(format(Duration::from_secs(u64::MAX)), "99999999S");
    }

    proptest! {
        #[test]
        fn never_longer_than_it_was(micros in any::<u32>()) {
            let timeout = Duration::from_micros(micros.into());
            let back = parse(&format(timeout)).unwrap();
            prop_assert!(back <= timeout && timeout - back < Duration::from_millis(1));
        }
    }
}
