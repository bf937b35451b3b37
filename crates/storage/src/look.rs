//! What is at an address, without fetching it.

use crate::cache::Entry;
use crate::credentials::Credentials;
use crate::error::StorageError;
use crate::fault::Fault;
use crate::fetch::FetchOptions;
use crate::location::{self, Location};
use crate::remote::{self, Listing, Remote};
use crate::update::list;
use crate::{digest, local, objects};

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// At least one.
    pub files: usize,
    /// Of all files; none where the remote does not say.
    pub bytes: Option<u64>,
}

/// Looks whether there is something at an address that this process may read: a file, or a folder
/// with files. Reads no content, and needs no cache; content of the `sha256` that is asked for is there
/// if the cache has it.
pub async fn look(uri: &str, options: &FetchOptions) -> Result<Found, StorageError> {
    let shown = location::shown(uri);
    let place = match Location::parse(uri, options.allow_http)? {
        Location::Local(path) => {
            let (files, bytes) = local::count(&path, &shown).await?;
            return match files {
                0 => Err(StorageError::NotFound { uri: shown }),
                _ => Ok(Found { files, bytes: Some(bytes) }),
            };
        }
        Location::Remote(place) => place,
    };
    if let Some(expected) = &options.sha256 {
        let expected = digest::parse(expected)?;
        let identity = remote::identity(&place, &options.credentials);
        // What a fetch would not ask the remote for is there.
        if let Ok(entry) = Entry::open(options.cache.as_deref(), &identity)
            && let Ok(Some(cached)) = entry.model().await
            && cached.sha256() == expected
        {
            let bytes = cached.files.iter().fold(0u64, |sum, it| sum.saturating_add(it.bytes));
            return Ok(Found { files: cached.files.len(), bytes: Some(bytes) });
        }
    }
    let remote = Remote::open(&place, &shown, options)?;
    let unavailable = |reason| StorageError::Remote { uri: shown.clone(), attempts: 1, reason };
    let files = match list(&shown, options, &remote, None).await {
        Ok(Listing::File(file)) => vec![file],
        Ok(Listing::Folder(files)) => files,
        // Nothing was known that could be unchanged.
        Ok(Listing::Unchanged) | Err(Fault::Changed) => {
            return Err(StorageError::Changing { uri: shown });
        }
        Err(Fault::Fatal(error)) => return Err(error),
        Err(Fault::Transient { reason, .. }) => return Err(unavailable(reason)),
        Err(Fault::NoRanges) => {
            return Err(unavailable("it answered with another range than asked for".to_owned()));
        }
    };
    let mut sizes = files.iter().map(|file| file.size);
    let bytes = sizes.try_fold(0u64, |sum, size| Some(sum.saturating_add(size?)));
    Ok(Found { files: files.len(), bytes })
}

/// A folder that nobody writes to: listing it costs one short answer, however much is beside it.
const NOWHERE: &str = ".nothing";

/// Looks whether a folder of objects that is to be written to can be listed, though nothing may be in
/// it yet. Writes nothing: that writing is allowed too is not known.
pub async fn reach(uri: &str, credentials: &Credentials) -> Result<(), StorageError> {
    objects::open(uri, credentials)?.list(NOWHERE).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn paths() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let look = async |name: &str| super::look(&at(name), &FetchOptions::default()).await;
        std::fs::create_dir_all(folder.path().join("full/deep")).unwrap();
        std::fs::create_dir_all(folder.path().join("empty/deep")).unwrap();
        std::fs::write(folder.path().join("full/deep/a"), "abc").unwrap();
        assert_eq!(look("full").await.unwrap(), Found { files: 1, bytes: Some(3) });
        assert_eq!(look("full/deep/a").await.unwrap(), Found { files: 1, bytes: Some(3) });
        for missing in ["empty", "none"] {
            let error = look(missing).await.unwrap_err();
            assert!(matches!(error, StorageError::NotFound { .. }), "{missing}: {error}");
        }
    }

    #[tokio::test]
    async fn a_store_may_be_empty() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("file://{}/{name}", folder.path().display());
        reach(&at("not/yet"), &Credentials::default()).await.unwrap();
        assert!(!folder.path().join("not").exists(), "nothing is made");
        std::fs::create_dir(folder.path().join("there")).unwrap();
        std::fs::write(folder.path().join("there/.nothing"), "").unwrap();
        let error = reach(&at("there"), &Credentials::default()).await.unwrap_err();
        assert!(matches!(error, StorageError::Files { .. }), "{error}");
        let error = reach("https://example.com/a", &Credentials::default()).await.unwrap_err();
        assert!(matches!(error, StorageError::Unsupported { .. }), "{error}");
    }
}
