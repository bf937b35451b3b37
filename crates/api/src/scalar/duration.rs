//! Lengths of time, written as Go and Kubernetes write them: `10ms`, `2m`, `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{ScalarError, ScalarKind, string_scalar};

/// A length of time that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(pub Duration);

pub(super) const KIND: ScalarKind = ScalarKind {
    name: "duration",
    expected: "a length of time such as `10ms`, `30s` or `2m`",
    check: |text| text.parse::<Period>().map(drop),
    integer_too: false,
    // Both the micro sign and the Greek letter.
    pattern: r"^(0|(([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$",
    longest: 64,
    // What does not fit is no duration to CEL.
    rules: &[("duration(self) >= duration('0s')", "must not be longer than 292 years")],
};

string_scalar!(Period, KIND);

const HELP: &str =
    "write a number and a unit (`ns`, `us`, `ms`, `s`, `m`, `h`): `10ms`, `30s`, `1h30m`";

/// Units from the largest, in nanoseconds.
const UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for Period {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: String| {
            Err(ScalarError::new(format!("`{text}` is not a length of time: {why}"), HELP))
        };
        match text {
            "" => return wrong("it is empty".into()),
            "0" => return Ok(Self::default()),
            _ if text.starts_with('-') => return wrong("it is negative".into()),
            _ => {}
        }
        let mut total: u128 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let number_end =
                rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(number_end);
            let unit_end =
                tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            rest = tail;
            if unit.is_empty() {
                return wrong(format!("`{number}` has no unit"));
            }
            let size = match unit {
                // The micro sign and the Greek letter, as Go accepts both.
                "µs" | "μs" => 1_000,
                _ => match UNITS.iter().find(|(name, _)| *name == unit) {
                    Some((_, size)) => *size,
                    None if unit == "d" => {
                        return wrong(
                            "there is no unit `d`, since a day can have 23 or 25 hours".into(),
                        );
                    }
                    None => return wrong(format!("unknown unit `{unit}`")),
                },
            };
            let Some(part) = nanoseconds(number, size) else {
                return wrong(format!("`{number}` is not a number"));
            };
            total = total.saturating_add(part);
        }
        // Go's durations end at 2^63 ns (292 years); what Go refuses is refused here.
        match i64::try_from(total) {
            Ok(total) => Ok(Self(Duration::from_nanos(total.unsigned_abs()))),
            Err(_) => wrong("it is longer than 292 years".into()),
        }
    }
}

/// `number × size`, fractions of a nanosecond dropped as Go does. `None` if it is not a number.
fn nanoseconds(number: &str, size: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // 30 digits are more than any duration needs; the sum is checked by the caller.
    let mut value: u128 = 0;
    for digit in whole.bytes() {
        value = value.saturating_mul(10).saturating_add(u128::from(digit.checked_sub(b'0')?));
    }
    let mut value = value.saturating_mul(size);
    let mut place = size;
    for digit in fraction.bytes() {
        // `place` is a tenth of the one before; below a nanosecond nothing is added.
        let digit = u128::from(digit.checked_sub(b'0')?);
        value = value.saturating_add(digit.saturating_mul(place) / 10);
        place /= 10;
    }
    Some(value)
}

impl fmt::Display for Period {
    /// Prints whole numbers of the largest units, and none that is zero: `1h30m`, not `1h30m0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            let count = rest / size;
            rest %= size;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(u64, &str), &str>) {
        match (text.parse::<Period>(), expected) {
            (Ok(period), Ok((nanos, printed))) => {
                assert_eq!(period.0, Duration::from_nanos(nanos));
                assert_eq!(period.to_string(), printed);
            }
            (Err(error), Err(part)) => assert!(error.problem.contains(part), "{error}"),
            (got, expected) => panic!("{text}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn table() {
        check("10ms", Ok((10_000_000, "10ms")));
        check("2m", Ok((120_000_000_000, "2m")));
        check("1h30m", Ok((5_400_000_000_000, "1h30m")));
        check("90s", Ok((90_000_000_000, "1m30s")));
        check("1.5s", Ok((1_500_000_000, "1s500ms")));
        check(".5ms", Ok((500_000, "500us")));
        check("3µs", Ok((3_000, "3us")));
        check("0", Ok((0, "0s")));
        check("0s", Ok((0, "0s")));
        check("0.0000000009s", Ok((0, "0s")));
        check("", Err("it is empty"));
        check("5", Err("`5` has no unit"));
        check("1m5", Err("`5` has no unit"));
        check("-1s", Err("negative"));
        check("1d", Err("there is no unit `d`"));
        check("5 s", Err("unknown unit ` s`"));
        check("s", Err("`` is not a number"));
        check("1.2.3s", Err("`1.2.3` is not a number"));
        check("9999999h", Err("longer than 292 years"));
        check(&format!("{}h", "9".repeat(80)), Err("longer than 292 years"));
    }

    proptest! {
        #[test]
        fn printed_is_parsed_back(nanos in 0..=i64::MAX.unsigned_abs()) {
            let period = Period(Duration::from_nanos(nanos));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9.nuµmsh-]{0,40}") {
            let _ = text.parse::<Period>();
        }
    }
}
