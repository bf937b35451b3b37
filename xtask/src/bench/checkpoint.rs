//! `cargo xtask bench checkpoint`: saving and restoring a checkpoint, to a folder and to MinIO, against
//! rclone with as many transfers, and plain reading and writing of the same bytes; and what busy
//! processes lose while checkpoints are uploaded beside them. Then what several workers gain that
//! restore together from a store whose bandwidth they share.
//!
//! Everything that writes files is timed until the disk has them, with a `sync` behind what does not wait for
//! that, which is rclone. Restoring is timed until the files can be read, too, for which alone a program
//! waits. rclone does both in one; ours is two ways: agents restore until files can be read, and
//! `checkpoints pull` until the disk has them. What is read was dropped from the page cache before.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use super::load::median;
use super::server::{Server, free_address};
use crate::cluster::build::Build;
use crate::paths;
use crate::run::{build_release, run};

#[derive(Args)]
pub(crate) struct Checkpoint {
    /// Size of the checkpoint, in MiB, in four files
    #[arg(long, default_value_t = 2048)]
    mebibytes: u64,
    /// Rounds of each; the median is shown
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Busy threads beside the upload [default: the machine's cores]
    #[arg(long)]
    busy: Option<usize>,
    /// Workers that restore together
    #[arg(long, default_value_t = 4)]
    workers: u32,
    /// What the store sends to all of them, in MB/s
    #[arg(long, default_value_t = 100)]
    store_rate: u64,
    /// Measure these workers only, which needs neither rclone nor MinIO
    #[arg(long)]
    together: bool,
    /// Folder on the disk to measure [default: the system's for temporary files]
    #[arg(long)]
    scratch: Option<std::path::PathBuf>,
}

const FILES: u64 = 4;
const USER: &str = "minioadmin";
const SECRET: &str = "minioadmin-secret";
/// What is measured, of ours and of rclone.
const ROWS: [&str; 6] = [
    "save to a folder",
    "restore from a folder, until it can be read",
    "restore from a folder, until the disk has it",
    "save to MinIO",
    "restore from MinIO, until it can be read",
    "restore from MinIO, until the disk has it",
];

impl Checkpoint {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        build_release(&["--package", "trainyard-checkpoint", "--example", "transfer"])?;
        build_release(&["--package", "trainyard-agent", "--example", "together"])?;
        let ours = paths::target().join("release/examples/transfer");
        if self.together {
            return self.restore_together(&ours, self.scratch()?.path());
        }
        let peer = Command::new("rclone").arg("version").stdout(Stdio::null()).status();
        if !peer.is_ok_and(|status| status.success()) {
            bail!("rclone is needed: apt install rclone");
        }
        let scratch = self.scratch()?;
        let root = scratch.path();
        let source = root.join("source");
        make(&source.join("step-1"), self.mebibytes)?;

        let minio = Build::minio().program("minio")?;
        let (address, console) = (free_address()?, free_address()?);
        let mut command = Command::new(minio);
        command
            .args(["server", "--quiet", "--address", &address.to_string()])
            .args(["--console-address", &console.to_string()])
            .arg(root.join("minio"))
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", SECRET)
            .env("HOME", root);
        let minio = Server::start(&mut command, address, "/minio/health/live", &root.join("log"))?;
        let endpoint = minio.url("");
        timed(&mut rclone(&endpoint, &["mkdir", "s3:bucket"]))?;

