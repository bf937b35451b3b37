//! Lints files with the library alone: `cargo run -p trainyard-rules --example lint -- FOLDER [RULE…]`.
//!
//! Prints a line for each finding and each file that could not be read, then counts by rule.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use trainyard_rules::{Documents, Settings, Source, lint};

fn files(path: &Path, into: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        into.push(path.to_owned());
        return;
    }
    let Ok(entries) = path.read_dir() else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let is_manifest =
            path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if path.is_dir() || is_manifest {
            files(&path, into);
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a file or folder");
    let mut paths = Vec::new();
    files(Path::new(&folder), &mut paths);
    let sources = paths.iter().filter_map(|path| {
        Source::from_bytes(&path.to_string_lossy(), std::fs::read(path).ok()?).ok()
    });
    let documents = Documents::read(sources.collect());
    let settings = Settings { include: arguments.collect(), ..Settings::default() };
    for error in &documents.errors {
        println!("{error}");
    }
    let mut counts = BTreeMap::new();
    let mut out = BufWriter::new(std::io::stdout().lock());
    for finding in lint(&documents, &settings) {
        let written = writeln!(
            out,
            "{}:{}:{}: {} {} [{}]",
            finding.file,
            finding.line,
            finding.column,
            finding.rule,
            finding.message,
            finding.object
        );
        if written.is_err() {
            return;
        }
        *counts.entry(finding.rule).or_insert(0) += 1;
    }
    drop(out);
    println!("{} files, {} errors, {counts:?}", paths.len(), documents.errors.len());
    if let Some(peak) = peak_memory() {
        println!("peak memory: {peak}");
    }
}

/// The most memory that this program took, where the kernel says it.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().replace("kB", "KiB"))
}
