//! Control groups: the one sure record of which processes belong to a cluster.
//!
//! Every daemon starts in a group of its cluster, and whatever it starts stays in there or in a
//! group below. What is in the group is the cluster's; nothing else is ever ended.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

const ROOT: &str = "/sys/fs/cgroup";

/// How long killed processes may take to leave.
const LEAVE: Duration = Duration::from_secs(20);

/// The hierarchies: one with cgroup v2, one for each controller with v1.
fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    if is_v2() {
        return Ok(vec![ROOT.into()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(ROOT).with_context(|| format!("cannot read {ROOT}"))? {
        let entry = entry?;
        let path = entry.path();
        // Links are second names of a hierarchy; `unified` is v2 without controllers.
        let is_link = entry.file_type()?.is_symlink();
        if !is_link && path.join("cgroup.procs").exists() && entry.file_name() != "unified" {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("no hierarchy is mounted below {ROOT}");
    }
    Ok(found)
}

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Makes a group in every hierarchy; `group` is relative to their roots.
pub(crate) fn create(group: &str) -> anyhow::Result<()> {
    for root in hierarchies()? {
        let mut path = root;
        for part in group.split('/') {
            if is_v2() {
                enable_controllers(&path)?;
            }
            let parent = path.clone();
            path.push(part);
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("cannot create {}", path.display()));
                }
                _ => {}
            }
            // With v1 an empty set of CPUs or memory nodes admits no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if !is_v2() && path.join(file).exists() {
                    let value = fs::read(parent.join(file))?;
                    fs::write(path.join(file), value)
                        .with_context(|| format!("cannot fill {}", path.join(file).display()))?;
                }
            }
        }
    }
    Ok(())
}

fn enable_controllers(path: &Path) -> anyhow::Result<()> {
    let controllers = fs::read_to_string(path.join("cgroup.controllers"))?;
    for name in controllers.split_whitespace() {
        // One that cannot be had here (real-time processes, a delegated tree) is not needed either.
        let _ = fs::write(path.join("cgroup.subtree_control"), format!("+{name}"));
    }
    Ok(())
}

/// The files that a process writes itself into in order to join a group.
pub(crate) fn doors(group: &str) -> anyhow::Result<Vec<PathBuf>> {
    Ok(hierarchies()?.into_iter().map(|it| it.join(group).join("cgroup.procs")).collect())
}

/// Every process in a group and below.
pub(crate) fn processes(group: &str) -> anyhow::Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for root in hierarchies()? {
        for folder in below(&root.join(group)) {
            let text = match fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(text) => text,
                // The group went away meanwhile.
                Err(_) => continue,
            };
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    Ok(found)
}

/// Kills every process in a group and below, and waits until they are gone.
pub(crate) fn kill(group: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + LEAVE;
    loop {
        let left = processes(group)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "processes {left:?} in control group {group} do not end; are they in a system call?"
            );
        }
        for pid in left {
            if let Some(pid) = Pid::from_raw(pid) {
                // One that has gone since is what is wanted.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        sleep(Duration::from_millis(50));
    }
}

/// Removes a group and all below it, once it has no process.
pub(crate) fn remove(group: &str) -> anyhow::Result<()> {
    for root in hierarchies()? {
        for folder in below(&root.join(group)) {
            let deadline = Instant::now() + LEAVE;
            // The kernel may still be taking a killed process apart.
            while let Err(error) = fs::remove_dir(&folder) {
                if error.kind() == io::ErrorKind::NotFound {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(error)
                        .with_context(|| format!("cannot remove {}", folder.display()));
                }
                sleep(Duration::from_millis(50));
            }
        }
    }
    Ok(())
}

/// A folder and those below it, the deepest first; nothing where it does not exist.
fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
    }
    found.push(folder.to_path_buf());
    found
}

/// Makes a group and removes it again, to see whether that is allowed.
pub(crate) fn try_out() -> anyhow::Result<()> {
    let group = format!("ty-try-{}", std::process::id());
    let made = create(&group);
    remove(&group)?;
    made
}
