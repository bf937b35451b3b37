//! Sizes for people.

/// `1.5 MiB`, three digits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < 4 {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {name}")
}

/// `1 234 567`, which is easier to read than the digits in a row.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[test]
fn table() {
    let check = |bytes, expected| assert_eq!(size(bytes), expected);
    check(0, "0 B");
    check(1023, "1023 B");
    check(1536, "1.5 KiB");
    check(200 << 20, "200 MiB");
    check(u64::MAX, "16777216 TiB");
    assert_eq!(grouped(7), "7");
    assert_eq!(grouped(1234567), "1 234 567");
}
