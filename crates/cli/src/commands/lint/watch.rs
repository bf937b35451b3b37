//! `--watch`: checks again whenever a file changes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use miette::miette;
use trainyard_rules::Settings;

use super::configuration::Configuration;
use super::{Lint, sources};

/// Looking at times of change costs a millisecond for a thousand files; notifications of file
/// systems do not reach mounted folders, which is where people edit.
const INTERVAL: Duration = Duration::from_millis(400);

/// Runs until the process is told to end.
pub(super) fn watch(
    lint: &Lint,
    configuration: &Configuration,
    settings: &Settings,
) -> miette::Result<ExitCode> {
    if lint.paths.iter().any(|path| path.as_os_str() == "-") {
        return Err(miette!("standard input cannot be watched"));
    }
    let mut before = None;
    loop {
        // A file may be gone for a moment while an editor replaces it.
        if let Ok(now) = stamps(lint, configuration)
            && before.as_ref() != Some(&now)
        {
            match lint.check(configuration, settings) {
                Ok(outcome) => lint.report(&outcome)?,
                Err(error) => eprintln!("{error:?}"),
            }
            before = Some(now);
        }
        sleep(INTERVAL);
    }
}

/// Sizes and times of change of all files that are read.
fn stamps(
    lint: &Lint,
    configuration: &Configuration,
) -> miette::Result<BTreeMap<PathBuf, (u64, Option<SystemTime>)>> {
    let files = sources::files(&lint.paths, configuration)?;
    Ok(files
        .into_iter()
        .filter_map(|path| {
            let metadata = std::fs::metadata(&path).ok()?;
            Some((path, (metadata.len(), metadata.modified().ok())))
        })
        .collect())
}
