//! Fetching the library once, with the machine's own package installer.
//!
//! The official wheel holds the library. pip or uv downloads, checks the pinned hash and unpacks it,
//! with the mirrors, proxies and certificates that are configured for them; we keep the one file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::verify::verify;
use super::{Library, Origin, cache, elf};

/// The release that is installed: the one that the `ort` crate in use was made for.
pub const PINNED_VERSION: &str = "1.31.1";

/// One published build of the pinned release.
struct Pin {
    arch: &'static str,
    platform: &'static str,
    sha256: &'static str,
    /// Size of the wheel.
    bytes: u64,
}

// From `pip download onnxruntime==1.31.1 --no-deps --only-binary=:all: --python-version 3.12
// --implementation cp --abi cp312 --platform PLATFORM`, then `sha256sum`; 2026-11-24.
const PINS: [Pin; 2] = [
    Pin {
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
        bytes: 23_400_000,
    },
    Pin {
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
        bytes: 21_100_000,
    },
];

/// The library does not depend on Python, so any interpreter's wheel has it; this is one that both
/// architectures are published for.
const PYTHON: &str = "3.12";
const ABI: &str = "cp312";

/// Downloads on slow lines take minutes; one that takes longer has stopped.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// How far an installation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, for people.
    pub stage: String,
    pub done_bytes: u64,
    /// About how many bytes there will be.
    pub total_bytes: u64,
}

/// Why the library could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(
        "no ONNX Runtime build is pinned for {os} on {arch}; install ONNX Runtime by other means \
         and name its library in ORT_DYLIB_PATH"
    )]
    NoBuild { os: &'static str, arch: &'static str },
    #[error("there is no cache folder; set HOME or XDG_CACHE_HOME to an absolute path")]
    NoCache,
    #[error(
        "ONNX Runtime {PINNED_VERSION} is not installed, and fetching it was forbidden (--offline)"
    )]
    Offline,
    #[error("neither pip nor uv was found; install Python 3 with pip, or uv (tried {tried})")]
    NoInstaller { tried: String },
    #[error("fetching ONNX Runtime {PINNED_VERSION} failed: {reasons}")]
    Fetch { reasons: String },
    #[error("the library that was fetched cannot be used: {reason}")]
    Broken { reason: String },
    #[error("cannot {action} {path}")]
    Files { action: &'static str, path: String, source: io::Error },
}

/// Installs the pinned release into the cache, unless it is there and works.
///
/// Blocks until done. Any number of processes may do so at once: the first installs, the others
/// wait. A process that is killed leaves nothing that the next one does not clean up.
pub fn install(offline: bool, progress: &mut dyn FnMut(Progress)) -> Result<Library, InstallError> {
    let pin = pin()?;
    let folder = cache::folder().ok_or(InstallError::NoCache)?;
    install_into(&folder, pin, offline, progress, &mut |staging, progress| {
        fetch(pin, staging, progress)
    })
}

fn pin() -> Result<&'static Pin, InstallError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    PINS.iter()
        .find(|pin| os == "linux" && pin.arch == arch)
        .ok_or(InstallError::NoBuild { os, arch })
}

type Fetch<'a> =
    &'a mut dyn FnMut(&Path, &mut dyn FnMut(Progress)) -> Result<PathBuf, InstallError>;

/// Installs below `folder`; `fetch` puts the package into a folder and says where.
fn install_into(
    folder: &Path,
    pin: &Pin,
    offline: bool,
    progress: &mut dyn FnMut(Progress),
    fetch: Fetch<'_>,
) -> Result<Library, InstallError> {
    let target = folder.join(format!("onnxruntime-{PINNED_VERSION}-{}", pin.arch));
    if let Some(library) = installed(&target) {
        return Ok(library);
    }
    if offline {
        return Err(InstallError::Offline);
    }
    fs::create_dir_all(folder).map_err(files("create", folder))?;
    let lock = folder.join(".lock");
    let file = File::create(&lock).map_err(files("create", &lock))?;
    if file.try_lock().is_err() {
        progress(stage("waiting for another installation", pin));
        file.lock().map_err(files("lock", &lock))?;
    }
    if let Some(library) = installed(&target) {
        return Ok(library);
    }
    // The lock is ours, so whatever is staged was left by a process that was killed.
    remove_staged(folder)?;
    let staging = folder.join(format!("{STAGING}{}", std::process::id()));
    fs::create_dir(&staging).map_err(files("create", &staging))?;
    let result = fetch(&staging, progress)
        .and_then(|package| publish(&package, &staging, &target))
        .and_then(|()| {
            installed(&target).ok_or_else(|| InstallError::Broken {
                reason: format!("it does not load from {}", target.display()),
            })
        });
    // Cleaning up is the next one's work if it fails now; the result counts.
    let _ = fs::remove_dir_all(&staging);
    result
}

