//! `trainyard fetch`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use miette::{IntoDiagnostic, WrapErr};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trainyard_storage::{FetchOptions, Fetched, Progress, Source, StorageError, may_pass};

use crate::failure::in_full;

/// Fetch models into a folder: what a pod does before its server starts
///
/// Exit codes: 0 it is there; 3 there is nothing at the address; 4 access was refused; 5 the content
/// is not what --sha256 asks for; 6 there is no space; 7 the store fails, and trying again may help;
/// 2 everything else. What was fetched so far is kept in the cache: the next try goes on from it.
#[derive(Args)]
pub(crate) struct Fetch {
    /// Where the model is: https, s3, gs, az or a file; of several, each gets a folder of its own
    #[arg(required = true, value_name = "URI")]
    uris: Vec<String>,
    /// Folder to make of the model: a model's files, or its one file, are put into it. What an
    /// earlier fetch made is replaced; any other folder must be empty or not there
    #[arg(long, value_name = "FOLDER", required_unless_present = "check")]
    to: Option<PathBuf>,
    /// Fetch nothing: look whether there is something at each address that may be read
    #[arg(long, conflicts_with = "to")]
    check: bool,
    /// With --check: a store of checkpoints may be empty, and only has to answer a list
    #[arg(long, requires = "check", conflicts_with = "sha256")]
    may_be_empty: bool,
    /// What the one model's content must hash to
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Folder of the cache; on the file system of --to nothing is copied [default: the user's]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// File to write the cause of a failure to, in one line: `REASON: TEXT`
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,
}

/// Attempts in a row that may bring nothing, with pauses of up to 10 s: about a minute, after which
/// whoever started us starts us again.
const ATTEMPTS: u32 = 12;
/// The same for a look, about six seconds: whoever started us looks again.
const LOOKS: u32 = 6;
/// Kubernetes cuts a termination message at 4096 bytes.
const LONGEST_MESSAGE: usize = 2048;

/// Why a model is not there, for who must act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Invalid,
    NotFound,
    AccessDenied,
    DigestMismatch,
    NoSpace,
    Unavailable,
}

impl Reason {
    fn of(error: &StorageError) -> Self {
        match error {
            StorageError::NotFound { .. } => Self::NotFound,
            StorageError::Denied { .. } => Self::AccessDenied,
            StorageError::Digest { .. } => Self::DigestMismatch,
            StorageError::NoSpace { .. } => Self::NoSpace,
            StorageError::Files { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                Self::NoSpace
            }
            // A file server that is away for now.
            StorageError::Files { source, .. } if may_pass(source) => Self::Unavailable,
            StorageError::Remote { .. }
            | StorageError::Changing { .. }
            | StorageError::Deadline { .. }
            | StorageError::Cancelled { .. } => Self::Unavailable,
            StorageError::Uri { .. }
            | StorageError::Rejected { .. }
            | StorageError::Unsupported { .. }
            | StorageError::InvalidDigest { .. }
            | StorageError::Settings { .. }
            | StorageError::NotCached { .. }
            | StorageError::UnsafeKey { .. }
            | StorageError::Object { .. }
            | StorageError::NoCache
            | StorageError::Files { .. } => Self::Invalid,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::NotFound => "NotFound",
            Self::AccessDenied => "AccessDenied",
            Self::DigestMismatch => "DigestMismatch",
            Self::NoSpace => "NoSpace",
            Self::Unavailable => "Unavailable",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::AccessDenied => 4,
            Self::DigestMismatch => 5,
            Self::NoSpace => 6,
            Self::Unavailable => 7,
        }
    }
}

impl Fetch {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        if self.uris.len() > 1 && self.sha256.is_some() {
            return Err(miette::miette!("--sha256 is of one model, and several are named"));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.into_diagnostic().wrap_err("cannot start the runtime")?.block_on(self.fetch())
    }

    async fn fetch(self) -> miette::Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate()).into_diagnostic()?;
        let mut interrupt = signal(SignalKind::interrupt()).into_diagnostic()?;
        let cancel = CancellationToken::new();
        let signals = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            cancel.cancel();
            std::future::pending::<()>().await;
        };
        let result = tokio::select! {
            result = self.fetch_all(&cancel) => result,
            () = signals => return Ok(ExitCode::FAILURE),
        };
        let Err(failure) = result else { return Ok(ExitCode::SUCCESS) };
        eprintln!("error: {}", failure.text);
        if let Some(log) = &self.termination_log {
            let message = format!("{}: {}\n", failure.reason.as_str(), failure.text);
            fs::write(log, message)
                .into_diagnostic()
                .wrap_err_with(|| format!("cannot write `{}`", log.display()))?;
        }
        Ok(ExitCode::from(failure.reason.exit_code()))
    }

    async fn fetch_all(&self, cancel: &CancellationToken) -> Result<(), Failure> {
        let Some(to) = self.to.as_ref().filter(|_| !self.check) else {
            return self.look_at_all().await;
        };
        let options = FetchOptions {
            cache: self.cache.clone(),
            sha256: self.sha256.clone(),
            attempts: ATTEMPTS,
            ..FetchOptions::default()
        };
        for uri in &self.uris {
            let fetched =
                trainyard_storage::fetch(uri, &options, &|_: Progress| {}, cancel).await?;
            let to = match self.uris.len() {
                1 => to.clone(),
                _ => to.join(name(&fetched)),
            };
            // Nothing else runs here meanwhile, so blocking is no harm.
            place(&fetched.path, fetched.source == Source::Local, &to)?;
            eprintln!("{} bytes, {}, in {}", fetched.bytes, fetched.fingerprint, to.display());
        }
        Ok(())
    }

    async fn look_at_all(&self) -> Result<(), Failure> {
        let options = FetchOptions {
            attempts: LOOKS,
            sha256: self.sha256.clone(),
            ..FetchOptions::default()
        };
        for uri in &self.uris {
            if self.may_be_empty {
                trainyard_storage::reach(uri, &options.credentials).await?;
                continue;
            }
            let found = trainyard_storage::look(uri, &options).await?;
            let bytes = found.bytes.map(|bytes| format!(", {bytes} bytes")).unwrap_or_default();
            eprintln!("{} files{bytes}", found.files);
        }
        Ok(())
    }
}

