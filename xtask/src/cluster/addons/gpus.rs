//! Fake GPUs: which nodes have which, told to our device plugin.
//!
//! The plugin speaks kubelet's real protocol and labels nodes as NVIDIA's GPU feature discovery
//! does; only the devices do not exist.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::layout::NodeLayout;
use super::super::process::{Daemon, Place};
use super::super::settings::Settings;

/// The ConfigMap that nodes choose their configuration from: the one that Trainyard writes.
const PLUGIN_CONFIG: &str = "trainyard/trainyard-gpus";

/// Equal GPUs of one node, or of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GpuSpec {
    /// `None` is every node.
    node: Option<String>,
    count: u32,
    /// As in the label `nvidia.com/gpu.product`.
    product: String,
    memory_mib: u64,
    sharing: Sharing,
    /// Only the device plugin gives them away: claims of dynamic resource allocation find none.
    #[serde(default)]
    unclaimed: bool,
}

/// How one GPU becomes devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Sharing {
    /// One `nvidia.com/gpu`.
    Whole,
    /// So many `nvidia.com/gpu.shared`, as with MPS.
    Shared { replicas: u32 },
    /// So many instances of a profile such as `1g.5gb`, as `nvidia.com/mig-1g.5gb`.
    Mig { profile: String, count: u32 },
}

impl GpuSpec {
    /// Fails where no node of the cluster is meant.
    pub(crate) fn check_nodes(&self, nodes: u8) -> anyhow::Result<()> {
        let Some(name) = &self.node else { return Ok(()) };
        if (1..=nodes).any(|number| format!("node-{number}") == *name) {
            return Ok(());
        }
        bail!("--gpus names `{name}`, and the nodes are node-1 to node-{nodes}")
    }

    fn is_on(&self, node: &str) -> bool {
        self.node.as_ref().is_none_or(|name| name == node)
    }
}

impl FromStr for GpuSpec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (node, rest) = text.split_once('=').with_context(|| {
            format!("`{text}` is not NODE=COUNT[,…], such as node-1=2 or all=1,shared=4")
        })?;
        let mut parts = rest.split(',');
        let count = parts.next().unwrap_or_default();
        // The card with the least memory that is common in clouds.
        let mut spec = Self {
            node: (node != "all").then(|| node.to_owned()),
            count: number("the count", count, 1..=16)?,
            product: "Tesla-T4".to_owned(),
            memory_mib: 15_360,
            sharing: Sharing::Whole,
            unclaimed: false,
        };
        for part in parts {
            let (name, value) = part
                .split_once('=')
                .with_context(|| format!("`{part}` in `{text}` is not NAME=VALUE"))?;
            if ["shared", "mig"].contains(&name) && spec.sharing != Sharing::Whole {
                bail!(
                    "a GPU is shared in one way: `{text}` has two; give the option twice instead"
                );
            }
            match name {
                "product" => spec.product = value.to_owned(),
                "memory" => spec.memory_mib = mebibytes(value)?,
                "shared" => {
                    spec.sharing = Sharing::Shared { replicas: number("shared", value, 2..=48)? };
                }
                "mig" => {
                    let (profile, count) = value.split_once(':').with_context(|| {
                        format!("`{value}` is not PROFILE:COUNT, such as 1g.5gb:7")
                    })?;
                    let count = number("instances a GPU", count, 1..=7)?;
                    spec.sharing = Sharing::Mig { profile: profile.to_owned(), count };
                }
                "claims" if value == "none" => spec.unclaimed = true,
                "claims" => bail!("`claims` can be `none` only, not `{value}`"),
                _ => {
                    bail!("`{name}` is none of product, memory, shared, mig, claims (in `{text}`)")
                }
            }
        }
        Ok(spec)
    }
}

fn number(what: &str, text: &str, range: std::ops::RangeInclusive<u32>) -> anyhow::Result<u32> {
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => bail!("{what} is a number from {} to {}, not `{text}`", range.start(), range.end()),
    }
}

fn mebibytes(text: &str) -> anyhow::Result<u64> {
    let sizes = [("Gi", 1024), ("Mi", 1)];
    let size = sizes.iter().find_map(|(unit, factor)| {
        text.strip_suffix(unit)?.parse::<u32>().ok().map(|number| u64::from(number) * factor)
    });
    size.filter(|mib| *mib > 0)
        .with_context(|| format!("`{text}` is no size such as 40Gi or 15360Mi"))
}

