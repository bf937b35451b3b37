//! All diagnoses in the order of the decision tree; each step's `mod.rs` has one line for each.

use std::sync::LazyLock;

use crate::diagnosis::Diagnosis;
use crate::{node, placement, run, slow, start};

static ALL: LazyLock<Vec<&'static Diagnosis>> = LazyLock::new(|| {
    let mut all: Vec<&'static Diagnosis> = Vec::new();
    all.extend(placement::DIAGNOSES);
    all.extend(start::DIAGNOSES);
    all.extend(run::DIAGNOSES);
    all.extend(slow::DIAGNOSES);
    all.extend(node::DIAGNOSES);
    all
});

/// All diagnoses.
#[must_use]
pub fn all() -> &'static [&'static Diagnosis] {
    &ALL
}

/// The diagnosis with an identifier, written in either case.
#[must_use]
pub fn find(id: &str) -> Option<&'static Diagnosis> {
    all().iter().copied().find(|diagnosis| diagnosis.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fifty_six_are_there_and_say_what_they_must() {
        let ids: Vec<&str> = all().iter().map(|it| it.id).collect();
        let expected: Vec<String> = (1..=56).map(|number| format!("D{number:02}")).collect();
        assert_eq!(ids, expected);
        for it in all() {
            assert!(!it.title().is_empty() && !it.title().ends_with('.'), "{}", it.id);
            for part in ["## Signature", "## Cause", "## How to mend it"] {
                assert!(it.body().contains(part), "{} lacks {part}", it.id);
            }
            assert!(!it.source.is_empty(), "{}", it.id);
            for rule in it.rules {
                assert!(
                    trainyard_rules::registry::find(rule).is_some(),
                    "{}: no rule {rule}",
                    it.id
                );
            }
            for other in it.yields_to {
                assert!(find(other).is_some() && *other != it.id, "{}: {other}", it.id);
            }
        }
        assert_eq!(find("d07").map(|it| it.id), Some("D07"));
    }
}
