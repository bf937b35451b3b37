//! `trainyard logs`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use miette::{IntoDiagnostic, miette};

use super::supervisor::State;
use crate::print::print;

/// Show what replicas have printed, also those that have ended
#[derive(Args)]
pub(crate) struct Logs {
    /// The service
    name: String,
    /// Go on as more is printed
    #[arg(short, long)]
    follow: bool,
    /// Of this replica only
    #[arg(long)]
    replica: Option<String>,
    /// At most so many of each replica's last lines
    #[arg(short = 'n', long, default_value_t = 100)]
    lines: usize,
    #[command(flatten)]
    state: State,
}

const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Logs {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let folder = self.state.open()?.logs(&self.name);
        let files = self.files(&folder);
        if files.is_empty() && !self.follow {
            return Err(match &self.replica {
                Some(replica) => {
                    miette!("there is no log of a replica `{replica}` of `{}`", self.name)
                }
                None => miette!("there is no log of a service `{}`", self.name),
            });
        }
        self.print(&folder)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Logs by the name of their replica.
    fn files(&self, folder: &Path) -> BTreeMap<String, PathBuf> {
        let Ok(listing) = fs::read_dir(folder) else { return BTreeMap::new() };
        let named = listing.flatten().filter_map(|entry| {
            let path = entry.path();
            // Older parts of a log are called `.log.1` and so on.
            let replica = path.file_name()?.to_str()?.strip_suffix(".log")?.to_owned();
            Some((replica, path))
        });
        named
            .filter(|(replica, _)| self.replica.as_ref().is_none_or(|only| only == replica))
            .collect()
    }

    fn print(&self, folder: &Path) -> miette::Result<()> {
        let mut read: BTreeMap<String, u64> = BTreeMap::new();
        let mut is_first = true;
        loop {
            let files = self.files(folder);
            let several = files.len() > 1 || self.follow && self.replica.is_none();
            for (replica, path) in files {
                let before = read.get(&replica).copied();
                let (bytes, position) = match read_from(&path, before.unwrap_or(0)) {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).into_diagnostic(),
                };
                let keep = if is_first { self.lines } else { usize::MAX };
                let prefix = if several { format!("{replica}  ") } else { String::new() };
                print(&last_lines(&bytes, keep, &prefix))?;
                read.insert(replica, position);
            }
            if !self.follow {
                return Ok(());
            }
            is_first = false;
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Whole lines from a position on, and the position after them.
fn read_from(path: &Path, position: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // A log that was set aside starts anew.
    let start = if position > length { 0 } else { position };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    bytes.truncate(whole);
    let read = u64::try_from(whole).unwrap_or(u64::MAX);
    Ok((bytes, start.saturating_add(read)))
}

/// The last so many lines, each with the prefix.
fn last_lines(bytes: &[u8], keep: usize, prefix: &str) -> Vec<u8> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let kept = lines.iter().skip(lines.len().saturating_sub(keep));
    kept.flat_map(|line| [prefix.as_bytes(), line]).collect::<Vec<_>>().concat()
}