const STAGING: &str = ".staging-";

fn remove_staged(folder: &Path) -> Result<(), InstallError> {
    let entries = fs::read_dir(folder).map_err(files("read", folder))?;
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(STAGING) {
            fs::remove_dir_all(entry.path()).map_err(files("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// The library in a finished installation, if it works.
fn installed(target: &Path) -> Option<Library> {
    let path = cache::libraries_in(target).into_iter().next()?;
    let version = verify(&path).ok()?.version;
    Some(Library { origin: Origin::Cache, path, version })
}

/// Moves the library and its licence from the unpacked package to its place in one step.
fn publish(package: &Path, staging: &Path, target: &Path) -> Result<(), InstallError> {
    let library = cache::libraries_in(&package.join("capi")).into_iter().next();
    let Some(library) = library else {
        return Err(InstallError::Broken {
            reason: format!("there is none in {}", package.display()),
        });
    };
    let finished = staging.join("finished");
    fs::create_dir(&finished).map_err(files("create", &finished))?;
    for name in ["LICENSE", "ThirdPartyNotices.txt"] {
        let from = package.join(name);
        if from.exists() {
            fs::rename(&from, finished.join(name)).map_err(files("move", &from))?;
        }
    }
    let placed = finished.join(library.file_name().unwrap_or_default());
    fs::rename(&library, &placed).map_err(files("move", &library))?;
    // Not loaded here: a loaded library would stay mapped under this name.
    elf::check_whole(&placed).map_err(|reason| InstallError::Broken { reason })?;
    // On disk before it gets its name, so that not even a power cut leaves half a library there.
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(&placed).map_err(files("write", &placed))?;
    sync(&finished).map_err(files("write", &finished))?;
    if target.exists() {
        // It was there and did not work, or we would not be here.
        let broken = staging.join("broken");
        fs::rename(target, &broken).map_err(files("move", target))?;
    }
    fs::rename(&finished, target).map_err(files("move", &finished))
}

/// Has pip or uv unpack the wheel below `staging`; returns the package's folder.
fn fetch(
    pin: &Pin,
    staging: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, InstallError> {
    let requirements = staging.join("requirements.txt");
    let line = format!("onnxruntime=={PINNED_VERSION} --hash=sha256:{}\n", pin.sha256);
    File::create(&requirements)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(files("write", &requirements))?;
    let scratch = staging.join("scratch");
    fs::create_dir(&scratch).map_err(files("create", &scratch))?;

    let installers = installers(pin);
    let mut failures = Vec::new();
    for (index, installer) in installers.iter().enumerate() {
        let package = staging.join(format!("package-{index}"));
        let mut command = Command::new(installer.program);
        command
            .args(&installer.arguments)
            .arg("--target")
            .arg(&package)
            .arg("--requirement")
            .arg(&requirements)
            // Downloads pass through here, where they can be watched and are cleaned up.
            .env("TMPDIR", &scratch)
            // A person's settings that contradict `--target`.
            .env("PIP_USER", "0")
            .env("PIP_REQUIRE_VIRTUALENV", "0")
            .env("PIP_NO_INPUT", "1")
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        match run(command, installer.name, pin, staging, progress) {
            Outcome::Done => return Ok(package.join("onnxruntime")),
            Outcome::NotThere => {}
            Outcome::Failed(reason) => failures.push(format!("{}: {reason}", installer.name)),
        }
    }
    if failures.is_empty() {
        let tried = installers.iter().map(|it| it.name).collect::<Vec<_>>().join(", ");
        return Err(InstallError::NoInstaller { tried });
    }
    Err(InstallError::Fetch { reasons: failures.join("; ") })
}

struct Installer {
    name: &'static str,
    program: &'static str,
    arguments: Vec<OsString>,
}

/// Ways to install a wheel, the usual one first.
fn installers(pin: &Pin) -> Vec<Installer> {
    let pip = [
        "install",
        "--no-deps",
        "--no-compile",
        "--only-binary=:all:",
        "--require-hashes",
        "--python-version",
        PYTHON,
        "--implementation",
        "cp",
        "--abi",
        ABI,
        "--platform",
        pin.platform,
    ];
    let uv_platform = format!("{}-manylinux_2_28", pin.arch);
    let uv = [
        "pip",
        "install",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--python-version",
        PYTHON,
        "--python-platform",
        &uv_platform,
    ];
    let arguments = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
    let python_pip = [&["-m", "pip"], pip.as_slice()].concat();
    vec![
        Installer { name: "python3 -m pip", program: "python3", arguments: arguments(&python_pip) },
        Installer { name: "pip3", program: "pip3", arguments: arguments(&pip) },
        Installer { name: "pip", program: "pip", arguments: arguments(&pip) },
        Installer { name: "uv", program: "uv", arguments: arguments(&uv) },
    ]
}

enum Outcome {
    Done,
    NotThere,
    Failed(String),
}

/// Runs an installer to its end, telling how much it has written meanwhile.
fn run(
    mut command: Command,
    name: &str,
    pin: &Pin,
    staging: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Outcome {
    let failed = |error: io::Error| Outcome::Failed(error.to_string());
    // A file cannot fill up and block the installer, as a pipe that nobody reads would.
    let log_path = staging.join("log");
    let log = match File::create(&log_path).and_then(|log| Ok((log.try_clone()?, log))) {
        Ok(log) => log,
        Err(error) => return failed(error),
    };
    let child = command.stdin(Stdio::null()).stdout(log.0).stderr(log.1).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Outcome::NotThere,
        Err(error) => return failed(error),
    };
    let what = format!("fetching ONNX Runtime {PINNED_VERSION} with {name}");
    let deadline = Instant::now() + DEADLINE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Outcome::Done,
            Ok(Some(_)) => return explain(&log_path),
            Ok(None) if Instant::now() > deadline => {
                stop(&mut child);
                return Outcome::Failed(format!(
                    "no end after {} minutes",
                    DEADLINE.as_secs() / 60
                ));
            }
            Ok(None) => {
                let done_bytes = bytes_below(staging).min(pin.bytes);
                progress(Progress { done_bytes, ..stage(&what, pin) });
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => {
                stop(&mut child);
                return failed(error);
            }
        }
    }
}

fn stop(child: &mut Child) {
    // It may have ended by itself, which is as good.
    let _ = child.kill();
    let _ = child.wait();
}

/// The installer's own last words.
fn explain(log: &Path) -> Outcome {
    let text = fs::read(log).map(|text| String::from_utf8_lossy(&text).into_owned());
    let text = text.unwrap_or_default();
    if text.contains("No module named pip") {
        return Outcome::NotThere;
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let errors: Vec<&str> = lines
        .iter()
        .copied()
        .filter(|line| line.to_ascii_lowercase().starts_with("error"))
        .collect();
    let told = if errors.is_empty() { &lines } else { &errors };
    let last = told.get(told.len().saturating_sub(3)..).unwrap_or_default();
    Outcome::Failed(if last.is_empty() { "it said nothing".to_owned() } else { last.join(" ") })
}

fn stage(stage: &str, pin: &Pin) -> Progress {
    Progress { stage: stage.to_owned(), done_bytes: 0, total_bytes: pin.bytes }
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .fold(0, u64::saturating_add)
}

fn files(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.display().to_string();
    move |source| InstallError::Files { action, path, source }
}
