//! SHA-256 of files and of folders.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{StorageError, files};
use crate::meter::Meter;

/// Hashed between two looks at cancellation and progress: some 20 ms of work.
const STEP_BYTES: u64 = 16 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// What the caller expects, in lower case.
pub(crate) fn parse(given: &str) -> Result<String, StorageError> {
    let hex = given.strip_prefix("sha256:").unwrap_or(given);
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(StorageError::InvalidDigest { given: given.to_owned() });
    }
    Ok(hex.to_ascii_lowercase())
}

/// The hash of a text.
pub(crate) fn of_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// The hash of a folder, from the hashes of its files by path.
pub(crate) fn of_folder<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut entries: Vec<(&str, &str)> = entries.collect();
    entries.sort_unstable();
    let mut hasher = Sha256::new();
    for (path, sha256) in entries {
        // The form that `sha256sum` prints.
        hasher.update(format!("{sha256}  {path}\n"));
    }
    hex(&hasher.finalize())
}

/// The hash of a file. The work is done on blocking threads, in steps.
pub(crate) async fn of_file(path: &Path, meter: &Meter<'_>) -> Result<String, StorageError> {
    let opened = path.to_owned();
    let mut state = blocking(move || {
        let file = File::open(&opened).map_err(files("open", &opened))?;
        Ok((file, Sha256::new()))
    })
    .await?;
    loop {
        let (mut file, mut hasher) = state;
        let named = path.to_owned();
        let read;
        (state, read) = blocking(move || {
            let mut buffer = vec![0; BUFFER_BYTES];
            let mut total = 0u64;
            while total < STEP_BYTES {
                let n = file.read(&mut buffer).map_err(files("read", &named))?;
                if n == 0 {
                    break;
                }
                hasher.update(buffer.get(..n).unwrap_or_default());
                total = total.saturating_add(n as u64);
            }
            Ok(((file, hasher), total))
        })
        .await?;
        meter.add(read);
        if read < STEP_BYTES {
            return Ok(hex(&state.1.finalize()));
        }
    }
}

/// Runs file work away from the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is being torn down cancels blocking work.
            Err(_) => Err(StorageError::Cancelled { uri: String::new() }),
        },
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn given_forms() {
        assert_eq!(parse(EMPTY).unwrap(), EMPTY);
        assert_eq!(parse(&format!("sha256:{}", EMPTY.to_uppercase())).unwrap(), EMPTY);
        for wrong in ["", "abc", &EMPTY[1..], &EMPTY.replace('e', "g")] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_folder_hashes_as_sha256sum_prints_it() {
        // printf '%s  a/b\n%s  c\n' $EMPTY $EMPTY | sha256sum
        let folder = of_folder([("c", EMPTY), ("a/b", EMPTY)].into_iter());
        assert_eq!(folder, of_text(&format!("{EMPTY}  a/b\n{EMPTY}  c\n")));
    }

    #[tokio::test]
    async fn a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hash = of_file(file.path(), &Meter::silent()).await.unwrap();
        assert_eq!(hash, EMPTY);
        std::fs::write(file.path(), vec![7; 1_000_000]).unwrap();
        let hash = of_file(file.path(), &Meter::silent()).await.unwrap();
        assert_eq!(hash, hex(&Sha256::digest(vec![7; 1_000_000])));
    }
}
