//! What the fuzz target does: reads any bytes, runs all rules, and makes all changes they offer.

use crate::edit::{Edit, apply};
use crate::settings::Settings;
use crate::yaml::{Documents, Source};

/// Checks bytes of any origin.
///
/// # Panics
///
/// If a finding lies outside of the text. Nothing else may.
pub fn lint(data: &[u8]) {
    let Ok(source) = Source::from_bytes("fuzz.yaml", data.to_vec()) else { return };
    let documents = Documents::read(vec![source.clone()]);
    let findings = crate::lint(&documents, &Settings::default());
    for finding in &findings {
        let inside = finding.span.end as usize <= source.text.len();
        assert!(inside, "{} points outside of the text", finding.rule);
    }
    let edits: Vec<&[Edit]> = findings
        .iter()
        .map(|finding| finding.edits.as_slice())
        .filter(|edits| !edits.is_empty())
        .collect();
    let _ = apply(&source, &edits);
}
