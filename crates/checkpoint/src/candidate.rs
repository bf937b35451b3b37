//! What in a program's folder may be a checkpoint.
//!
//! A folder below it (`step-100`), a file in it (`epoch=3.ckpt`), TensorFlow's files of one prefix, or
//! all files in it, where a framework writes straight into it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::recognise::{self, Layout, Verdict, is_temporary};
use crate::tree::{self, Tree};

/// Endings of single files that are checkpoints.
const FILES: [&str; 11] =
    ["pt", "pth", "ckpt", "bin", "safetensors", "npz", "h5", "keras", "msgpack", "pkl", "joblib"];
/// TensorFlow's file that names the newest prefix.
pub(crate) const STATE: &str = "checkpoint";
/// The name of the files that lie straight in the folder.
const WHOLE: &str = "files";

/// One that may be a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// What its folder or file is called.
    pub(crate) name: String,
    /// Whether it is a folder of its own; else its files lie among others.
    pub(crate) is_folder: bool,
    pub(crate) tree: Tree,
    pub(crate) verdict: Verdict,
}

impl Candidate {
    pub(crate) fn step(&self) -> Option<u64> {
        step_of(&self.name)
    }

    /// Whether all of it is one file, which is there as a whole or not at all once it got its name by
    /// renaming.
    pub(crate) fn is_lone_file(&self) -> bool {
        !self.is_folder && self.tree.files.len() == 1
    }

    /// Whether another look finds the very same.
    pub(crate) fn is_still_there(&self) -> bool {
        let folder = if self.is_folder { self.tree.root.parent() } else { Some(&*self.tree.root) };
        let found = folder.and_then(|folder| look(folder).ok()).unwrap_or_default();
        found.contains(self)
    }

    /// When the program began to write it, which was after a time: when the first of its files was made, or
    /// its folder, unless that was there before and is written over. Where the file system does not tell, or
    /// it is gone, the oldest time at which one was written. Blocks.
    pub(crate) fn begun(&self, after: SystemTime) -> SystemTime {
        let files = self.tree.files.keys().map(|name| self.tree.path(name));
        let folder = self.is_folder.then(|| self.tree.root.clone());
        let made = folder.into_iter().chain(files).filter_map(|path| made(&path));
        let written = self.tree.files.values().map(|file| file.modified);
        made.chain(written).filter(|time| *time > after).min().unwrap_or(after)
    }

    pub(crate) fn layout(&self) -> Layout {
        match self.verdict {
            Verdict::Complete(layout) => layout,
            Verdict::Incomplete(_) | Verdict::Unknown => Layout::Other,
        }
    }
}

/// When a file or folder came to be. The standard library asks for it with glibc alone.
fn made(path: &Path) -> Option<SystemTime> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::BTIME).ok()?;
        // Some file systems fill in nothing.
        let is_told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        let seconds = u64::try_from(found.stx_btime.tv_sec).ok().filter(|it| is_told && *it > 0)?;
        UNIX_EPOCH.checked_add(Duration::new(seconds, found.stx_btime.tv_nsec.min(999_999_999)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        fs::metadata(path).and_then(|it| it.created()).ok()
    }
}

/// The step that a name tells: its last number, an ending left aside.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let stem = match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && ending.parse::<u64>().is_err() => stem,
        _ => name,
    };
    let digits = |c: char| c.is_ascii_digit();
    let end = stem.rfind(digits)?.saturating_add(1);
    let head = stem.get(..end)?;
    let begin = head.rfind(|c| !digits(c)).map_or(0, |at| at.saturating_add(1));
    // What precedes may be a letter of more bytes.
    let begin = (begin..end).find(|at| head.is_char_boundary(*at))?;
    head.get(begin..)?.trim_start_matches(|c| !digits(c)).parse().ok()
}

