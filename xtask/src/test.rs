//! `cargo xtask test`: everything that must hold before a change lands.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::cluster;
use crate::image;
use crate::paths;
use crate::python::{Environment, onnxruntime_library};
use crate::run::{cargo, run, step};

/// Pytest's exit code when it has run no test.
const NO_TESTS: i32 = 5;

/// Files go to two workers, each with a cluster of its own, as it has done the ones before: these
/// tests mostly wait, and one cluster leaves more than half of two cores idle.
const TWO_CLUSTERS: [&str; 4] =
    ["--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder", "--max-worker-restart=0"];

/// The image that the cluster's tests run.
const CLUSTER_IMAGE: &str = "localhost/trainyard:test";

#[derive(Args)]
pub(crate) struct Test {
    /// Run only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Passed on to `cargo test` and to pytest's `-k`: run only tests whose name has it
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    /// rustfmt and clippy
    Lint,
    /// Unit, property and process tests
    Rust,
    /// Python clients against the real server
    Clients,
    /// `trainyard up` and its commands, under load
    Local,
    /// The image on a real Kubernetes; skipped where no cluster can run
    Cluster,
}

impl Test {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let wants = |part| self.only.is_empty() || self.only.contains(&part);
        if wants(Part::Lint) {
            step("formatting", || run(cargo().args(["fmt", "--all", "--check"])))?;
            step("lints", || {
                let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet"];
                run(cargo().args(clippy).args(["--", "-D", "warnings"]))
            })?;
        }
        if [Part::Rust, Part::Clients, Part::Local, Part::Cluster].into_iter().any(wants) {
            let mut python = None;
            step("Python environment", || {
                python = Some(Environment::Clients.python()?);
                Ok(())
            })?;
            let python = python.expect("the step before has set it");
            let library = onnxruntime_library(&python)?;
            if wants(Part::Rust) {
                step("Rust tests", || {
                    let mut command = cargo();
                    command.args(["test", "--workspace", "--locked", "--quiet"]);
                    command.args(self.filter.iter());
                    command.env("TRAINYARD_TEST_PYTHON", &python);
                    run(command.env("ORT_DYLIB_PATH", &library))
                })?;
            }
            // The tests of the command line have built the binary; building it by itself would mean
            // most dependencies once more, with the features that tests alone ask for left out.
            if !wants(Part::Rust) {
                step("binary", || run(cargo().args(["build", "--locked", "--quiet"])))?;
            }
            if wants(Part::Clients) {
                step("clients", || self.pytest(&python, &library, "tests/clients", &[]))?;
            }
            if wants(Part::Local) {
                step("local", || self.pytest(&python, &library, "tests/local", &[]))?;
            }
            if wants(Part::Cluster) {
                match cluster::host_misses() {
                    Some(reason) => eprintln!("==> cluster: skipped, {reason}"),
                    None => {
                        let archive = paths::target().join("image-dev.tar");
                        step("image", || {
                            let binary = paths::target().join("debug/trainyard");
                            image::write(&binary, CLUSTER_IMAGE, &archive).map(|_| ())
                        })?;
                        step("cluster", || {
                            self.pytest(&python, &library, "tests/cluster", &TWO_CLUSTERS)
                        })?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// This very program as a file that stays: cargo has replaced ours if the Rust tests needed it with
/// other features.
fn own_copy() -> anyhow::Result<PathBuf> {
    let copy = paths::target().join("xtask-of-tests");
    // A program that runs cannot be written over, but its name can go.
    match fs::remove_file(&copy) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::copy("/proc/self/exe", &copy).context("cannot copy this program")?;
    Ok(copy)
}

impl Test {
    fn pytest(
        &self,
        python: &Path,
        library: &Path,
        folder: &str,
        flags: &[&str],
    ) -> anyhow::Result<()> {
        let mut command = Command::new(python);
        command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).arg(folder);
        command.args(["--durations", "12"]).args(flags);
        if let Some(filter) = &self.filter {
            command.args(["-k", filter]);
        }
        command.env("TRAINYARD_BIN", paths::target().join("debug/trainyard"));
        command.env("ORT_DYLIB_PATH", library);
        command.env("TRAINYARD_CACHE", paths::cache());
        command.env("TRAINYARD_XTASK", own_copy()?);
        command.env("TRAINYARD_IMAGE", paths::target().join("image-dev.tar"));
        command.env("TRAINYARD_IMAGE_NAME", CLUSTER_IMAGE);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.current_dir(paths::root());
        // A filter may leave none of one group's tests, which pytest takes for an error.
        let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
        let none_wanted = self.filter.is_some() && status.code() == Some(NO_TESTS);
        anyhow::ensure!(status.success() || none_wanted, "{command:?} failed: {status}");
        Ok(())
    }
}
