//! Limits of CPU and memory by cgroup v2, where the host lets us make groups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use trainyard_plan::Resources;

/// Where groups for replicas can be made, and why not.
#[derive(Debug, Clone)]
pub(crate) enum CgroupBase {
    /// The folder of a group with the controllers `cpu` and `memory` switched on for its children.
    At(PathBuf),
    /// Limits cannot be set; the reason, for people.
    Unavailable(String),
}

const MOUNT: &str = "/sys/fs/cgroup";

impl CgroupBase {
    /// Looks for a place; makes nothing that stays if there is none.
    ///
    /// A group with processes of its own cannot pass controllers on, so the new group stands beside
    /// the one that we run in: systemd lets a user's session do so, and so does a container with
    /// a writable hierarchy.
    pub(crate) fn find(supervisor: &str) -> Self {
        let find = || -> Result<PathBuf, String> {
            let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
            let own = own.ok_or("this machine has no cgroup v2")?;
            let own = Path::new(MOUNT).join(own);
            if !own.join("cgroup.controllers").exists() {
                return Err("cgroup v2 is not mounted at /sys/fs/cgroup".to_owned());
            }
            let beside = if own == Path::new(MOUNT) { Some(own.as_path()) } else { own.parent() };
            let beside = beside.ok_or("the group has none above it")?;
            make_base(&beside.join(format!("trainyard-{supervisor}")))
        };
        match find() {
            Ok(path) => Self::At(path),
            Err(reason) => Self::Unavailable(reason),
        }
    }

    /// Makes the group of one run with its limits. `None` if it asks for none.
    ///
    /// The error says why its limits do not hold; the replica runs without them.
    pub(super) fn make(&self, run: &str, asked: &Resources) -> Result<Option<PathBuf>, String> {
        if asked.cpu.is_none() && asked.memory.is_none() {
            return Ok(None);
        }
        let base = match self {
            Self::At(base) => base,
            Self::Unavailable(reason) => return Err(reason.clone()),
        };
        let group = base.join(run);
        let set = || -> io::Result<()> {
            fs::create_dir(&group)?;
            if let Some(cpu) = asked.cpu {
                fs::write(group.join("cpu.max"), cpu_max(cpu.0))?;
            }
            if let Some(memory) = asked.memory {
                fs::write(group.join("memory.max"), memory.0.to_string())?;
                // One that is over its limit is ended, not slowed down for minutes by swapping.
                let _ = fs::write(group.join("memory.swap.max"), "0");
                // All of a replica's processes end together, as a container's do.
                let _ = fs::write(group.join("memory.oom.group"), "1");
            }
            Ok(())
        };
        match set() {
            Ok(()) => Ok(Some(group)),
            Err(error) => {
                let _ = fs::remove_dir(&group);
                Err(format!("`{}` takes no limits: {error}", group.display()))
            }
        }
    }

    /// Removes the group of the supervisor, once all replicas have ended.
    pub(crate) fn remove(&self) {
        if let Self::At(path) = self {
            let _ = fs::remove_dir(path);
        }
    }
}

fn make_base(path: &Path) -> Result<PathBuf, String> {
    let make = || -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::write(path.join("cgroup.subtree_control"), "+cpu +memory")
    };
    make().map(|()| path.to_owned()).map_err(|error| {
        let _ = fs::remove_dir(path);
        format!("this user cannot make a cgroup with limits at `{}`: {error}", path.display())
    })
}

/// Quota and period in microseconds; the period is the kernel's own default.
fn cpu_max(millicores: u64) -> String {
    const PERIOD: u64 = 100_000;
    // The kernel's least quota is a millisecond.
    format!("{} {PERIOD}", millicores.saturating_mul(PERIOD / 1000).max(1000))
}

/// Moves a process into its group.
pub(super) fn enter(group: &Path, pid: i32) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), pid.to_string())
}

/// Whether the kernel has ended a process of the group for its memory.
pub(crate) fn out_of_memory(group: &Path) -> bool {
    let events = fs::read_to_string(group.join("memory.events")).unwrap_or_default();
    let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    killed.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count > 0)
}

/// Removes a group whose processes have ended; ends those that are left first.
pub(crate) fn remove(group: &Path) {
    let _ = fs::write(group.join("cgroup.kill"), "1");
    let _ = fs::remove_dir(group);
}

/// How many processes the kernel has ended for memory on the whole machine, for replicas without
/// a group of their own.
pub(super) fn machine_out_of_memory() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use trainyard_api::scalar::{Bytes, Millicores};

    use super::*;

    #[test]
    fn limits_are_written() {
        let base = tempfile::tempdir().unwrap();
        let cgroups = CgroupBase::At(base.path().to_owned());
        let asked =
            Resources { cpu: Some(Millicores(1500)), memory: Some(Bytes(1 << 20)), gpu: None };
        let group = cgroups.make("iris-0.1", &asked).unwrap().unwrap();
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(read("memory.max"), "1048576");
        assert!(!out_of_memory(&group));
        fs::write(group.join("memory.events"), "oom 1\noom_kill 2\n").unwrap();
        assert!(out_of_memory(&group));
        let none = Resources { cpu: None, memory: None, gpu: None };
        assert_eq!(cgroups.make("iris-0.2", &none), Ok(None));
        let unavailable = CgroupBase::Unavailable("no cgroups".to_owned());
        assert_eq!(unavailable.make("iris-0.3", &asked), Err("no cgroups".to_owned()));
    }

    #[test]
    fn a_tiny_share_is_the_least_quota() {
        assert_eq!(cpu_max(1), "1000 100000");
        assert_eq!(cpu_max(2000), "200000 100000");
    }
}
