//! Amounts in Kubernetes' notation, compared as numbers.

use std::fmt;

/// An amount such as `500m`, `2`, `8Gi` or `0.5`, exact to a billionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    /// Billionths: Kubernetes' smallest unit.
    nano: i128,
}

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// Reads Kubernetes' notation; `None` for what it does not allow, and for what no cluster has
    /// (beyond about 10²⁰).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        // More digits than this are neither needed nor exact.
        if whole.len() > 20 || fraction.len() > 18 {
            return None;
        }
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let places = i32::try_from(fraction.len()).ok()?;
        let (ten, two) = match suffix {
            "" => (0, 0),
            "n" => (-9, 0),
            "u" => (-6, 0),
            "m" => (-3, 0),
            "k" => (3, 0),
            "M" => (6, 0),
            "G" => (9, 0),
            "T" => (12, 0),
            "P" => (15, 0),
            "E" => (18, 0),
            "Ki" => (0, 10),
            "Mi" => (0, 20),
            "Gi" => (0, 30),
            "Ti" => (0, 40),
            "Pi" => (0, 50),
            "Ei" => (0, 60),
            _ => (suffix.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?.into(), 0),
        };
        let exponent: i32 = ten - places + 9;
        let mut nano = digits.checked_mul(1i128 << two)?;
        for _ in 0..exponent.unsigned_abs() {
            nano = if exponent > 0 { nano.checked_mul(10)? } else { nano / 10 };
        }
        Some(Self { nano: if negative { -nano } else { nano } })
    }

    /// A whole number of units (bytes, cores, devices).
    #[must_use]
    pub fn whole(units: i64) -> Self {
        Self { nano: i128::from(units) * NANO }
    }

    #[must_use]
    pub fn gibibytes(count: f64) -> Self {
        Self { nano: (count * f64::from(1 << 30)) as i128 * NANO }
    }

    /// In units, rounded towards zero.
    #[must_use]
    pub fn units(self) -> i64 {
        i64::try_from(self.nano / NANO).unwrap_or(if self.nano < 0 { i64::MIN } else { i64::MAX })
    }

    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    #[must_use]
    pub fn is_whole(self) -> bool {
        self.nano % NANO == 0
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    #[must_use]
    pub fn times(self, factor: i64) -> Self {
        Self { nano: self.nano.saturating_mul(factor.into()) }
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_add(other.nano) }
    }
}

/// Bytes as people say them: `8 GiB`, `512 MiB`.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.as_f64();
        for (unit, size) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)] {
            if value.abs() >= size as f64 {
                let scaled = value / size as f64;
                let digits = usize::from((scaled * 10.0).round() % 10.0 != 0.0);
                return write!(f, "{scaled:.digits$} {unit}");
            }
        }
        write!(f, "{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn equal(a: &str, b: &str) {
        assert_eq!(Quantity::parse(a), Quantity::parse(b), "{a} and {b}");
        assert!(Quantity::parse(a).is_some(), "{a}");
    }

    #[test]
    fn notations_of_one_amount_are_equal() {
        equal("1", "1000m");
        equal("0.5", "500m");
        equal(".5", "500m");
        equal("8Gi", "8192Mi");
        equal("1k", "1000");
        equal("1e3", "1000");
        equal("1E3", "1000");
        equal("+2", "2.0");
        equal("-1", "-1000m");
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for text in ["", "x", "1.2.3", "8GB", "1 Gi", ".", "--1", "1e", "1e999", "$(X)", "٣"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
        assert_eq!(Quantity::parse(&"9".repeat(100)), None);
    }

    #[test]
    fn amounts_compare_as_numbers() {
        let q = |text| Quantity::parse(text).unwrap();
        assert!(q("10Gi") > q("9Gi"));
        assert!(q("1Gi") > q("1G"));
        assert!(q("2") > q("1500m"));
        assert_eq!(q("20Gi").to_string(), "20 GiB");
        assert_eq!(q("1536Mi").to_string(), "1.5 GiB");
        assert_eq!(q("64Mi").to_string(), "64 MiB");
        assert!(!q("0.5").is_whole() && q("2.0").is_whole());
        assert_eq!(q("99999999999E").units(), i64::MAX);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9.eEKMGTPimn+-]{0,30}") {
            let _ = Quantity::parse(&text);
        }
    }
}
