//! Percentages, written with their sign: `70%`, `0.5%`.

use std::fmt;
use std::str::FromStr;

use super::{ScalarError, ScalarKind, string_scalar};

/// A percentage in parts per million, so that `0.0001%` is exact: 100% is 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Percent {
    parts_per_million: u32,
}

pub(super) const KIND: ScalarKind = ScalarKind {
    name: "percent",
    expected: "a percentage such as `70%` or `0.5%`",
    check: |text| text.parse::<Percent>().map(drop),
    integer_too: false,
    pattern: r"^[0-9]{1,4}(\.[0-9]{1,4})?%$",
    longest: 10,
    rules: &[],
};

string_scalar!(Percent, KIND);

const HELP: &str = "write a number with at most four decimals and a percent sign: `70%`, `0.5%`";
const PARTS_PER_PERCENT: u32 = 10_000;

impl Percent {
    /// A whole percentage.
    pub const fn whole(percent: u16) -> Self {
        Self { parts_per_million: percent as u32 * PARTS_PER_PERCENT }
    }

    /// The share of one: 70% is 0.7.
    pub fn fraction(self) -> f64 {
        f64::from(self.parts_per_million) / 1_000_000.0
    }

    /// Whole percent, rounded down, as Kubernetes' HPA takes it.
    pub fn whole_percent(self) -> u32 {
        self.parts_per_million / PARTS_PER_PERCENT
    }
}

impl FromStr for Percent {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            |why: &str| Err(ScalarError::new(format!("`{text}` is not a percentage: {why}"), HELP));
        let Some(number) = text.strip_suffix('%') else {
            return wrong("it has no percent sign");
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return wrong("it is not a number");
        }
        if whole.len() > 4 {
            return wrong("it is larger than 9999%");
        }
        if fraction.len() > 4 {
            return wrong("it has more than four decimals");
        }
        // Both are at most four digits: neither the parse nor the sum can fail.
        let digits = |part: &str| part.bytes().fold(0u32, |sum, b| sum * 10 + u32::from(b - b'0'));
        let scale = [1000, 100, 10, 1].get(fraction.len().saturating_sub(1)).copied().unwrap_or(1);
        Ok(Self { parts_per_million: digits(whole) * PARTS_PER_PERCENT + digits(fraction) * scale })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (
            self.parts_per_million / PARTS_PER_PERCENT,
            self.parts_per_million % PARTS_PER_PERCENT,
        );
        if rest == 0 {
            return write!(f, "{whole}%");
        }
        write!(f, "{whole}.{}%", format!("{rest:04}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(f64, &str), &str>) {
        match (text.parse::<Percent>(), expected) {
            (Ok(percent), Ok((fraction, printed))) => {
                assert_eq!(percent.fraction(), fraction);
                assert_eq!(percent.to_string(), printed);
            }
            (Err(error), Err(part)) => assert!(error.problem.contains(part), "{error}"),
            (got, expected) => panic!("{text}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn table() {
        check("70%", Ok((0.7, "70%")));
        check("0.5%", Ok((0.005, "0.5%")));
        check("0.0001%", Ok((0.000001, "0.0001%")));
        check("250%", Ok((2.5, "250%")));
        check("007.50%", Ok((0.075, "7.5%")));
        check("70", Err("no percent sign"));
        check("%", Err("not a number"));
        check("-1%", Err("not a number"));
        check("1.%", Err("not a number"));
        check("1.23456%", Err("more than four decimals"));
        check("99999%", Err("larger than 9999%"));
    }

    proptest! {
        #[test]
        fn printed_is_parsed_back(parts_per_million in 0u32..99_999_999) {
            let percent = Percent { parts_per_million };
            prop_assert_eq!(percent.to_string().parse(), Ok(percent));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9.%-]{0,20}") {
            let _ = text.parse::<Percent>();
        }
    }
}