        println!(
            "| what ({} MiB) | ours (MB/s) | rclone | raw disk | of rclone | of raw disk |",
            self.mebibytes
        );
        println!("|---|---|---|---|---|---|");
        let folders = ["ours", "peer", "raw", "back"].map(|name| root.join(name));
        let [here, there, raw, back] = &folders;
        let mut figures = vec![Vec::new(); 2 * ROWS.len()];
        let [mut copied, mut verified, mut written] = [const { Vec::new() }; 3];
        let path = |path: &Path| path.display().to_string();
        // Of ours: until it can be read, and in the row after it until the disk has it.
        let restore = |measure: &mut dyn FnMut(usize, f64), place, store: &str, folder: &Path| {
            for (row, way) in ["restore", "pull"].into_iter().enumerate() {
                clear(std::slice::from_ref(back))?;
                drop_pages(folder)?;
                let words = [way, store, &path(back)];
                measure(place + 2 * row, told(&ours, &words, &endpoint)?);
            }
            anyhow::Ok(())
        };
        // The same of rclone's.
        let copy = |measure: &mut dyn FnMut(usize, f64), place, from: &str| {
            let readable = timed(&mut rclone(&endpoint, &["copy", from, &path(back)]))?;
            measure(place, readable);
            measure(place + 2, readable + sync(back)?);
            anyhow::Ok(())
        };
        for round in 0..self.rounds.max(1) {
            let store = format!("s3://bucket/ours-{round}");
            let remote = format!("s3:bucket/peer-{round}");
            let mut measure = |place: usize, seconds: f64| figures[place].push(self.rate(seconds));
            clear(&folders)?;
            written.push(self.rate(write_raw(&source.join("step-1"), raw)?));
            // A disk may be slower after much work: each comes first in some rounds.
            for turn in turns(round) {
                clear(std::slice::from_ref(raw))?;
                drop_pages(&source)?;
                match turn {
                    Turn::Ours => {
                        measure(0, told(&ours, &["save", &path(&source), &path(here)], &endpoint)?)
                    }
                    Turn::Peer => {
                        let mut copy = rclone(&endpoint, &["copy", &path(&source), &path(there)]);
                        measure(1, timed(&mut copy)? + sync(there)?);
                    }
                    Turn::Raw => {
                        verified.push(self.rate(copy_raw(&source.join("step-1"), raw, true)?))
                    }
                }
            }
            for turn in turns(round) {
                clear(&[raw.clone(), back.clone()])?;
                for folder in [&source, here, there] {
                    drop_pages(folder)?;
                }
                match turn {
                    Turn::Ours => restore(&mut measure, 2, &path(here), here)?,
                    Turn::Peer => copy(&mut measure, 3, &path(there))?,
                    Turn::Raw => {
                        copied.push(self.rate(copy_raw(&source.join("step-1"), raw, false)?))
                    }
                }
            }
            for turn in turns(round) {
                clear(&folders)?;
                drop_pages(&source)?;
                match turn {
                    Turn::Ours => {
                        measure(6, told(&ours, &["save", &path(&source), &store], &endpoint)?)
                    }
                    Turn::Peer => measure(
                        7,
                        timed(&mut rclone(&endpoint, &["copy", &path(&source), &remote]))?,
                    ),
                    Turn::Raw => {}
                }
            }
            for turn in turns(round) {
                clear(&folders)?;
                drop_pages(&root.join("minio"))?;
                match turn {
                    Turn::Ours => restore(&mut measure, 8, &store, &root.join("minio"))?,
                    Turn::Peer => copy(&mut measure, 9, &remote)?,
                    Turn::Raw => {}
                }
            }
            clear(&folders)?;
            timed(&mut rclone(&endpoint, &["purge", "s3:bucket"]))?;
            timed(&mut rclone(&endpoint, &["mkdir", "s3:bucket"]))?;
        }
        let figures: Vec<f64> = figures.into_iter().map(median).collect();
        let [copied, verified, written] = [copied, verified, written].map(median);
        // A folder is read back when it was written, as the promise is that the disk has what it was given.
        let raw = [Some(verified), None, Some(copied), Some(copied), None, Some(copied)];
        for (row, (name, raw)) in ROWS.into_iter().zip(raw).enumerate() {
            let (ours, peer) = (figures[2 * row], figures[2 * row + 1]);
            let [raw, of_raw] = raw.map_or_else(Default::default, |raw| {
                [format!("{raw:.0}"), format!("{:.2}", ours / raw)]
            });
            println!("| {name} | {ours:.0} | {peer:.0} | {raw} | {:.2} | {of_raw} |", ours / peer);
        }
        println!(
            "\nraw disk: {written:.0} MB/s written alone; {copied:.0} read and written; {verified:.0} read, \
             written and read back"
        );

        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for busy in [1, self.busy.unwrap_or(cores)] {
            clear(&folders)?;
            let count = busy.to_string();
            let words =
                ["beside", &source.display().to_string(), &here.display().to_string(), &count];
            let text = output(&ours, &words, &endpoint)?;
            let numbers: Vec<f64> =
                text.split_whitespace().filter_map(|it| it.parse().ok()).collect();
            let [alone, with, bytes] = numbers[..] else { bail!("it printed `{text}`") };
            println!(
                "{busy} busy threads on {cores} cores: {:.2} % less work while {:.0} MB were saved",
                100.0 * (1.0 - with / alone),
                bytes / 1e6
            );
        }
        clear(&folders)?;
        println!();
        self.restore_together(&ours, root)
    }

