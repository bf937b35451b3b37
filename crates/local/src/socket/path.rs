//! Addresses of Unix sockets hold 108 bytes, and paths are longer.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A short way to the same place, for as long as the folder that it holds open.
pub(super) struct ShortPath {
    pub(super) path: PathBuf,
    _folder: Option<File>,
}

/// `sockaddr_un` has 108 bytes, the last of which is a zero.
const LONGEST: usize = 107;

impl ShortPath {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        let folder = File::open(parent)?;
        let name = path.file_name().unwrap_or_default();
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }
}