/// Looks at a program's folder. One that is not there holds nothing yet.
pub(crate) fn look(path: &Path) -> io::Result<Vec<Candidate>> {
    let mut top = Tree::new(path.to_owned());
    let mut folders = Vec::new();
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_temporary(&name) || trainyard_storage::check_path(&name).is_err() {
            continue;
        }
        // `latest -> step-100` names one that is there already.
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() && !is_link && !name.starts_with('.') => {
                folders.push(name);
            }
            Ok(metadata) if metadata.is_file() && !is_link => top.insert(name, &metadata)?,
            _ => {}
        }
    }
    folders.sort();
    let mut found = Vec::new();
    if let Some(tree) = whole(&top)? {
        found.push(judged(WHOLE.to_owned(), false, tree));
        if top.files.contains_key("_CHECKPOINT_METADATA") {
            // The folders are its items.
            return Ok(found);
        }
    } else {
        found.extend(files(&top));
    }
    for name in folders {
        match Tree::read(&path.join(&name)) {
            Ok(tree) => {
                let candidate = judged(name, true, tree);
                // Logs and the like are folders too.
                if candidate.verdict != Verdict::Unknown || candidate.step().is_some() {
                    found.push(candidate);
                }
            }
            // It was removed or renamed a moment ago, or cannot be kept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.push(Candidate {
                tree: Tree::new(path.join(&name)),
                name,
                is_folder: true,
                verdict: Verdict::Incomplete(error.to_string()),
            }),
        }
    }
    Ok(found)
}

fn judged(name: String, is_folder: bool, tree: Tree) -> Candidate {
    let verdict = recognise::judge(&tree);
    Candidate { name, is_folder, tree, verdict }
}

/// The tree, where the files in the folder itself are one checkpoint.
fn whole(top: &Tree) -> io::Result<Option<Tree>> {
    const SIGNS: [&str; 6] = [
        ".metadata",
        "trainer_state.json",
        "_CHECKPOINT_METADATA",
        "commit_success.txt",
        "adapter_config.json",
        "training_args.bin",
    ];
    let is_part = |name: &String| {
        name.ends_with(".distcp")
            || name.ends_with(".safetensors.index.json")
            || name.ends_with(".safetensors") && name.contains("-of-")
            || SIGNS.contains(&name.as_str())
    };
    if !top.files.keys().any(is_part) {
        return Ok(None);
    }
    if top.files.contains_key("_CHECKPOINT_METADATA") {
        return Tree::read(&top.root).map(Some);
    }
    let mut tree = top.clone();
    tree.files.retain(|name, _| !name.starts_with('.') || name == ".metadata");
    Ok(Some(tree))
}

/// Single files, and TensorFlow's groups of files.
fn files(top: &Tree) -> Vec<Candidate> {
    let mut groups: BTreeMap<String, Tree> = BTreeMap::new();
    for (name, stat) in &top.files {
        let group = if let Some(prefix) = name.strip_suffix(".index") {
            prefix
        } else if let Some((prefix, numbers)) = name.split_once(".data-")
            && recognise::tensorflow::is_shard(numbers)
        {
            prefix
        } else if name.rsplit_once('.').is_some_and(|(_, ending)| FILES.contains(&ending)) {
            name
        } else {
            continue;
        };
        let tree = groups.entry(group.to_owned());
        tree.or_insert_with(|| Tree::new(top.root.clone())).files.insert(name.clone(), *stat);
    }
    let newest = newest_prefix(top);
    let candidates = groups.into_iter().map(|(name, mut tree)| {
        if let Some((prefix, stat)) = &newest
            && *prefix == name
        {
            tree.files.insert(STATE.to_owned(), *stat);
        }
        judged(name, false, tree)
    });
    // A lone file with such an ending is none without TensorFlow's shards.
    candidates
        .filter(|it| {
            it.verdict != Verdict::Unknown || !it.tree.files.keys().any(|f| f.ends_with(".index"))
        })
        .collect()
}

/// The prefix that TensorFlow's state file names as the newest.
fn newest_prefix(top: &Tree) -> Option<(String, tree::FileStat)> {
    /// It lists the last checkpoints, some lines.
    const MAX_STATE_BYTES: u64 = 1 << 20;
    let stat = top.files.get(STATE).filter(|stat| stat.bytes <= MAX_STATE_BYTES)?;
    let text = fs::read_to_string(top.path(STATE)).ok()?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("model_checkpoint_path:"))?;
    let prefix = line.trim().trim_matches('"').rsplit('/').next()?;
    Some((prefix.to_owned(), *stat))
}

#[cfg(test)]
mod tests;
