//! What a cluster needs of the machine it runs on.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use super::cgroup;
use crate::paths;
use crate::run::run;

/// Programs that a distribution has, and Debian's packages with them.
const PROGRAMS: [(&str, &str); 9] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    // Static: the shell of the storage provisioner's helper pods.
    ("busybox", "busybox-static"),
    ("nsenter", "util-linux"),
    ("sysctl", "procps"),
];

/// Why no cluster can run here, or nothing where one can.
///
/// Missing packages are no reason: [`install`] gets them.
pub(crate) fn missing() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("it needs Linux".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root: namespaces, mounts and control groups are made".to_owned());
    }
    if let Err(error) = try_namespaces() {
        return Some(format!("namespaces cannot be made here: {error:#}"));
    }
    if let Err(error) = cgroup::try_out() {
        return Some(format!("control groups cannot be made here: {error:#}"));
    }
    if !has("go") {
        return Some(
            "it needs Go 1.26 or newer to build Kubernetes, and `go` is missing".to_owned(),
        );
    }
    let packages = missing_packages();
    if !packages.is_empty() && !has("apt-get") {
        return Some(format!("it needs what Debian calls {}", packages.join(", ")));
    }
    None
}

/// Installs the programs that are missing, with apt, which can do so once at a time.
pub(crate) fn install() -> anyhow::Result<()> {
    if missing_packages().is_empty() {
        return Ok(());
    }
    let cache = paths::cache().join("cluster");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("packages.lock"))?;
    lock.lock()?;
    let packages = missing_packages();
    if packages.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", packages.join(", "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        run(&mut command)
    };
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments)
}

fn missing_packages() -> Vec<&'static str> {
    let mut packages: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    // An unprivileged path may lack the folders of administrators' programs.
    found || ["/usr/sbin", "/sbin"].iter().any(|it| Path::new(it).join(program).is_file())
}

fn try_namespaces() -> anyhow::Result<()> {
    let output = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--",
            "sh",
            "-c",
            "ip link add type veth || true; mount -t tmpfs none /mnt",
        ])
        .stdin(Stdio::null())
        .output()
        .context("cannot start unshare")?;
    anyhow::ensure!(
        output.status.success(),
        "unshare: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let forward = "/proc/sys/net/ipv4/ip_forward";
    fs::metadata(forward).with_context(|| format!("{forward} cannot be read")).map(|_| ())
}
