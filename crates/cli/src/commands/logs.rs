//! `trainyard logs`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use miette::{IntoDiagnostic, miette};
use trainyard_api::scalar::Period;
use trainyard_operator::console::{Console, Containers, Kind, Line, LogRequest, unix_ms};

use super::output::ServiceName;
use super::place::{Here, Intent, Place, PlaceArgs, PlaceError};
use super::supervisor::block_on;
use crate::print::print;

/// Show what all replicas of a service print, or all workers of a job
///
/// On this machine also what those have printed that have ended; of a job, its newest run.
#[derive(Args)]
pub(crate) struct Logs {
    /// The service or job
    name: ServiceName,
    /// Go on as more is printed, also by replicas that start later
    #[arg(short, long)]
    follow: bool,
    /// Of this replica or worker only
    #[arg(long, value_name = "REPLICA")]
    replica: Option<String>,
    /// At most so many of each replica's last lines; -1 for all
    #[arg(
        long,
        visible_alias = "lines",
        default_value_t = 100,
        value_name = "N",
        allow_negative_numbers = true
    )]
    tail: i64,
    /// Only what was printed in this time, such as 5m
    #[arg(long, value_name = "TIME")]
    since: Option<Period>,
    /// Of the container that ran before the present one
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Of this container, such as `fetch-model` [default: the server, or a job's program]
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_containers")]
    container: Option<String>,
    /// Of all containers
    #[arg(long)]
    all_containers: bool,
    /// Begin each line with its time, in a cluster
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Logs {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        block_on(self.answer())?
    }

    async fn answer(self) -> miette::Result<ExitCode> {
        let place = self.place.open(Intent::LOOK).await?;
        let one_file = "a replica has one log, with all of its starts";
        for (flag, is_used) in [
            ("--previous", self.previous),
            ("--container", self.container.is_some()),
            ("--all-containers", self.all_containers),
            ("--timestamps", self.timestamps),
        ] {
            if is_used {
                place.refuse(flag, one_file)?;
            }
        }
        match &place {
            Place::Here(here) => self.here(here).await?,
            Place::Cluster(console) => {
                let (_, jobs) = place.by_kind(std::slice::from_ref(&self.name)).await?;
                let of = if jobs.is_empty() { Kind::ModelService } else { Kind::TrainingJob };
                self.in_cluster(&console.of(of)).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn in_cluster(&self, console: &Console) -> miette::Result<()> {
        let request = LogRequest {
            service: self.name.0.clone(),
            replica: self.replica.clone(),
            containers: match (&self.container, self.all_containers) {
                (Some(name), _) => Containers::Named(name.clone()),
                (None, true) => Containers::All,
                (None, false) => Containers::Main,
            },
            follow: self.follow,
            previous: self.previous,
            tail: (self.tail >= 0).then_some(self.tail),
            since_seconds: self
                .since
                .map(|since| i64::try_from(since.0.as_secs()).unwrap_or(i64::MAX).max(1)),
            timestamps: self.timestamps,
        };
        let sources = console.sources(&request).await.map_err(PlaceError::from)?;
        if sources.is_empty() && !self.follow {
            return Err(self.no_source(&request));
        }
        let several_replicas = sources.len() > 1 || self.follow && self.replica.is_none();
        let several_containers = self.all_containers;
        let mut failed = None;
        let take = |line: Line| match line {
            Line::Note(note) => {
                eprintln!("{note}");
                true
            }
            Line::Printed { replica, container, bytes } => {
                let prefix = match (several_replicas, several_containers) {
                    (_, true) => format!("{replica}/{container}  "),
                    (true, false) => format!("{replica}  "),
                    (false, false) => String::new(),
                };
                let printed = print(&[prefix.as_bytes(), &bytes].concat());
                failed = printed.err();
                failed.is_none()
            }
        };
        console.logs(&request, take).await.map_err(PlaceError::from)?;
        failed.map_or(Ok(()), Err)
    }

    fn no_source(&self, request: &LogRequest) -> miette::Report {
        let name = &self.name.0;
        match (&request.replica, &request.containers) {
            (Some(replica), _) => miette!(
                help = format!("`trainyard describe {name}` lists its replicas"),
                "there is no replica `{replica}` of `{name}`"
            ),
            (None, Containers::Named(container)) => miette!(
                help = "`server` serves, and `fetch-model` fetches the model where it is not on a volume",
                "no replica of `{name}` has a container `{container}`"
            ),
            (None, _) => miette!(
                help = format!("`trainyard describe {name}` tells why"),
                "`{name}` has no replicas"
            ),
        }
    }

    async fn here(&self, here: &Here) -> miette::Result<()> {
        let folder = here.state.open()?.logs(&self.name.0);
        let run = here.newest_run(&self.name.0)?;
        let of_run = run.map(|run| format!("{}-{run}-", self.name.0));
        let files = self.files(&folder, of_run.as_deref());
        if files.is_empty() && !self.follow {
            here.find(&self.name.0)?;
            return Err(match &self.replica {
                Some(replica) => {
                    miette!("there is no log of a replica `{replica}` of `{}`", self.name.0)
                }
                None => miette!("there is no log of a service `{}`", self.name.0),
            });
        }
        self.print_files(&folder, of_run.as_deref()).await
    }

    /// Logs by the name of their replica.
    fn files(&self, folder: &Path, of_run: Option<&str>) -> BTreeMap<String, PathBuf> {
        let Ok(listing) = fs::read_dir(folder) else { return BTreeMap::new() };
        let named = listing.flatten().filter_map(|entry| {
            let path = entry.path();
            // Older parts of a log are called `.log.1` and so on.
            let replica = path.file_name()?.to_str()?.strip_suffix(".log")?.to_owned();
            Some((replica, path))
        });
        named
            .filter(|(replica, _)| match &self.replica {
                Some(only) => only == replica,
                None => of_run.is_none_or(|run| replica.starts_with(run)),
            })
            .collect()
    }

    async fn print_files(&self, folder: &Path, of_run: Option<&str>) -> miette::Result<()> {
        let mut read: BTreeMap<String, u64> = BTreeMap::new();
        let mut is_first = true;
        let tail = usize::try_from(self.tail).unwrap_or(usize::MAX);
        let since_ms = self.since.and_then(|since| {
            let then = SystemTime::now().checked_sub(since.0)?;
            let then = then.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            i64::try_from(then.as_millis()).ok()
        });
        loop {
            let files = self.files(folder, of_run);
            let several = files.len() > 1 || self.follow && self.replica.is_none();
            for (replica, path) in files {
                let before = read.get(&replica).copied();
                let (bytes, position) = match read_from(&path, before.unwrap_or(0)) {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).into_diagnostic(),
                };
                let keep = if is_first { tail } else { usize::MAX };
                let bytes = match since_ms.filter(|_| is_first) {
                    Some(since_ms) => newer(&bytes, since_ms),
                    None => &bytes,
                };
                let prefix = if several { format!("{replica}  ") } else { String::new() };
                print(&last_lines(bytes, keep, &prefix))?;
                read.insert(replica, position);
            }
            if !self.follow {
                return Ok(());
            }
            is_first = false;
            tokio::time::sleep(LOOK_EVERY).await;
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

/// The lines from the first one on that says a later time. A program that does not log the time
/// is shown whole: nobody knows when it said what.
fn newer(bytes: &[u8], since_ms: i64) -> &[u8] {
    let mut at = 0;
    let mut says_times = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Some(time) = time_of(line) {
            if time >= since_ms {
                return bytes.get(at..).unwrap_or_default();
            }
            says_times = true;
        }
        at += line.len();
    }
    if says_times { &[] } else { bytes }
}

/// The time of a line of JSON, as our own servers write it.
fn time_of(line: &[u8]) -> Option<i64> {
    let line: serde_json::Value = serde_json::from_slice(line).ok()?;
    unix_ms(line["timestamp"].as_str()?)
}

/// The last so many lines, each with the prefix.
fn last_lines(bytes: &[u8], keep: usize, prefix: &str) -> Vec<u8> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let kept = lines.iter().skip(lines.len().saturating_sub(keep));
    kept.flat_map(|line| [prefix.as_bytes(), line]).collect::<Vec<_>>().concat()
}

#[test]
fn lines_since_a_time() {
    let line = |second: u32| format!("{{\"timestamp\":\"1970-01-01T00:00:{second:02}Z\"}}\n");
    let log = format!("start\n{}trace\n{}more\n", line(1), line(5));
    let of = |ms| String::from_utf8_lossy(newer(log.as_bytes(), ms)).into_owned();
    assert_eq!(of(0), format!("{}trace\n{}more\n", line(1), line(5)));
    assert_eq!(of(2000), format!("{}more\n", line(5)));
    assert_eq!(of(9000), "");
    assert_eq!(newer(b"plain\n", 9000), b"plain\n");
    assert_eq!(last_lines(b"a\nb\nc\n", 2, "r  "), b"r  b\nr  c\n");
}
