//! What joins a cluster by flag, one file each.

pub(crate) mod dns;
pub(crate) mod gpus;
pub(crate) mod kueue;
pub(crate) mod kwok;
pub(crate) mod metrics_server;
pub(crate) mod minio;
pub(crate) mod netpol;
pub(crate) mod storage;

use std::fs;

use anyhow::Context;

use super::kubectl::Kubectl;
use crate::paths;

/// Applies a file of `tests/cluster/manifests`.
fn apply_manifest(kubectl: &Kubectl, name: &str) -> anyhow::Result<()> {
    let path = paths::root().join("tests/cluster/manifests").join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    kubectl.apply(&text).with_context(|| format!("cannot apply {}", path.display()))
}
