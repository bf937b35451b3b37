//! What the driver and the kernel show as files.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::probe::Unread;

/// Files below the node's root.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    /// Of the module that is loaded, by `/proc/driver/nvidia/version`.
    pub module_version: Option<String>,
    /// Modules that matter to GPUs, of those that are loaded.
    pub modules: Vec<String>,
    /// Device files of GPUs, such as `nvidia0` and `nvidiactl`.
    pub devices: Vec<String>,
    /// NVIDIA's display and compute devices on the PCI bus, whether a driver has them or not.
    pub pci_gpus: Vec<String>,
    /// A control daemon of MPS runs.
    pub mps: bool,
}

/// Longest file that is read, in bytes.
const LONGEST: usize = 1 << 20;

const MODULES: [&str; 8] = [
    "nouveau",
    "nvidia",
    "nvidia_drm",
    "nvidia_fs",
    "nvidia_modeset",
    "nvidia_peermem",
    "nvidia_uvm",
    "gdrdrv",
];

pub(crate) fn read(root: &Path, unread: &mut Vec<Unread>) -> Files {
    let modules = text(root, "proc/modules", unread).unwrap_or_default();
    let mut loaded: Vec<String> = modules
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| MODULES.contains(name))
        .map(str::to_owned)
        .collect();
    loaded.sort();
    let version = fs::read_to_string(root.join("proc/driver/nvidia/version")).ok();
    Files {
        module_version: version.and_then(|text| module_version(&text)),
        modules: loaded,
        devices: names(&root.join("dev"), |name| {
            name.strip_prefix("nvidia").is_some_and(|rest| {
                rest.chars().all(|c| c.is_ascii_digit())
                    || matches!(rest, "ctl" | "-uvm" | "-modeset")
            })
        }),
        pci_gpus: pci(root),
        mps: runs_mps(root),
    }
}

fn text(root: &Path, path: &str, unread: &mut Vec<Unread>) -> Option<String> {
    match fs::read(root.join(path)) {
        Ok(mut bytes) => {
            bytes.truncate(LONGEST);
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(error) => {
            unread.push(Unread { what: format!("/{path}"), reason: error.to_string() });
            None
        }
    }
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  …`; open modules have more words.
fn module_version(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    let is_version = |word: &&str| {
        let mut parts = word.split('.');
        let whole = |part: Option<&str>| {
            part.is_some_and(|it| it.len() >= 2 && it.chars().all(|c| c.is_ascii_digit()))
        };
        whole(parts.next()) && whole(parts.next())
    };
    line.split_whitespace().find(is_version).map(str::to_owned)
}

fn names(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| is_wanted(name)).collect();
    names.sort();
    names
}

/// Addresses of devices of NVIDIA (0x10de) whose class is display (0x0300, 0x0302).
fn pci(root: &Path) -> Vec<String> {
    let folder = root.join("sys/bus/pci/devices");
    names(&folder, |name| {
        let of = |file: &str| fs::read_to_string(folder.join(name).join(file)).unwrap_or_default();
        of("vendor").trim() == "0x10de"
            && ["0x0300", "0x0302"].iter().any(|class| of("class").starts_with(class))
    })
}

fn runs_mps(root: &Path) -> bool {
    let folder = root.join("proc");
    let is_process = |name: &str| name.chars().all(|c| c.is_ascii_digit());
    names(&folder, is_process).iter().any(|process| {
        // The kernel keeps 15 characters of a name.
        fs::read_to_string(folder.join(process).join("comm"))
            .is_ok_and(|name| name.trim_end() == "nvidia-cuda-mps")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_kinds_of_modules() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n";
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build\n";
        assert_eq!(module_version(closed).as_deref(), Some("535.104.05"));
        assert_eq!(module_version(open).as_deref(), Some("570.124.06"));
        assert_eq!(module_version("x"), None);
    }

    #[test]
    fn a_node_of_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/modules", "nvidia 1 0 - Live 0x0\nnouveau 1 0\next4 1 0\n");
        write("proc/7/comm", "nvidia-cuda-mps\n");
        write("dev/nvidia0", "");
        write("dev/nvidiactl", "");
        write("dev/nvidia-caps", "");
        for (address, vendor, class) in [
            ("0000:3b:00.0", "0x10de", "0x030200"),
            ("0000:3b:00.1", "0x10de", "0x040300"),
            ("0000:01:00.0", "0x8086", "0x030000"),
        ] {
            write(&format!("sys/bus/pci/devices/{address}/vendor"), vendor);
            write(&format!("sys/bus/pci/devices/{address}/class"), class);
        }
        let mut unread = Vec::new();
        let files = read(root.path(), &mut unread);
        assert_eq!(files.modules, ["nouveau", "nvidia"]);
        assert_eq!(files.devices, ["nvidia0", "nvidiactl"]);
        assert_eq!(files.pci_gpus, ["0000:3b:00.0"]);
        assert!(files.mps && files.module_version.is_none() && unread.is_empty());
        let empty = read(Path::new("/nonexistent"), &mut unread);
        assert!(empty.pci_gpus.is_empty() && unread[0].what == "/proc/modules");
    }
}
