//! `cargo xtask bench lint`: the linter with all rules against kube-score, on one generated bundle
//! whose objects refer to one another.
//!
//! What kube-score does grows with the square of what stands in one namespace, so two bundles are
//! measured: one of teams with a namespace each, and one where all share a namespace.
//!
//! Both may use all cores; beside the time on the clock stands the processor time, which other work
//! on the machine disturbs less, and by which ours is told for one core.
//!
//! Ours is the library's example program, which reads a file, runs every rule and prints what it
//! finds. Larger bundles show that its time and memory grow in proportion.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::bundle::{self, Shape};
use crate::cluster::build::Build;
use crate::paths;
use crate::run::build_release;

#[derive(Args)]
pub(crate) struct Lint {
    /// Documents of the bundle that both read
    #[arg(long, default_value_t = 10_000)]
    documents: usize,
    /// Documents of the largest bundle that ours reads, to see how it grows
    #[arg(long, default_value_t = 100_000)]
    most: usize,
    /// Runs of ours for each size; the fastest is shown, the others were disturbed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What the bundles look like, and their names.
const SHAPES: [(Shape, &str); 2] = [(Shape::Teams, "teams"), (Shape::Crowd, "crowd")];

/// One run of ours.
struct Measured {
    documents: usize,
    bytes: u64,
    /// Processor time of all its threads, the kernel's for it included.
    took: Duration,
    /// On the clock.
    waited: Duration,
    findings: usize,
    /// Bytes of memory at most.
    peak: u64,
}

impl Measured {
    fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64()
    }
}

impl Lint {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        build_release(&["--package", "trainyard-rules", "--example", "lint"])?;
        let ours = paths::target().join("release/examples/lint");
        let scratch = tempfile::tempdir()?;
        println!(
            "| bundle | documents | MB | seconds | CPU s | MB/CPU s | findings | peak memory (MB) | KB a document |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        let mut same = Vec::new();
        for (shape, name) in SHAPES {
            let mut sizes = vec![self.documents];
            sizes.extend([2, 5, 10].map(|factor| self.most * factor / 10));
            sizes.sort_unstable();
            sizes.dedup();
            for documents in sizes {
                let file = write(scratch.path(), documents, shape, name)?;
                let measured = best(&ours, &file, documents, self.rounds)?;
                println!(
                    "| {name} | {} | {:.1} | {:.3} | {:.3} | {:.1} | {} | {:.0} | {:.1} |",
                    measured.documents,
                    measured.bytes as f64 / 1e6,
                    measured.waited.as_secs_f64(),
                    measured.took.as_secs_f64(),
                    measured.megabytes_per_second(),
                    measured.findings,
                    measured.peak as f64 / 1e6,
                    measured.peak as f64 / 1e3 / measured.documents as f64,
                );
                if documents == self.documents {
                    same.push((name, measured, file));
                }
            }
        }
        let score = Build::kube_score().program("kube-score")?;
        println!("\n| what | ours | yardstick | ratio | goal |\n|---|---|---|---|---|");
        for (name, measured, file) in same {
            let before = children_time()?;
            let start = Instant::now();
            let status = Command::new(&score)
                .args(["score", "--output-format", "ci"])
                .arg(file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .context("cannot start kube-score")?;
            let waited = start.elapsed();
            let peer = children_time()?.saturating_sub(before);
            // 1: it found something, which it should.
            if !matches!(status.code(), Some(0 | 1)) {
                bail!("kube-score failed: {status}");
            }
            let rows = [
                ("seconds", measured.waited, waited, "≥ 100"),
                ("CPU s", measured.took, peer, "–"),
            ];
            for (unit, ours, theirs, goal) in rows {
                println!(
                    "| lint, {} documents, {name} ({unit}) | {:.3} | kube-score {:.1} | {:.0} | {goal} |",
                    measured.documents,
                    ours.as_secs_f64(),
                    theirs.as_secs_f64(),
                    theirs.as_secs_f64() / ours.as_secs_f64(),
                );
            }
            println!(
                "| lint, {name}, one core (MB/s) | {:.1} | – | – | ≥ 8 |",
                measured.megabytes_per_second()
            );
        }
        Ok(())
    }
}

fn write(folder: &Path, documents: usize, shape: Shape, name: &str) -> anyhow::Result<PathBuf> {
    let file = folder.join(format!("{name}-{documents}.yaml"));
    fs::write(&file, bundle::generate(documents, shape))?;
    Ok(file)
}

/// Processor time of all programs that this one started and that have ended. On a machine with
/// other work, time on the clock says more of that work than of the linters.
fn children_time() -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/self/stat").context("cannot read processor times")?;
    // Fields 16 and 17 (proc_pid_stat(5)); the name in field 2 may hold blanks.
    let fields: Vec<&str> =
        text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let (user, system) = ticks(16).zip(ticks(17)).context("/proc/self/stat is cut short")?;
    Ok(Duration::from_secs_f64(
        (user + system) as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// The fastest of some runs.
fn best(program: &Path, file: &Path, documents: usize, rounds: usize) -> anyhow::Result<Measured> {
    let mut best: Option<Measured> = None;
    for _ in 0..rounds.max(1) {
        let before = children_time()?;
        let start = Instant::now();
        let output = Command::new(program)
            .arg(file)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let waited = start.elapsed();
        let took = children_time()?.saturating_sub(before);
        if !output.status.success() {
            bail!("{} failed: {}", program.display(), String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let peak = text
            .lines()
            .find_map(|line| line.strip_prefix("peak memory: ")?.strip_suffix(" KiB"))
            .and_then(|number| number.parse::<u64>().ok())
            .context("the program does not say how much memory it took")?;
        let measured = Measured {
            documents,
            bytes: fs::metadata(file)?.len(),
            took,
            waited,
            // The last two lines are no findings.
            findings: text.lines().count().saturating_sub(2),
            peak: peak * 1024,
        };
        if best.as_ref().is_none_or(|best| measured.waited < best.waited) {
            best = Some(measured);
        }
    }
    best.context("no run")
}
