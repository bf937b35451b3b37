//! A folder of objects to write to: a directory, or a prefix of a bucket.
//!
//! In: a URI and small whole objects (some MiB). Out: the promise that an object which was put is
//! durable and holds what was given. Knows nothing of what the objects mean.

mod bucket;
mod directory;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use object_store::ObjectStore;

use crate::credentials::Credentials;
use crate::error::StorageError;
use crate::location::{self, Location, Place};
use crate::remote;

/// One answer of a folder of objects.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StorageError>>;

/// What a list tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Relative to the folder.
    pub key: String,
    pub bytes: u64,
    /// When it was written, by the clock of the store.
    pub modified: SystemTime,
}

/// A folder of objects. A kind is one file and one arm in [`open`].
///
/// Keys are relative paths whose names are made of letters, digits and `._-`, so that they are the
/// same in every store. A dropped future leaves each object either as it was or as it was to be.
pub trait Objects: fmt::Debug + Send + Sync {
    /// Writes an object, in place of one that is there. When it answers, the bytes are durable, and
    /// what the store holds was compared with them: by the store's own checksum, or by reading it.
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, ()>;

    /// Writes an object unless there is one; tells whether it did. Of several callers one does.
    fn create<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool>;

    /// Whether an object is there and holds exactly these bytes, by the store's own checksum or by
    /// reading it.
    fn holds<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool>;

    /// Reads an object of at most `most` bytes; a larger one is [`StorageError::Object`].
    fn get<'a>(&'a self, key: &'a str, most: u64) -> Answer<'a, Bytes>;

    /// All objects below a folder of keys, in order of their keys. None is no error.
    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<Object>>;

    /// Deletes an object; one that is not there is deleted already.
    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()>;

    /// How long what one process writes may stay unseen by another's list: zero, but for network
    /// file systems that cache.
    fn visibility(&self) -> Duration;

    /// The URI for people.
    fn uri(&self) -> &str;
}

/// Opens the folder that a URI names: a path, `file`, `s3`, `gs` or `az`. Nothing is sent or made
/// yet.
pub fn open(uri: &str, credentials: &Credentials) -> Result<Arc<dyn Objects>, StorageError> {
    let shown = location::shown(uri);
    match Location::parse(uri, false)? {
        Location::Local(path) => {
            let path = std::path::absolute(&path).map_err(crate::error::files("find", &path))?;
            Ok(Arc::new(directory::Directory::new(path, shown)))
        }
        Location::Remote(Place::Http(_)) => Err(StorageError::Unsupported {
            uri: shown,
            help: "a web server cannot be written to; name a folder or an s3, gs or az address",
        }),
        Location::Remote(Place::Object { store, bucket, key }) => {
            let store = remote::bucket_of(store, &bucket, &shown, credentials)?;
            Ok(Arc::new(bucket::Bucket::new(store, &key, shown)?))
        }
    }
}

/// The folder below `prefix` of any store of the `object_store` crate, such as one of a test.
pub fn over(
    store: Arc<dyn ObjectStore>,
    prefix: &str,
    uri: String,
) -> Result<Arc<dyn Objects>, StorageError> {
    Ok(Arc::new(bucket::Bucket::new(store, prefix, uri)?))
}

#[cfg(test)]
mod tests;