/// Starts the device plugin on a node that has GPUs.
pub(crate) fn start(node: &NodeLayout, settings: &Settings) -> anyhow::Result<()> {
    let name = node.name();
    let groups: Vec<_> = settings.gpus.iter().filter(|spec| spec.is_on(&name)).collect();
    let (Some(program), false) = (&settings.fake_gpu, groups.is_empty()) else { return Ok(()) };
    let health = health_folder(node);
    fs::create_dir_all(&health)?;
    let config = node.folder().join("gpu/config.json");
    let groups: Vec<_> = groups
        .into_iter()
        .map(|spec| {
            json!({
                "count": spec.count,
                "product": spec.product,
                "memoryMiB": spec.memory_mib,
                "sharing": spec.sharing,
                "unclaimed": spec.unclaimed,
            })
        })
        .collect();
    let text = json!({"node": name, "healthFolder": health, "groups": groups});
    fs::write(&config, format!("{text:#}"))
        .with_context(|| format!("cannot write {}", config.display()))?;
    // The kubelet's own credentials: a node may label itself.
    let kubeconfig = node.cluster.pki().join(format!("{name}.kubeconfig"));
    let arguments = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--plugin-config={PLUGIN_CONFIG}"),
        format!("--plugin-kubeconfig={}", node.cluster.kubeconfig().display()),
    ];
    Daemon::new(format!("{name}-fake-gpu"), program, arguments)
        .start(&node.cluster, &Place::node(node))
}

/// Says that a GPU of a node is broken, or whole again; kubelet knows within a second.
pub(crate) fn set_health(node: &NodeLayout, gpu: u32, is_healthy: bool) -> anyhow::Result<()> {
    let folder = health_folder(node);
    if !folder.exists() {
        bail!("{} has no fake GPUs; see `cluster up --gpus`", node.name());
    }
    let path = folder.join(gpu.to_string());
    let text = if is_healthy { "Healthy" } else { "Unhealthy" };
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A file named after a GPU's number, in which a test writes `Unhealthy` or `Healthy`.
fn health_folder(node: &NodeLayout) -> PathBuf {
    node.folder().join("gpu/health")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(Option<&str>, u32, &str, u64, Sharing), &str>) {
        let seen = text.parse::<GpuSpec>();
        match (seen, expected) {
            (Ok(spec), Ok((node, count, product, memory_mib, sharing))) => {
                let (node, product) = (node.map(str::to_owned), product.to_owned());
                let unclaimed = text.contains("claims=none");
                assert_eq!(spec, GpuSpec { node, count, product, memory_mib, sharing, unclaimed });
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{text}: {error}");
            }
            (seen, _) => panic!("{text}: {seen:?}"),
        }
    }

    #[test]
    fn table() {
        let whole = || Sharing::Whole;
        check("node-1=2", Ok((Some("node-1"), 2, "Tesla-T4", 15_360, whole())));
        check(
            "all=1,product=NVIDIA-A100-SXM4-40GB,memory=40Gi,mig=1g.5gb:7",
            Ok((
                None,
                1,
                "NVIDIA-A100-SXM4-40GB",
                40_960,
                Sharing::Mig { profile: "1g.5gb".to_owned(), count: 7 },
            )),
        );
        let shared = Sharing::Shared { replicas: 4 };
        check("node-2=1,shared=4", Ok((Some("node-2"), 1, "Tesla-T4", 15_360, shared)));
        check("node-1=2,claims=none", Ok((Some("node-1"), 2, "Tesla-T4", 15_360, whole())));
        check("node-1=2,claims=all", Err("`none` only"));
        check("node-1", Err("NODE=COUNT"));
        check("node-1=0", Err("from 1 to 16"));
        check("node-1=1,shared=1", Err("from 2 to 48"));
        check("node-1=1,shared=2,mig=1g.5gb:7", Err("in one way"));
        check("node-1=1,memory=40GB", Err("no size"));
        check("node-1=1,colour=red", Err("none of product"));
        check("node-1=1,mig=7", Err("PROFILE:COUNT"));
    }

    #[test]
    fn nodes_are_checked() {
        assert!("node-3=1".parse::<GpuSpec>().unwrap().check_nodes(2).is_err());
        assert!("all=1".parse::<GpuSpec>().unwrap().check_nodes(2).is_ok());
    }
}
