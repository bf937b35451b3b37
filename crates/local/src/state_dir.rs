//! The folder that holds all that outlives a supervisor.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Paths below the state folder, `.trainyard` unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("cannot {action} `{path}`")]
    Files { action: &'static str, path: PathBuf, source: io::Error },
    #[error("another supervisor holds `{path}`")]
    Locked { path: PathBuf },
}

impl StateDir {
    /// Names the folder; touches nothing. The path becomes absolute, since replicas and later
    /// supervisors may start in other folders.
    pub fn new(root: &Path) -> Result<Self, StateDirError> {
        let root = std::path::absolute(root).map_err(|source| StateDirError::Files {
            action: "resolve",
            path: root.to_owned(),
            source,
        })?;
        Ok(Self { root })
    }

    /// Makes the folder, for its owner only: it holds secrets and the control socket.
    pub fn create(&self) -> Result<(), StateDirError> {
        for folder in [self.root.clone(), self.run(), self.logs_root()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(self.failed("make", &folder))?;
        }
        let ignore = self.root.join(".gitignore");
        if !ignore.exists() {
            // State and secrets must not end up in somebody's repository.
            fs::write(&ignore, "*\n").map_err(self.failed("write", &ignore))?;
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateDirError {
        let path = path.to_owned();
        move |source| StateDirError::Files { action, path, source }
    }

    /// Takes the lock, so that no two supervisors share the folder. It ends with the process, or
    /// with the last process that it was handed to.
    pub(crate) fn lock(&self) -> Result<File, StateDirError> {
        let path = self.root.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(self.failed("open", &path))?;
        // Who looks whether it is held holds it for a moment.
        let mut tries = 10;
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::WouldBlock if tries > 0 => tries -= 1,
                TryLockError::WouldBlock => {
                    return Err(StateDirError::Locked { path: self.root.clone() });
                }
                TryLockError::Error(source) => {
                    return Err(StateDirError::Files { action: "lock", path, source });
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // For people who look; nothing reads it.
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(self.failed("write", &path))?;
        Ok(file)
    }

    /// Whether a supervisor holds the lock.
    pub fn is_locked(&self) -> bool {
        let Ok(file) = OpenOptions::new().write(true).open(self.root.join("lock")) else {
            return false;
        };
        matches!(file.try_lock(), Err(TryLockError::WouldBlock))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("state.db")
    }

    pub fn socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// Where a supervisor without a terminal writes what it has to say.
    pub fn supervisor_log(&self) -> PathBuf {
        self.root.join("supervisor.log")
    }

    /// Copies of models, one folder for each state that a model was in.
    pub(crate) fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    pub(crate) fn logs_root(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Logs of the replicas of one service.
    pub fn logs(&self, service: &str) -> PathBuf {
        self.logs_root().join(service)
    }

    /// Files that live as long as a run of a replica.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// `NAME/KEY` files with secrets.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_supervisor_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(&folder.path().join("deep/state")).unwrap();
        assert!(!state.is_locked());
        state.create().unwrap();
        let lock = state.lock().unwrap();
        assert!(state.is_locked());
        assert!(matches!(state.lock(), Err(StateDirError::Locked { .. })));
        drop(lock);
        assert!(!state.is_locked());
        state.lock().unwrap();
    }
}
