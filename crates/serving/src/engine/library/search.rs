//! Where libraries are looked for, and in which order.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::verify::verify;
use super::{Library, Rejected, cache};

/// Why a place was searched. The order is the order of search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The environment variable `ORT_DYLIB_PATH`.
    Variable,
    /// The folder of this program, or `lib` beside it.
    Beside,
    /// Installed by `trainyard engine install`.
    Cache,
    /// The package `onnxruntime` of the active Python.
    Python,
    /// The system's loader.
    System,
}

impl Origin {
    /// The form that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Variable => "ORT_DYLIB_PATH",
            Self::Beside => "beside the program",
            Self::Cache => "installed by trainyard",
            Self::Python => "the active Python",
            Self::System => "the system's loader",
        }
    }
}

/// What a search saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Libraries that work, in the order of search; the first is the one to use.
    pub usable: Vec<Library>,
    pub rejected: Vec<Rejected>,
}

/// Finds the first library that works. Those before it that do not are warned about.
pub fn find() -> Search {
    let search = run(candidates(), true);
    for rejected in &search.rejected {
        tracing::warn!(
            path = %rejected.path.display(),
            origin = rejected.origin.as_str(),
            reason = rejected.reason,
            "skipping an ONNX Runtime library"
        );
    }
    search
}

/// Finds every library, working or not.
pub fn list() -> Search {
    run(candidates(), false)
}

type Candidate = (Origin, PathBuf);

fn run(candidates: impl Iterator<Item = Candidate>, first_only: bool) -> Search {
    let mut search = Search::default();
    let mut seen = Vec::new();
    let mut interfaces = Vec::new();
    for (origin, path) in candidates {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if seen.contains(&real) {
            continue;
        }
        seen.push(real);
        match verify(&path) {
            // The loader answers a bare name with a library that is loaded already.
            Ok(found) if interfaces.contains(&found.interface) => {}
            Ok(found) => {
                interfaces.push(found.interface);
                search.usable.push(Library { origin, path, version: found.version });
            }
            // A machine without it in the system's folders is normal.
            Err(_) if origin == Origin::System => {}
            Err(reason) => search.rejected.push(Rejected { origin, path, reason }),
        }
        if first_only && !search.usable.is_empty() {
            break;
        }
    }
    search
}

/// Candidates in order; each place is looked at only when the ones before it gave nothing.
fn candidates() -> impl Iterator<Item = Candidate> {
    type Place = fn() -> Vec<PathBuf>;
    let places: [(Origin, Place); 5] = [
        (Origin::Variable, from_variable),
        (Origin::Beside, beside),
        (Origin::Cache, cached),
        (Origin::Python, python),
        (Origin::System, system),
    ];
    places.into_iter().flat_map(|(origin, paths)| {
        std::iter::once(paths).flat_map(|paths| paths()).map(move |path| (origin, path))
    })
}

fn from_variable() -> Vec<PathBuf> {
    let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) else {
        return Vec::new();
    };
    let path = PathBuf::from(path);
    if !path.is_dir() {
        return vec![path];
    }
    match cache::libraries_in(&path) {
        // Named, so that the search says what is wrong with it.
        found if found.is_empty() => vec![path],
        found => found,
    }
}

fn beside() -> Vec<PathBuf> {
    let Ok(program) = std::env::current_exe() else { return Vec::new() };
    let Some(folder) = program.parent() else { return Vec::new() };
    [folder.to_owned(), folder.join("lib")].iter().flat_map(|it| cache::libraries_in(it)).collect()
}

fn cached() -> Vec<PathBuf> {
    let Some(folder) = cache::folder() else { return Vec::new() };
    cache::installed(&folder).iter().flat_map(|engine| cache::libraries_in(engine)).collect()
}

fn python() -> Vec<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(std::env::var_os);
    for prefix in active {
        let found = in_prefix(Path::new(&prefix));
        if !found.is_empty() {
            return found;
        }
    }
    ["python3", "python"].into_iter().find_map(ask).unwrap_or_default()
}

/// Libraries of the packages below an environment's prefix.
fn in_prefix(prefix: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(prefix.join("lib")) else { return Vec::new() };
    let mut pythons: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
        .map(|entry| entry.path())
        .collect();
    pythons.sort();
    let capi = Path::new("site-packages").join("onnxruntime").join("capi");
    pythons.iter().rev().flat_map(|python| cache::libraries_in(&python.join(&capi))).collect()
}

/// Asks an interpreter where its package is; finding a package does not run it.
fn ask(interpreter: &str) -> Option<Vec<PathBuf>> {
    const SCRIPT: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
                          print(s.origin if s and s.origin else '')";
    let answer = Command::new(interpreter)
        .args(["-I", "-c", SCRIPT])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    if !answer.status.success() {
        return None;
    }
    let package = PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim());
    Some(cache::libraries_in(&package.parent()?.join("capi")))
}

fn system() -> Vec<PathBuf> {
    let name =
        format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    // Distributions put the bare name into their development package only.
    let versioned = format!("{name}.1");
    [name, versioned].into_iter().map(|name| PathBuf::from(OsStr::new(&name))).collect()
}
