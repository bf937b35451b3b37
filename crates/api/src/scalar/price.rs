//! Prices, written with their currency: `0.35 USD`.

use std::fmt;
use std::str::FromStr;

use super::{ScalarError, ScalarKind, string_scalar};

/// An amount of money in millionths, and its currency (three capital letters, as in ISO 4217).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Price {
    millionths: u64,
    currency: [u8; 3],
}

pub(super) const KIND: ScalarKind = ScalarKind {
    name: "price",
    expected: "a price such as `0.35 USD`",
    check: |text| text.parse::<Price>().map(drop),
    integer_too: false,
    pattern: r"^[0-9]{1,9}(\.[0-9]{1,6})? [A-Z]{3}$",
    longest: 20,
    rules: &[],
};

string_scalar!(Price, KIND);

const HELP: &str =
    "write an amount with at most six decimals, a space, and the currency: `0.35 USD`, `2 EUR`";

impl Price {
    /// Millionths of the currency's unit.
    pub fn millionths(self) -> u64 {
        self.millionths
    }

    /// Such as `USD`.
    pub fn currency(&self) -> &str {
        std::str::from_utf8(&self.currency).unwrap_or_default()
    }
}

impl FromStr for Price {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            |why: &str| Err(ScalarError::new(format!("`{text}` is not a price: {why}"), HELP));
        let Some((amount, currency)) = text.split_once(' ') else {
            return wrong("it names no currency");
        };
        let currency = match <[u8; 3]>::try_from(currency.as_bytes()) {
            Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => letters,
            _ => return wrong("a currency has three capital letters"),
        };
        let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return wrong("the amount is not a number");
        }
        if whole.len() > 9 {
            return wrong("the amount is larger than 999999999");
        }
        if fraction.len() > 6 {
            return wrong("the amount has more than six decimals");
        }
        // At most nine and six digits: neither sum nor product can overflow.
        let digits = |part: &str| part.bytes().fold(0_u64, |sum, b| sum * 10 + u64::from(b - b'0'));
        let millionths = digits(whole) * 1_000_000 + digits(&format!("{fraction:0<6}"));
        Ok(Self { millionths, currency })
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.millionths / 1_000_000, self.millionths % 1_000_000);
        if rest == 0 {
            return write!(f, "{whole} {}", self.currency());
        }
        let fraction = format!("{rest:06}");
        write!(f, "{whole}.{} {}", fraction.trim_end_matches('0'), self.currency())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(u64, &str), &str>) {
        match (text.parse::<Price>(), expected) {
            (Ok(price), Ok((millionths, printed))) => {
                assert_eq!(price.millionths(), millionths);
                assert_eq!(price.to_string(), printed);
            }
            (Err(error), Err(part)) => assert!(error.problem.contains(part), "{error}"),
            (got, expected) => panic!("{text}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn table() {
        check("0.35 USD", Ok((350_000, "0.35 USD")));
        check("2 EUR", Ok((2_000_000, "2 EUR")));
        check("02.500000 EUR", Ok((2_500_000, "2.5 EUR")));
        check("0.000001 JPY", Ok((1, "0.000001 JPY")));
        check("0 USD", Ok((0, "0 USD")));
        check("0.35", Err("names no currency"));
        check("0.35 usd", Err("three capital letters"));
        check("0.35  USD", Err("three capital letters"));
        check("-1 USD", Err("not a number"));
        check("1. USD", Err("not a number"));
        check("1.0000001 USD", Err("six decimals"));
        check("9999999999 USD", Err("larger than"));
        check("$1 USD", Err("not a number"));
    }

    proptest! {
        #[test]
        fn printed_is_parsed_back(millionths in 0_u64..999_999_999_999_999, currency in "[A-Z]{3}") {
            let (whole, rest) = (millionths / 1_000_000, millionths % 1_000_000);
            let price: Price = format!("{whole}.{rest:06} {currency}").parse().expect("valid");
            prop_assert_eq!(price.millionths(), millionths);
            prop_assert_eq!(price.to_string().parse(), Ok(price));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9. A-Z]{0,20}") {
            let _ = text.parse::<Price>();
        }
    }
}