    fn scratch(&self) -> anyhow::Result<tempfile::TempDir> {
        Ok(match &self.scratch {
            Some(folder) => tempfile::tempdir_in(folder)?,
            None => tempfile::tempdir()?,
        })
    }

    /// Several workers from one store, each by itself and with peers.
    fn restore_together(&self, ours: &Path, root: &Path) -> anyhow::Result<()> {
        let together = paths::target().join("release/examples/together");
        // The store is slow; what a larger one takes follows.
        let mebibytes = self.mebibytes.min(512);
        let source = root.join("source-together");
        make(&source.join("step-1"), mebibytes)?;
        let [store, back] = ["shared", "together"].map(|name| root.join(name));
        let path = |path: &Path| path.display().to_string();
        told(ours, &["save", &path(&source), &path(&store)], "")?;
        let (workers, rate) = (self.workers.to_string(), self.store_rate.to_string());
        let (mut seconds, mut sent) = ([Vec::new(), Vec::new()], [0.0, 0.0]);
        for _ in 0..self.rounds.max(1) {
            for (place, from) in ["store", "peers"].into_iter().enumerate() {
                clear(std::slice::from_ref(&back))?;
                drop_pages(&store)?;
                let words: [&str; 5] = [&path(&store), &path(&back), &workers, &rate, from];
                let text = output(&together, &words, "")?;
                let numbers: Vec<f64> =
                    text.split_whitespace().filter_map(|it| it.parse().ok()).collect();
                let [took, bytes] = numbers[..] else { bail!("it printed `{text}`") };
                seconds[place].push(took);
                sent[place] = bytes;
            }
        }
        let [alone, peers] = seconds.map(median);
        println!(
            "{workers} workers, {mebibytes} MiB, a store of {rate} MB/s: {alone:.1} s and {:.0} MB sent without peers, {peers:.1} s and {:.0} MB with them: {:.2} times as fast, {:.2} of the bytes",
            sent[0],
            sent[1],
            alone / peers,
            sent[1] / sent[0]
        );
        Ok(())
    }

    /// MB/s.
    fn rate(&self, seconds: f64) -> f64 {
        (self.mebibytes << 20) as f64 / 1e6 / seconds
    }
}

/// Whose turn it is.
#[derive(Clone, Copy)]
enum Turn {
    Raw,
    Ours,
    Peer,
}

/// One round, which others begin than the one before.
fn turns(round: usize) -> [Turn; 3] {
    let mut turns = [Turn::Raw, Turn::Ours, Turn::Peer];
    turns.rotate_left(round % 3);
    turns
}

/// A checkpoint of files that do not compress and share nothing.
fn make(folder: &Path, mebibytes: u64) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut random = File::open("/dev/urandom")?;
    for index in 0..FILES {
        let mut file = File::create(folder.join(format!("shard-{index}")))?;
        std::io::copy(&mut Read::by_ref(&mut random).take((mebibytes << 20) / FILES), &mut file)?;
        file.sync_all()?;
    }
    Ok(fs::write(folder.join("_SUCCESS"), "")?)
}

