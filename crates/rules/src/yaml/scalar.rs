//! What a plain scalar means to Kubernetes' loader, which follows YAML 1.1.

/// Whether a text without quotes means nothing.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The truth value of a text without quotes.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => {
            Some(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}

/// A whole number, in the bases that YAML 1.1 knows: `017` is 15 and `1_000` is 1000.
pub(super) fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits: String = digits.chars().filter(|&c| c != '_').collect();
    let based = |prefix: &str, base: u32| {
        let rest = digits.strip_prefix(prefix).filter(|rest| !rest.starts_with(['-', '+']));
        rest.and_then(|rest| i64::from_str_radix(rest, base).ok())
    };
    let value = if digits.len() > 1 && digits.starts_with('0') {
        based("0x", 16)
            .or_else(|| based("0b", 2))
            .or_else(|| based("0o", 8))
            .or_else(|| i64::from_str_radix(&digits, 8).ok())?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        for (text, expected) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("-3", Some(-3)),
            ("+3", Some(3)),
            ("017", Some(15)),
            ("0o17", Some(15)),
            ("0x1F", Some(31)),
            ("1_000", Some(1000)),
            ("089", None),
            ("1.5", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("-0x-1", None),
            ("99999999999999999999", None),
            ("1e3", None),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }
}
