//! Lengths of time in Go's notation.

/// Seconds of a text such as `90s`, `1h30m` or `1.5h`; `None` if it is no length of time.
pub(crate) fn duration(text: &str) -> Option<f64> {
    if text == "0" {
        return Some(0.0);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn table() {
        for (text, expected) in [
            ("90s", Some(90.0)),
            ("1h30m", Some(5400.0)),
            ("1.5h", Some(5400.0)),
            ("250ms", Some(0.25)),
            ("0", Some(0.0)),
            ("-1s", Some(-1.0)),
            ("", None),
            ("5", None),
            ("1d", None),
            ("s", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
