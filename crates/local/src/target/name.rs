//! Names of services from names of files.

/// The longest name that a ModelService may have.
const LONGEST: usize = 52;

/// The nearest name that a service may have: lower-case letters, digits and `-`, a letter first.
pub(super) fn valid(name: &str) -> String {
    let mut valid = String::with_capacity(name.len());
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        if c != '-' || !(valid.is_empty() || valid.ends_with('-')) {
            valid.push(c);
        }
    }
    if valid.starts_with(|c: char| c.is_ascii_digit()) {
        valid.insert_str(0, "model-");
    }
    valid.truncate(LONGEST);
    let valid = valid.trim_end_matches('-');
    if valid.is_empty() { "model".to_owned() } else { valid.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table() {
        let check = |name: &str, expected: &str| assert_eq!(valid(name), expected);
        check("iris", "iris");
        check("Iris_Logistic v2.1", "iris-logistic-v2-1");
        check("resnet50", "resnet50");
        check("50-resnet", "model-50-resnet");
        check("--a--b--", "a-b");
        check("日本", "model");
        check("", "model");
        check(&"x".repeat(80), &"x".repeat(52));
    }

    proptest! {
        #[test]
        fn every_name_becomes_valid(name in "\\PC{0,80}") {
            let valid = valid(&name);
            prop_assert!(valid.starts_with(|c: char| c.is_ascii_lowercase()));
            prop_assert!(!valid.ends_with('-') && valid.len() <= LONGEST);
            prop_assert!(valid.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            prop_assert_eq!(super::valid(&valid), valid);
        }
    }
}
