//! rancher's local-path-provisioner: a default StorageClass on the nodes' own disks.
//!
//! Each node has an `/opt` of its own, so a volume is where its node is, as on real machines.

use std::path::PathBuf;

use super::super::build::Build;
use super::super::images::ProgramImage;
use super::super::kubectl::Kubectl;

pub(crate) fn image() -> anyhow::Result<PathBuf> {
    let (name, program) = ("localhost/local-path-provisioner:1", "local-path-provisioner");
    ProgramImage { build: Build::local_path_provisioner(), program, name, shell: false }.archive()
}

pub(crate) fn apply(kubectl: &Kubectl) -> anyhow::Result<()> {
    super::apply_manifest(kubectl, "local-path-provisioner.yaml")
}

pub(crate) fn wait(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.rolled_out("local-path-storage", "deployment/local-path-provisioner")
}