fn clear(folders: &[std::path::PathBuf]) -> anyhow::Result<()> {
    for folder in folders {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    // Deleting is work for the disk, too.
    rustix::fs::sync();
    touch_memory();
    Ok(())
}

/// Takes as much memory as any of these fills, and gives it back. A virtual machine gives what is free to
/// its host, and its next use costs several times as much: whoever happens to come after a pause would
/// be told to be slow.
fn touch_memory() {
    const MOST: u64 = 8 << 30;
    const PAGE: usize = 4096;
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let bytes = (kib.unwrap_or_default() << 10) / 2;
    let mut memory = vec![0u8; usize::try_from(bytes.min(MOST)).unwrap_or_default()];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}

fn files(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}

/// Lets what is in a folder be read from the disk.
fn drop_pages(folder: &Path) -> anyhow::Result<()> {
    for path in files(folder)? {
        // MinIO removes files of its own at any time.
        let Ok(file) = File::open(path) else { continue };
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// Writes the same files one after another, in large pieces, until the disk has them.
fn write_raw(source: &Path, to: &Path) -> anyhow::Result<f64> {
    fs::create_dir_all(to)?;
    // What is written is in memory already, so that only writing is timed.
    let piece = fs::read(source.join("shard-0"))?;
    let began = Instant::now();
    for index in 0..FILES {
        let mut file = File::create(to.join(index.to_string()))?;
        file.write_all(&piece)?;
        file.sync_all()?;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Copies the files, each by a thread of its own and in large pieces, until the disk has them, and
/// reads them back from there if that is asked for: what the disk allows to whoever does the same.
fn copy_raw(source: &Path, to: &Path, is_read_back: bool) -> anyhow::Result<f64> {
    fs::create_dir_all(to)?;
    let began = Instant::now();
    let copy = |index: u64| -> anyhow::Result<()> {
        let mut buffer = vec![0; 4 << 20];
        let mut from = File::open(source.join(format!("shard-{index}")))?;
        let path = to.join(index.to_string());
        let mut file = File::create(&path)?;
        loop {
            let n = from.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            file.write_all(&buffer[..n])?;
        }
        file.sync_all()?;
        if is_read_back {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
            let mut file = File::open(&path)?;
            while file.read(&mut buffer)? > 0 {}
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let copies: Vec<_> = (0..FILES).map(|index| scope.spawn(move || copy(index))).collect();
        copies.into_iter().try_for_each(|it| it.join().expect("copying does not panic"))
    })?;
    Ok(began.elapsed().as_secs_f64())
}

/// rclone with as many transfers as ours, and parts of the same size.
fn rclone(endpoint: &str, words: &[&str]) -> Command {
    let mut command = Command::new("rclone");
    command
        .args(words)
        .args(["--config", "/dev/null", "--transfers", "6", "--s3-upload-concurrency", "6"])
        .args(["--s3-chunk-size", "16M", "--multi-thread-streams", "6"])
        // This rclone cannot use one, and nothing here speaks TLS.
        .env_remove("AWS_CA_BUNDLE")
        .env("RCLONE_CONFIG_S3_TYPE", "s3")
        .env("RCLONE_CONFIG_S3_PROVIDER", "Minio")
        .env("RCLONE_CONFIG_S3_ENDPOINT", endpoint)
        .env("RCLONE_CONFIG_S3_ACCESS_KEY_ID", USER)
        .env("RCLONE_CONFIG_S3_SECRET_ACCESS_KEY", SECRET)
        .env("RCLONE_CONFIG_S3_REGION", "us-east-1");
    command
}

fn timed(command: &mut Command) -> anyhow::Result<f64> {
    let began = Instant::now();
    run(command)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds until the disk has what was written.
fn sync(folder: &Path) -> anyhow::Result<f64> {
    timed(Command::new("sync").arg("--file-system").arg(folder))
}

/// The seconds that ours prints.
fn told(ours: &Path, words: &[&str], endpoint: &str) -> anyhow::Result<f64> {
    let text = output(ours, words, endpoint)?;
    text.trim().parse().with_context(|| format!("it printed `{text}`"))
}

fn output(ours: &Path, words: &[&str], endpoint: &str) -> anyhow::Result<String> {
    let mut command = Command::new(ours);
    command
        .args(words)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", USER)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_REGION", "us-east-1")
        .stdin(Stdio::null());
    let output = command.output().context("cannot start ours")?;
    if !output.status.success() {
        bail!("{words:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    // So that what one leaves to be written does not slow the next down.
    std::thread::sleep(Duration::from_millis(200));
    Ok(String::from_utf8(output.stdout)?)
}
