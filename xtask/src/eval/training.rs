//! `cargo xtask eval training`: training jobs on this machine with MinIO, whose programs, agents,
//! supervisor, disk and store are killed, filled and stopped at random moments. The script beside the
//! local tests does it.

use std::process::Command;

use anyhow::bail;
use clap::Args;

use crate::cluster::build::Build;
use crate::paths;
use crate::python::Environment;
use crate::run::{cargo, run};

#[derive(Args)]
pub(crate) struct Training {
    #[arg(long, default_value_t = 100)]
    runs: u32,
    /// Seed of the first run; the others follow it
    #[arg(long, default_value_t = 0)]
    seed: u32,
}

impl Training {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if !rustix::process::geteuid().is_root() {
            bail!("the jobs' disks are mounted: it has to be root");
        }
        run(cargo().args(["build", "--locked", "--quiet"]))?;
        let minio = Build::minio().program("minio")?;
        run(Command::new(Environment::Clients.python()?)
            .arg(paths::root().join("tests/local/chaos.py"))
            .args(["--runs", &self.runs.to_string(), "--seed", &self.seed.to_string(), "--minio"])
            .arg(minio)
            .env("TRAINYARD_BIN", paths::target().join("debug/trainyard"))
            .env("PYTHONDONTWRITEBYTECODE", "1"))
    }
}
