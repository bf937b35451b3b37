//! `--fix` and `--diff`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use miette::miette;
use trainyard_rules::edit::{Edit, apply};
use trainyard_rules::{Documents, Finding, Settings, Source};

use super::{Lint, Outcome, baseline, count};
use crate::print::print;

/// Rounds of mending: one fix may make room for another, and each round costs a whole check.
const MOST_ROUNDS: usize = 8;

/// Mends what is found, and reports what is left.
pub(super) fn fix(lint: &Lint, settings: &Settings, outcome: Outcome) -> miette::Result<ExitCode> {
    let before: Vec<Source> = sources(&outcome.documents);
    let (after, left) = mend(lint, settings, before.clone(), outcome.findings)?;
    let changed: Vec<(&Source, &Source)> =
        before.iter().zip(&after).filter(|(old, new)| old.text != new.text).collect();
    if lint.diff {
        let mut text = String::new();
        for (old, new) in &changed {
            text.push_str(&difference(&old.name, &old.text, &new.text));
        }
        print(text.as_bytes())?;
        let code = if !outcome.errors.is_empty() { 2 } else { u8::from(!changed.is_empty()) };
        return Ok(ExitCode::from(code));
    }
    for (_, new) in &changed {
        if new.name == "-" {
            print(new.text.as_bytes())?;
        } else {
            std::fs::write(&new.name, &new.text)
                .map_err(|error| miette!("cannot write {}: {error}", new.name))?;
        }
    }
    if after.iter().any(|source| source.name == "-") {
        // The text went to standard output, changed or not; a report would spoil it.
        if changed.is_empty() {
            let input = after.iter().find(|source| source.name == "-");
            print(input.map_or("", |source| source.text.as_str()).as_bytes())?;
        }
        return Ok(lint.exit_code(&left, &outcome.errors));
    }
    eprintln!("{} mended", count(changed.len(), "file"));
    let outcome =
        Outcome { documents: Documents::read(after), findings: left, errors: outcome.errors };
    lint.report(&outcome)?;
    Ok(lint.exit_code(&outcome.findings, &outcome.errors))
}

fn sources(documents: &Documents) -> Vec<Source> {
    documents
        .files
        .iter()
        .map(|file| Source { name: file.name.clone(), text: file.text.clone() })
        .collect()
}

/// Applies edits until none is left that can be made.
fn mend(
    lint: &Lint,
    settings: &Settings,
    mut texts: Vec<Source>,
    mut findings: Vec<Finding>,
) -> miette::Result<(Vec<Source>, Vec<Finding>)> {
    for _ in 0..MOST_ROUNDS {
        let mut by_file: BTreeMap<usize, Vec<&[Edit]>> = BTreeMap::new();
        for finding in findings.iter().filter(|finding| !finding.edits.is_empty()) {
            by_file.entry(finding.file_index).or_default().push(&finding.edits);
        }
        let mut changed = false;
        for (file, groups) in by_file {
            let Some(source) = texts.get_mut(file) else { continue };
            if let Some(text) = apply(source, &groups) {
                source.text = text;
                changed = true;
            }
        }
        if !changed {
            break;
        }
        let documents = Documents::read(texts.clone());
        findings = trainyard_rules::lint(&documents, settings);
        if let Some(path) = &lint.baseline {
            findings = baseline::leave_out(path, findings)?;
        }
    }
    Ok((texts, findings))
}

/// A unified difference with three lines around each change, as `patch` reads it.
fn difference(name: &str, old: &str, new: &str) -> String {
    let name = name.trim_start_matches("./");
    similar::TextDiff::from_lines(old, new)
        .unified_diff()
        .context_radius(3)
        .header(&format!("a/{name}"), &format!("b/{name}"))
        .to_string()
}