/// Why a model is not there, in one line.
#[derive(Debug)]
struct Failure {
    reason: Reason,
    text: String,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self { reason: Reason::of(&error), text: one_line(&error) }
    }
}

/// The name of a model's own folder among several.
fn name(fetched: &Fetched) -> PathBuf {
    let digits = fetched.fingerprint.rsplit(':').next().unwrap_or_default();
    fetched.path.file_name().map_or_else(|| digits.into(), PathBuf::from)
}

/// Puts a file, or the files of a folder, into a folder: as links where the file system can, so that
/// nothing is there twice. A user's own files are copied, since a link would change with them.
fn place(from: &Path, copy: bool, to: &Path) -> Result<(), Failure> {
    let failed = |action, path: &Path| {
        let path = path.display().to_string();
        move |source| Failure::from(StorageError::Files { action, path, source })
    };
    let to = std::path::absolute(to).map_err(failed("find", to))?;
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(occupied(&to));
    };
    let beside = |ending: &str| parent.join(format!(".{}.{ending}", name.to_string_lossy()));
    let (staging, marker) = (beside("partial"), beside("fetched"));
    let is_empty = fs::read_dir(&to).map_or_else(
        |error| error.kind() == io::ErrorKind::NotFound,
        |mut entries| entries.next().is_none(),
    );
    // Never remove what somebody else put there.
    if !is_empty && !marker.exists() {
        return Err(occupied(&to));
    }
    for old in [&staging, &to] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace", old)(error));
            }
            _ => {}
        }
    }
    fs::create_dir_all(&staging).map_err(failed("create", &staging))?;
    if from.is_dir() {
        put_folder(from, copy, &staging).map_err(failed("fill", &staging))?;
    } else {
        let name = from.file_name().unwrap_or_default();
        put(from, copy, &staging.join(name)).map_err(failed("fill", &staging))?;
    }
    fs::write(&marker, "").map_err(failed("write", &marker))?;
    // The folder is whole or it is not there.
    fs::rename(&staging, &to).map_err(failed("create", &to))
}

fn occupied(to: &Path) -> Failure {
    let to = to.display();
    Failure {
        reason: Reason::Invalid,
        text: format!(
            "`{to}` holds something that no fetch put there; name a folder of its own with --to"
        ),
    }
}

fn put_folder(from: &Path, copy: bool, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if fs::metadata(entry.path())?.is_dir() {
            fs::create_dir(&target)?;
            put_folder(&entry.path(), copy, &target)?;
        } else {
            put(&entry.path(), copy, &target)?;
        }
    }
    Ok(())
}

fn put(from: &Path, copy: bool, to: &Path) -> io::Result<()> {
    // Links end where another file system begins, or one without links.
    if copy || fs::hard_link(from, to).is_err() {
        fs::copy(from, to)?;
    }
    Ok(())
}

/// An error and its causes, in one line that a status can show.
fn one_line(error: &StorageError) -> String {
    let text = in_full(error);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=LONGEST_MESSAGE.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    line.get(..end.unwrap_or_default()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_folder_and_a_file_are_put_into_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let from = root.path().join("from");
        fs::create_dir_all(from.join("1")).unwrap();
        fs::write(from.join("1/model.onnx"), "a").unwrap();
        let to = root.path().join("model");
        place(&from, false, &to).unwrap();
        assert_eq!(read(&to.join("1/model.onnx")), "a");

        // A second run replaces what was there.
        let file = root.path().join("m.bin");
        fs::write(&file, "b").unwrap();
        place(&file, true, &to).unwrap();
        assert_eq!(read(&to.join("m.bin")), "b");
        assert!(!to.join("1").exists() && !root.path().join(".model.partial").exists());
        fs::write(&file, "c").unwrap();
        assert_eq!(read(&to.join("m.bin")), "b", "it was copied");
    }

    #[test]
    fn nothing_of_others_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("m.bin");
        fs::write(&file, "b").unwrap();
        let to = root.path().join("precious");
        fs::create_dir(&to).unwrap();
        fs::write(to.join("thesis.tex"), "a").unwrap();
        let failure = place(&file, false, &to).unwrap_err();
        assert_eq!(failure.reason.exit_code(), 2);
        assert_eq!(read(&to.join("thesis.tex")), "a");
        fs::remove_file(to.join("thesis.tex")).unwrap();
        place(&file, false, &to).unwrap();
        assert!(place(&file, false, Path::new("/")).is_err());
    }

    #[test]
    fn messages_are_one_short_line() {
        let uri = "s3://b/k".to_owned();
        let reason = format!("a\nb {}", "é".repeat(3000));
        let error = StorageError::Remote { uri, attempts: 3, reason };
        let text = one_line(&error);
        assert!(text.len() <= LONGEST_MESSAGE && !text.contains('\n'), "{}", text.len());
        assert_eq!(Reason::of(&error).exit_code(), 7);
    }
}
