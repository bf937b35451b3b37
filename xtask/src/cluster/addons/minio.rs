//! MinIO: an S3 store at `minio.minio.svc:9000`, with the credentials of its manifest.

use std::path::PathBuf;

use super::super::build::Build;
use super::super::images::ProgramImage;
use super::super::kubectl::Kubectl;

pub(crate) fn image() -> anyhow::Result<PathBuf> {
    let name = "localhost/minio:1";
    ProgramImage { build: Build::minio(), program: "minio", name, shell: false }.archive()
}

pub(crate) fn apply(kubectl: &Kubectl) -> anyhow::Result<()> {
    super::apply_manifest(kubectl, "minio.yaml")
}

pub(crate) fn wait(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.rolled_out("minio", "deployment/minio")
}
