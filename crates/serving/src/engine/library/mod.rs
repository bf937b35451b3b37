//! Finding, checking and installing the ONNX Runtime library.

mod cache;
mod elf;
mod install;
mod search;
mod verify;

use std::path::PathBuf;

pub use install::{InstallError, PINNED_VERSION, Progress, install};
pub use search::{Origin, Search, find, list};

/// A library that was loaded once and does what we need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    pub origin: Origin,
    /// As given to the system's loader; a bare name for a library on its path.
    pub path: PathBuf,
    /// Such as `1.31.1`.
    pub version: String,
}

/// A library that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub origin: Origin,
    pub path: PathBuf,
    pub reason: String,
}
