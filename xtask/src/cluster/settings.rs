//! What a cluster was started with: kept in its folder, so that a node can be started again.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::addons::gpus::GpuSpec;
use super::layout::Layout;
use crate::paths;

/// A minor version of Kubernetes that `tests/cluster/build` has a folder for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Version {
    /// The version that everything is tested with.
    pub(crate) const MAIN: &str = "1.34";

    /// The folder below `tests/cluster/build`.
    pub(crate) fn folder(self) -> String {
        format!("kubernetes-{}.{}", self.major, self.minor)
    }

    /// Whether pods' statuses tell of unhealthy devices only where the feature `ResourceHealthStatus`
    /// is turned on.
    pub(crate) fn hides_health_of_devices(self) -> bool {
        (31..36).contains(&self.minor)
    }

    fn of_folder(name: &str) -> Option<Self> {
        let (major, minor) = name.strip_prefix("kubernetes-")?.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    fn all() -> anyhow::Result<Vec<Self>> {
        let folder = paths::root().join("tests/cluster/build");
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut versions: Vec<Self> = names.filter_map(|name| Self::of_folder(&name)).collect();
        versions.sort();
        Ok(versions)
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let all = Self::all()?;
        let found = match text {
            "newest" => all.last().copied(),
            _ => all.iter().copied().find(|it| it.folder() == format!("kubernetes-{text}")),
        };
        let Some(found) = found else {
            let known: Vec<_> = all.iter().map(|it| format!("{}.{}", it.major, it.minor)).collect();
            bail!("no Kubernetes {text} is pinned; there are {} and newest", known.join(", "));
        };
        Ok(found)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) version: Version,
    /// How many nodes, numbered from 1.
    pub(crate) nodes: u8,
    /// Folder of kube-apiserver, kubelet, kubectl and the like.
    pub(crate) kubernetes: PathBuf,
    /// Folder of the CNI plugins.
    pub(crate) cni: PathBuf,
    /// The NetworkPolicy enforcer, where it was asked for.
    pub(crate) netpol: Option<PathBuf>,
    /// The device plugin, where GPUs were asked for.
    pub(crate) fake_gpu: Option<PathBuf>,
    pub(crate) gpus: Vec<GpuSpec>,
}

impl Settings {
    pub(crate) fn write(&self, layout: &Layout) -> anyhow::Result<()> {
        let path = layout.settings();
        fs::write(&path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Fails with a hint where the cluster does not exist.
    pub(crate) fn read(layout: &Layout) -> anyhow::Result<Self> {
        let path = layout.settings();
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "there is no cluster `{0}`; start it: cargo xtask cluster up --name {0}",
                layout.name
            )
        })?;
        serde_json::from_str(&text).with_context(|| {
            format!("{} is of another version; run `cargo xtask cluster down`", path.display())
        })
    }
}
