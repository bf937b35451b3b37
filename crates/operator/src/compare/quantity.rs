//! Quantities as the API server writes them: `1000m` comes back as `1`.

/// The value of a quantity in billionths, rounded up as Kubernetes does; none if it is no quantity.
pub(super) fn parse(text: &str) -> Option<i128> {
    let digits_end =
        text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (multiplier, divisor): (i128, i128) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => (power_of_ten(exponent)?, 1),
    };
    let negative = number.starts_with('-');
    let number = number.strip_prefix(['+', '-']).unwrap_or(number);
    // A second sign is no number, though the standard library would read it as one.
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scaled = whole.checked_mul(scale)?.checked_add(fraction)?;
    let numerator = scaled.checked_mul(multiplier)?.checked_mul(1_000_000_000)?;
    let denominator = divisor.checked_mul(scale)?;
    let rounded = numerator.checked_add(denominator - 1)?.checked_div(denominator)?;
    Some(if negative { -rounded } else { rounded })
}

/// `e3` and `E3`; exponents that no machine needs are no quantity.
fn power_of_ten(suffix: &str) -> Option<i128> {
    let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    10_i128.checked_pow(exponent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parse;

    #[track_caller]
    fn check_equal(left: &str, right: &str) {
        assert_eq!(parse(left), parse(right));
        assert!(parse(left).is_some());
    }

    #[test]
    fn table() {
        check_equal("1000m", "1");
        check_equal("0.5", "500m");
        check_equal("1024Mi", "1Gi");
        check_equal("1e3", "1k");
        check_equal("1.5Gi", "1536Mi");
        check_equal(".5", "500m");
        check_equal("-1", "-1000m");
        check_equal("1E", "1000P");
        for nonsense in ["", "Gi", "1 Gi", "one", "1e999", "1.2.3", "--1", "9".repeat(60).as_str()]
        {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
        assert_ne!(parse("1"), parse("2"));
        assert_ne!(parse("1Gi"), parse("1G"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,30}|[-+.0-9eEkKmMi]{0,40}") {
            let _ = parse(&text);
        }
    }
}
