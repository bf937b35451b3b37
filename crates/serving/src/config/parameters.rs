//! What the free `parameters` of a configuration say to this server.

use std::collections::BTreeMap;

use super::did_you_mean;
use super::model::ModelConfig;
use super::place::Origin;

/// Threads of one inference.
const INTRA_OP: &str = "intra_op_thread_count";
/// Labels of versions, `name=version` with commas between: Triton's configuration has no field.
const LABELS: &str = "version_labels";

/// Parameters that have an effect.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Parameters {
    /// `None` shares the engine's threads.
    pub(crate) intra_op_threads: Option<usize>,
    pub(crate) version_labels: BTreeMap<String, u64>,
}

impl Parameters {
    pub(super) fn read(
        config: &ModelConfig,
        origin: &Origin,
        problems: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Self {
        let mut read = Self::default();
        for (key, parameter) in &config.parameters {
            let path = format!("parameters[{key}]");
            let text = parameter.string_value.trim();
            match key.as_str() {
                INTRA_OP => match text.parse::<usize>() {
                    // Triton's default, which leaves it to the engine.
                    Ok(0) => {}
                    Ok(threads) => read.intra_op_threads = Some(threads),
                    Err(_) => problems.push(
                        origin.field(&path, &format!("expected a number of threads, got {text:?}")),
                    ),
                },
                LABELS => match parse_labels(text) {
                    Ok(labels) => read.version_labels = labels,
                    Err(message) => problems.push(origin.field(&path, &message)),
                },
                other => {
                    let hint = did_you_mean(other, [INTRA_OP, LABELS]);
                    let message = format!("is not supported and has no effect{hint}");
                    warnings.push(origin.field(&path, &message));
                }
            }
        }
        read
    }
}

fn parse_labels(text: &str) -> Result<BTreeMap<String, u64>, String> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let wrong = || format!("expected 'label=version' with commas between, got {pair:?}");
        let (label, version) = pair.split_once('=').ok_or_else(wrong)?;
        let label = label.trim();
        let version = version.trim().parse().map_err(|_| wrong())?;
        // A version's number as a label would be ambiguous in requests.
        if label.is_empty() || label.parse::<u64>().is_ok() {
            return Err(wrong());
        }
        if labels.insert(label.to_owned(), version).is_some() {
            return Err(format!("the label '{label}' is given twice"));
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let check = |text: &str, want: Result<&[(&str, u64)], &str>| {
            let got = parse_labels(text);
            match want {
                Ok(pairs) => {
                    let want = pairs.iter().map(|(label, it)| ((*label).to_owned(), *it)).collect();
                    assert_eq!(got, Ok(want), "{text}");
                }
                Err(part) => assert!(got.expect_err(text).contains(part), "{text}"),
            }
        };
        check("", Ok(&[]));
        check("stable=1, canary=12,", Ok(&[("stable", 1), ("canary", 12)]));
        check("stable", Err("label=version"));
        check("stable=x", Err("stable=x"));
        check("7=1", Err("7=1"));
        check("a=1,a=2", Err("twice"));
    }
}
