//! Which process a number means: numbers are used again, and start times tell them apart.

use std::fs;
use std::path::Path;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::launch::RUN;

/// A process, for as long as the machine runs and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub(crate) started: u64,
    /// Ticks mean nothing after another boot.
    pub(crate) boot: String,
}

impl Identity {
    /// Of a process that runs now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let (started, _) = stat(pid)?;
        Some(Self { pid, started, boot: boot_id() })
    }

    /// Whether that very process runs, and is no zombie.
    pub(crate) fn is_alive(&self) -> bool {
        self.boot == boot_id()
            && stat(self.pid).is_some_and(|(started, state)| {
                started == self.started && !matches!(state, 'Z' | 'X')
            })
    }

    /// Whether its process group is its own.
    pub(super) fn leads_group(&self) -> bool {
        let group = self.pid().map(|pid| rustix::process::getpgid(Some(pid)));
        matches!(group, Some(Ok(group)) if Some(group) == self.pid())
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }
}

/// Start time and state of a process.
fn stat(pid: i32) -> Option<(u64, char)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<(u64, char)> {
    // The second field is the program's name in brackets, and may hold spaces and brackets.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 22 of the line is the 19th after the state.
    Some((fields.nth(18)?.parse().ok()?, state))
}

/// Changes with each boot; empty where the kernel does not tell.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Processes of this user that belong to a run of the state folder with that marker, with the run's
/// number: replicas, what they started in turn, and those that a supervisor started and had no time
/// to write down before it was killed. Blocks.
pub(crate) fn marked(marker: &str) -> Vec<(u64, Identity)> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in listing.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Some(run) = run_of(&entry.path(), marker) else { continue };
        found.extend(Identity::of(pid).filter(Identity::is_alive).map(|identity| (run, identity)));
    }
    found
}

/// The run of a process. One of another user does not let itself be read, and is none of ours.
fn run_of(process: &Path, marker: &str) -> Option<u64> {
    let environ = fs::read(process.join("environ")).ok()?;
    environ.split(|byte| *byte == 0).find_map(|variable| {
        let value = std::str::from_utf8(variable).ok()?.strip_prefix(RUN)?.strip_prefix('=')?;
        value.strip_prefix(marker)?.strip_prefix('/')?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse_the_fields() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 10 0 0 0 1 2 0 0 20 0 1 0 12345 99 1 18446744";
        assert_eq!(parse_stat(line), Some((12345, 'S')));
        assert_eq!(parse_stat("7 (a"), None);
        assert_eq!(parse_stat("7 (a) S 1"), None);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let own = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive());
        assert!(!Identity { started: own.started + 1, ..own.clone() }.is_alive());
        assert!(!Identity { boot: "another".to_owned(), ..own }.is_alive());
    }

    #[test]
    fn runs_are_found_by_their_environment() {
        let marker = format!("test-{}", std::process::id());
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(RUN, format!("{marker}/7"))
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Between fork and exec the child still has our environment.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !marked(&marker).iter().any(|(run, found)| (*run, found.pid) == (7, pid)) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert!(marked("test").is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(marked(&marker).is_empty());
    }
}
