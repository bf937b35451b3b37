//! Findings that were there when the linter came, so that only new ones are told.

use std::collections::BTreeMap;
use std::path::Path;

use miette::miette;
use serde::{Deserialize, Serialize};
use trainyard_rules::Finding;

use super::{read_named, to_json};

/// A baseline file. Lines may move: a finding is known by rule, file, object and path.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    version: u32,
    /// How often each fingerprint is there.
    findings: BTreeMap<String, usize>,
}

/// What stays equal when lines move.
pub(super) fn fingerprint(finding: &Finding) -> String {
    format!("{}|{}|{}|{}", finding.rule, finding.file, finding.object, finding.path)
}

pub(super) fn write(path: &Path, findings: &[Finding]) -> miette::Result<()> {
    let mut counts = BTreeMap::new();
    for finding in findings {
        *counts.entry(fingerprint(finding)).or_insert(0) += 1;
    }
    let text = to_json(&Baseline { version: 1, findings: counts })?;
    std::fs::write(path, text).map_err(|error| miette!("cannot write {}: {error}", path.display()))
}

/// Findings beyond those in a file.
pub(super) fn leave_out(path: &Path, findings: Vec<Finding>) -> miette::Result<Vec<Finding>> {
    let mut known: Baseline = serde_json::from_str(&read_named(path)?)
        .map_err(|error| miette!("cannot use the baseline {}: {error}", path.display()))?;
    if known.version != 1 {
        let version = known.version;
        return Err(miette!(
            "{} is a baseline of version {version}, and this is 1",
            path.display()
        ));
    }
    Ok(findings
        .into_iter()
        .filter(|finding| match known.findings.get_mut(&fingerprint(finding)) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        })
        .collect())
}
