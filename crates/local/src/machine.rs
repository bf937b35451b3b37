//! What this machine has: CPU, memory and GPUs, as far as this process may use them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use trainyard_api::scalar::{Bytes, Millicores};
use trainyard_plan::Target;

/// Which GPUs a process of CUDA sees: by index or UUID, in that order.
pub(crate) const VISIBLE_GPUS: &str = "CUDA_VISIBLE_DEVICES";

/// CPU, memory and GPUs that processes of this machine may use: the smallest limit of the cgroup and
/// those above it, or what the machine has.
pub(crate) fn target() -> Target {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
    let limits = limits(Path::new("/"));
    let cpu = limits.cpu.unwrap_or(u64::MAX).min(cores.saturating_mul(1000));
    // A machine that does not tell its memory has no limit that a plan could break.
    let memory = memory.unwrap_or(u64::MAX).min(limits.memory.unwrap_or(u64::MAX));
    let gpus = u32::try_from(gpus().len()).unwrap_or(u32::MAX);
    Target::Local { cpu: Millicores(cpu), memory: Bytes(memory), gpus }
}

/// The GPUs that processes may use, as [`VISIBLE_GPUS`] names them. Looked at once: NVML takes some
/// tenths of a second.
pub(crate) fn gpus() -> &'static [String] {
    static GPUS: OnceLock<Vec<String>> = OnceLock::new();
    GPUS.get_or_init(|| {
        let visible = std::env::var(VISIBLE_GPUS).ok();
        visible_gpus(visible.as_deref(), trainyard_agent::gpu_uuids())
    })
}

/// All of them, or those that this process's own environment leaves to it.
fn visible_gpus(visible: Option<&str>, all: Vec<String>) -> Vec<String> {
    let Some(visible) = visible.filter(|_| !all.is_empty()) else { return all };
    // As CUDA reads it: what comes after something that is no GPU is hidden.
    let named = visible.split(',').map(str::trim);
    named.take_while(|name| !name.is_empty() && *name != "-1").map(str::to_owned).collect()
}

/// `MemTotal` in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Limits that a cgroup sets: millicores and bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Limits {
    cpu: Option<u64>,
    memory: Option<u64>,
}

impl Limits {
    fn lower(&mut self, other: Self) {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        self.cpu = least(self.cpu, other.cpu);
        self.memory = least(self.memory, other.memory);
    }
}

/// The smallest limits on the way from this process's cgroups to their roots, in both versions of
/// the interface. `root` is `/` but in tests.
fn limits(root: &Path) -> Limits {
    let mut limits = Limits::default();
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let mounts = root.join("sys/fs/cgroup");
        let read: fn(&Path) -> Limits = if controllers.is_empty() { version_2 } else { version_1 };
        let bases: Vec<PathBuf> = if controllers.is_empty() {
            vec![mounts.clone(), mounts.join("unified")]
        } else {
            controllers.split(',').map(|controller| mounts.join(controller)).collect()
        };
        for base in bases {
            let mut path = Path::new(path.trim_start_matches('/'));
            loop {
                // In a container the path may be the host's, which is not mounted: then only the
                // root, which is the container's own group, is there to be read.
                limits.lower(read(&base.join(path)));
                match path.parent() {
                    Some(parent) => path = parent,
                    None => break,
                }
            }
        }
    }
    limits
}

fn version_2(group: &Path) -> Limits {
    let cpu = fs::read_to_string(group.join("cpu.max")).ok().and_then(|text| {
        let (quota, period) = text.trim().split_once(' ')?;
        millicores(quota.parse().ok()?, period.parse().ok()?)
    });
    // `max` is no number, and no limit.
    Limits { cpu, memory: number(&group.join("memory.max")) }
}

fn version_1(group: &Path) -> Limits {
    // A quota of -1 is no number of ours, and no limit.
    let cpu = number(&group.join("cpu.cfs_quota_us"))
        .zip(number(&group.join("cpu.cfs_period_us")))
        .and_then(|(quota, period)| millicores(quota, period));
    // The kernel writes the largest multiple of a page for "no limit".
    let memory = number(&group.join("memory.limit_in_bytes")).filter(|bytes| *bytes < 1 << 60);
    Limits { cpu, memory }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn millicores(quota: u64, period: u64) -> Option<u64> {
    quota.saturating_mul(1000).checked_div(period).map(|millicores| millicores.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], cpu: Option<u64>, memory: Option<u64>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(limits(root.path()), Limits { cpu, memory });
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        check(
            &[
                ("proc/self/cgroup", "0::/user/app\n"),
                ("sys/fs/cgroup/user/app/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/user/app/memory.max", "4096\n"),
                ("sys/fs/cgroup/user/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/user/memory.max", "max\n"),
            ],
            Some(1500),
            Some(4096),
        );
    }

    #[test]
    fn version_1_is_read_too() {
        check(
            &[
                ("proc/self/cgroup", "4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "8192\n"),
                ("sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n"),
            ],
            Some(500),
            Some(8192),
        );
    }

    #[test]
    fn no_limit_and_nonsense_are_no_limit() {
        check(&[], None, None);
        check(
            &[
                ("proc/self/cgroup", "0::/\nnonsense\n3:cpu:/\n4:memory:/\n"),
                ("sys/fs/cgroup/cpu.max", "x"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
            None,
            None,
        );
    }

    #[test]
    fn a_person_may_hide_gpus() {
        let two = || vec!["GPU-a".to_owned(), "GPU-b".to_owned()];
        assert_eq!(visible_gpus(None, two()), two());
        assert_eq!(visible_gpus(Some("1, 0"), two()), ["1", "0"]);
        assert_eq!(visible_gpus(Some("GPU-b,-1,GPU-a"), two()), ["GPU-b"]);
        assert!(visible_gpus(Some(""), two()).is_empty());
        assert!(visible_gpus(Some("0,1"), Vec::new()).is_empty());
    }

    #[test]
    fn meminfo_is_in_kibibytes() {
        assert_eq!(
            total_memory("MemTotal:       8061404 kB\nMemFree: 1 kB\n"),
            Some(8061404 << 10)
        );
        assert_eq!(total_memory("nothing"), None);
    }
}
