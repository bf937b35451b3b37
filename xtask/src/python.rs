//! Python environments for tests and benchmarks: pinned by hash, made once, kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::paths;
use crate::run::run;

/// An environment, defined by the folder under `tests/` that holds its `requirements.lock`.
#[derive(Clone, Copy)]
pub(crate) enum Environment {
    /// Client libraries, oracles and model makers.
    Clients,
    /// Other model servers, to measure against.
    Peers,
}

impl Environment {
    const ALL: [Self; 2] = [Self::Clients, Self::Peers];

    fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Peers => "peers",
        }
    }

    fn folder(self) -> PathBuf {
        paths::root().join("tests").join(self.name())
    }

    /// The environment's interpreter; installs everything on first use.
    pub(crate) fn python(self) -> anyhow::Result<PathBuf> {
        let lock = self.folder().join("requirements.lock");
        let pins = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
        let base = base_python()?;
        let version = output(Command::new(&base).arg("-VV"))?;
        let key = Sha256::new().chain_update(&pins).chain_update(version).finalize();
        let key: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();

        let home = paths::cache().join("python").join(format!("{}-{key}", self.name()));
        let python = home.join("bin/python");
        if home.join("complete").exists() {
            return Ok(python);
        }
        eprintln!("making the Python environment {}", home.display());
        // Virtual environments hold absolute paths, so it is made in place; the marker says it is whole.
        run(Command::new(&base).args(["-m", "venv", "--clear"]).arg(&home)).context(
            "`python3 -m venv` failed; on Debian and Ubuntu: apt-get install python3-venv",
        )?;
        // The lock holds the whole closure, so nothing is resolved here.
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--require-hashes", "--only-binary=:all:", "-r"])
            .arg(&lock))?;
        fs::write(home.join("complete"), "")?;
        Ok(python)
    }
}

/// ONNX Runtime's shared library inside an environment.
pub(crate) fn onnxruntime_library(python: &Path) -> anyhow::Result<PathBuf> {
    let code = "import onnxruntime, pathlib; \
                print(next(pathlib.Path(onnxruntime.__file__).parent.glob('capi/libonnxruntime.so*')))";
    let found = output(Command::new(python).args(["-c", code]))?;
    Ok(PathBuf::from(found.trim()))
}

/// Resolves `requirements.in` of each environment to hashes for every platform.
pub(crate) fn lock() -> anyhow::Result<()> {
    for environment in Environment::ALL {
        let folder = environment.folder();
        let mut command = Command::new("uv");
        command.current_dir(paths::root()).args(["pip", "compile", "--quiet", "--universal"]);
        command.args(["--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"]);
        command.arg("--no-header");
        if folder.join("overrides.txt").exists() {
            command.arg("--override").arg(folder.join("overrides.txt"));
        }
        command.arg(folder.join("requirements.in"));
        run(command.arg("-o").arg(folder.join("requirements.lock")))?;
    }
    Ok(())
}

fn base_python() -> anyhow::Result<PathBuf> {
    let check = "import sys; sys.exit(sys.version_info < (3, 11))";
    for candidate in ["python3", "python3.13", "python3.12", "python3.11", "python"] {
        if Command::new(candidate).args(["-c", check]).status().is_ok_and(|it| it.success()) {
            return Ok(PathBuf::from(candidate));
        }
    }
    bail!("no Python 3.11 or newer on the path; install one (Debian: apt-get install python3-venv)")
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!("{shown} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
