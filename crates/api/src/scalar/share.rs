//! Shares of a GPU, written as a fraction: `1/4`.

use std::fmt;
use std::str::FromStr;

use super::{ScalarError, ScalarKind, string_scalar};

/// A fraction above zero and at most one, in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share {
    numerator: u16,
    denominator: u16,
}

pub(super) const KIND: ScalarKind = ScalarKind {
    name: "share",
    expected: "a fraction such as `1/4`",
    check: |text| text.parse::<Share>().map(drop),
    integer_too: false,
    pattern: r"^[0-9]{1,5}/[0-9]{1,5}$",
    longest: 11,
    rules: &[
        (
            "int(self.split('/')[0]) > 0 && int(self.split('/')[0]) <= int(self.split('/')[1])",
            "must be above zero and at most one whole GPU",
        ),
        ("int(self.split('/')[1]) <= 65535", "both sides of the `/` must be at most 65535"),
    ],
};

string_scalar!(Share, KIND);

const HELP: &str = "write a fraction of one GPU: `1/4`, `1/2`; for whole GPUs use `count`";

impl Share {
    /// The share as a number: 1/4 is 0.25.
    pub fn fraction(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }
}

impl FromStr for Share {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            |why: &str| Err(ScalarError::new(format!("`{text}` is not a share: {why}"), HELP));
        let Some((numerator, denominator)) = text.split_once('/') else {
            return wrong("it is not a fraction");
        };
        let digits = |part: &str| {
            let is_number = part.len() <= 5 && part.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| part.parse::<u16>().ok()).flatten()
        };
        let (Some(numerator), Some(denominator)) = (digits(numerator), digits(denominator)) else {
            return wrong("both sides of the `/` must be whole numbers up to 65535");
        };
        if numerator == 0 || denominator == 0 {
            return wrong("neither side may be zero");
        }
        if numerator > denominator {
            return wrong("it is more than one GPU");
        }
        let divisor = greatest_common_divisor(numerator, denominator);
        Ok(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(f64, &str), &str>) {
        match (text.parse::<Share>(), expected) {
            (Ok(share), Ok((fraction, printed))) => {
                assert_eq!(share.fraction(), fraction);
                assert_eq!(share.to_string(), printed);
            }
            (Err(error), Err(part)) => assert!(error.problem.contains(part), "{error}"),
            (got, expected) => panic!("{text}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn table() {
        check("1/4", Ok((0.25, "1/4")));
        check("2/8", Ok((0.25, "1/4")));
        check("1/1", Ok((1.0, "1/1")));
        check("0.25", Err("not a fraction"));
        check("1/0", Err("zero"));
        check("0/4", Err("zero"));
        check("5/4", Err("more than one GPU"));
        check("1/+4", Err("whole numbers"));
        check("1/99999", Err("whole numbers"));
        check("/", Err("whole numbers"));
        check("1/000004", Err("whole numbers"));
    }

    proptest! {
        #[test]
        fn printed_is_parsed_back(numerator in 1u16.., extra: u16) {
            let text = format!("{numerator}/{}", numerator.saturating_add(extra));
            let share: Share = text.parse().expect("valid");
            prop_assert_eq!(share.to_string().parse(), Ok(share));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9/]{0,12}") {
            let _ = text.parse::<Share>();
        }
    }
}
