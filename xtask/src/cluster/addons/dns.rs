//! CoreDNS, for the names of Services. It forwards nothing: there is no outside.

use std::path::PathBuf;

use super::super::build::Build;
use super::super::images::ProgramImage;
use super::super::kubectl::Kubectl;

pub(crate) fn image() -> anyhow::Result<PathBuf> {
    let name = "localhost/coredns:1";
    ProgramImage { build: Build::coredns(), program: "coredns", name, shell: false }.archive()
}

pub(crate) fn apply(kubectl: &Kubectl) -> anyhow::Result<()> {
    super::apply_manifest(kubectl, "coredns.yaml")
}

pub(crate) fn wait(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.rolled_out("kube-system", "deployment/coredns")
}
