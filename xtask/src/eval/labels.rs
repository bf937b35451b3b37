//! Findings that a person looked at: `crates/rules/labels/*.tsv`.
//!
//! Columns: rule, path in the corpus, line, object, `true` or `false`, note. Lines that start with
//! `#` are comments.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, bail};

use crate::paths;

/// What a finding is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub rule: String,
    /// In the corpus: `manifests/…`.
    pub path: String,
    pub line: usize,
}

/// Verdicts by finding: whether it is right.
pub(super) fn read() -> anyhow::Result<BTreeMap<Key, bool>> {
    let folder = paths::root().join("crates/rules/labels");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "tsv"))
        .collect();
    files.sort();
    let mut labels = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        for (at, line) in text.lines().enumerate() {
            let label = parse(line).with_context(|| format!("{}:{}", file.display(), at + 1))?;
            labels.extend(label);
        }
    }
    Ok(labels)
}

fn parse(line: &str) -> anyhow::Result<Option<(Key, bool)>> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let columns: Vec<&str> = line.split('\t').collect();
    let [rule, path, line, _object, verdict, ..] = columns.as_slice() else {
        bail!(
            "a label has the columns rule, path, line, object, verdict and note, with tabs between"
        );
    };
    let verdict = match *verdict {
        "true" => true,
        "false" => false,
        other => bail!("the verdict is `true` or `false`, not `{other}`"),
    };
    let line = line.parse().with_context(|| format!("`{line}` is no line"))?;
    let (rule, path) = ((*rule).to_owned(), (*path).to_owned());
    Ok(Some((Key { rule, path, line }, verdict)))
}

#[test]
fn labels_are_read() {
    assert!(parse("# rule\tpath").unwrap().is_none());
    let (key, verdict) = parse("GPU01\tmanifests/a.yaml\t7\tPod/a\ttrue\twhy").unwrap().unwrap();
    assert_eq!((key.rule.as_str(), key.path.as_str(), key.line), ("GPU01", "manifests/a.yaml", 7));
    assert!(verdict);
    assert!(parse("GPU01\tx\t7\tPod/a\tmaybe").is_err());
    assert!(parse("GPU01,x,7").is_err());
}

#[test]
fn all_label_files_can_be_read() {
    read().unwrap();
}
