//! Running other programs, with an error that says which one failed.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::paths;

/// Runs a command with its output shown; fails unless it exits with 0.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{shown} failed: {status}");
    }
    Ok(())
}

/// The cargo that runs this chore, in the repository's root.
///
/// What it has told this program about the program's own package is left out: build scripts that
/// look at such variables (ring's) would run anew, and with them everything that needs them, each
/// time when somebody builds with cargo and with a chore in turn.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let of_package = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if of_package {
            command.env_remove(name);
        }
    }
    command.current_dir(paths::root());
    command
}

/// Builds what a benchmark measures: the program itself, or what these arguments choose.
pub(crate) fn build_release(chosen: &[&str]) -> anyhow::Result<()> {
    run(cargo().args(["build", "--release", "--locked", "--quiet"]).args(chosen))
}

/// Runs one step of a longer job and says how long it took.
pub(crate) fn step(name: &str, job: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    eprintln!("==> {name}");
    let start = Instant::now();
    job().with_context(|| format!("step `{name}`"))?;
    eprintln!("==> {name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
