//! The processes below this one, by `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Processes by their parent.
pub(super) struct Tree(BTreeMap<i32, Vec<i32>>);

impl Tree {
    /// As it is now. Blocks for as long as reading `/proc` takes.
    pub(super) fn look() -> Self {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some((parent, state)) = parent_of(&stat) else { continue };
            // A zombie only waits to be collected.
            if !matches!(state, 'Z' | 'X') {
                children.entry(parent).or_default().push(pid);
            }
        }
        Self(children)
    }

    /// Those that one has started, or was given.
    pub(super) fn children(&self, pid: i32) -> &[i32] {
        self.0.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// All processes below one.
    pub(super) fn below(&self, pid: i32) -> Vec<i32> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![pid];
        while let Some(pid) = waiting.pop() {
            for child in self.children(pid) {
                // A process that was looked at twice, before and after it changed its parent.
                if found.insert(*child) {
                    waiting.push(*child);
                }
            }
        }
        found.into_iter().collect()
    }

    /// The uppermost processes from one down that handle a signal. What a process that handles it
    /// has started is its own affair.
    pub(super) fn handling(&self, pid: i32, signal: Signal) -> Vec<i32> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut waiting = vec![pid];
        while let Some(pid) = waiting.pop() {
            if !seen.insert(pid) {
                continue;
            }
            if handles(pid, signal) {
                found.push(pid);
            } else {
                waiting.extend(self.children(pid));
            }
        }
        found.sort_unstable();
        found
    }
}

/// Parent and state in `/proc/PID/stat`.
fn parent_of(stat: &str) -> Option<(i32, char)> {
    // The program's name in brackets may hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// Whether a process has a handler for a signal: without one, most signals end it.
pub(super) fn handles(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let bit = u32::try_from(signal.as_raw()).ok().and_then(|number| number.checked_sub(1));
    bit.and_then(|bit| caught.checked_shr(bit)).is_some_and(|mask| mask & 1 == 1)
}

/// Sends a signal; who is gone meanwhile needs none.
pub(super) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_stat() {
        assert_eq!(parent_of("7 (a) b (c) S 1 7 7 0"), Some((1, 'S')));
        assert_eq!(parent_of("7 (a"), None);
        assert_eq!(parent_of("7 (a) S"), None);
    }

    #[test]
    fn all_below() {
        let tree = Tree([(1, vec![2, 3]), (3, vec![4]), (4, vec![3]), (9, vec![8])].into());
        assert_eq!(tree.below(1), [2, 3, 4]);
        assert!(tree.below(5).is_empty());
    }

    #[test]
    fn our_own_handlers() {
        let own = std::process::id().try_into().unwrap();
        // Rust ignores SIGPIPE and handles SIGSEGV, for its message about stacks.
        assert!(handles(own, Signal::SEGV));
        assert!(!handles(own, Signal::USR1));
        assert!(!handles(own, Signal::PIPE));
    }
}
