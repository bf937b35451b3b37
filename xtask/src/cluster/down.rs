//! `cluster down`: ends everything that belongs to a cluster, and only that.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;

use super::layout::Layout;
use super::node::release_mount_namespace;
use super::{cgroup, network, up};
use crate::run;

pub(crate) fn run(layout: &Layout) -> anyhow::Result<()> {
    let _lock = up::lock(layout)?;
    clean(layout)
}

/// Ends processes and removes namespaces, control groups and files.
pub(crate) fn clean(layout: &Layout) -> anyhow::Result<()> {
    stop(layout)?;
    let folder = layout.folder();
    if folder.exists() {
        remove(&folder)?;
    }
    Ok(())
}

/// Ends processes and removes namespaces and control groups; files stay.
pub(crate) fn stop(layout: &Layout) -> anyhow::Result<()> {
    // Which processes are the cluster's is what its control group says, so that even a run that
    // was killed at its worst moment leaves nothing that is not found, and a number that was given
    // to another process meanwhile does no harm.
    cgroup::kill(&layout.cgroup())?;
    let namespaces = layout.mount_namespaces();
    if let Ok(entries) = fs::read_dir(&namespaces) {
        for entry in entries.filter_map(Result::ok) {
            release_mount_namespace(&entry.path())?;
        }
        release_mount_namespace(&namespaces)?;
    }
    network::remove(layout)?;
    cgroup::remove(&layout.cgroup())
}

/// Removes a folder that the kernel may still be unmounting in, but never what is mounted there.
fn remove(folder: &Path) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut below: Vec<_> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| Path::new(path).starts_with(folder))
        .collect();
    // The deepest first.
    below.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in below {
        run::run(Command::new("umount").arg(path))?;
    }
    let mut tries = 50;
    loop {
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(_) if tries > 0 => tries -= 1,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
            }
        }
        sleep(Duration::from_millis(100));
    }
}
