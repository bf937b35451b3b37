//! `trainyard plan`.

mod capacity;
mod simulate;
mod spot;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use miette::miette;

/// Plan clusters by simulation: how policies pack a workload, what it needs, and what spot saves
#[derive(Args)]
pub(crate) struct Plan {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Simulate(simulate::Simulate),
    Capacity(capacity::Capacity),
    Spot(spot::Spot),
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Table,
    Csv,
    Json,
}

impl Plan {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self.what {
            What::Simulate(command) => command.run(),
            What::Capacity(command) => command.run(),
            What::Spot(command) => command.run(),
        }
    }
}

/// The largest file that is read: traces of a million pods have a tenth.
const MOST_BYTES: u64 = 1 << 30;

fn read(path: &Path) -> miette::Result<Vec<u8>> {
    let shown = path.display();
    let size = std::fs::metadata(path)
        .map_err(|error| miette!("reading {shown} failed: {error}; check the path"))?
        .len();
    if size > MOST_BYTES {
        return Err(miette!("{shown} has {size} bytes, more than the {MOST_BYTES} that are read"));
    }
    std::fs::read(path).map_err(|error| miette!("reading {shown} failed: {error}"))
}

fn write(path: &Path, text: &str) -> miette::Result<()> {
    std::fs::write(path, text)
        .map_err(|error| miette!("writing {} failed: {error}", path.display()))
}

/// Rows as CSV; every field is a name or a number.
fn csv(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines = vec![header.join(",")];
    lines.extend(rows.iter().map(|row| {
        let fields = row.iter().map(|field| match field.contains([',', '"', '\n']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field.clone(),
        });
        fields.collect::<Vec<_>>().join(",")
    }));
    lines.join("\n")
}

/// Runs as many jobs at once as there are cores, and gives their results in order.
fn in_parallel<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len().max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { return done };
            done.push((at, work(job)));
        }
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers.into_iter().flat_map(|it| it.join().expect("the work does not panic")).collect()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[test]
fn results_keep_their_order() {
    let jobs: Vec<u64> = (0..100).collect();
    assert_eq!(in_parallel(&jobs, |job| job * 2), (0..100).map(|job| job * 2).collect::<Vec<_>>());
    assert!(in_parallel(&[] as &[u64], |job| *job).is_empty());
}

#[test]
fn fields_are_quoted_where_they_must() {
    let rows = vec![vec!["a,b".to_owned(), "say \"so\"".to_owned()]];
    assert_eq!(csv(&["x", "y"], &rows), "x,y\n\"a,b\",\"say \"\"so\"\"\"");
}
