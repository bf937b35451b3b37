//! The places that are not this machine, behind one interface. A kind is one file and one arm here.

mod aws_files;
mod az;
mod gs;
mod http;
mod s3;
mod store;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::ObjectStore;

pub(crate) use store::fault_of;

use crate::credentials::Credentials;
use crate::error::StorageError;
use crate::fault::Fault;
use crate::fetch::FetchOptions;
use crate::location::{Place, Store};

/// A body as it arrives.
pub(crate) type Chunks = BoxStream<'static, Result<Bytes, Fault>>;

/// What the remote has to tell a content from its successor: an ETag, or else a date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) String);

impl Tag {
    pub(crate) fn etag(value: &str) -> Self {
        Self(format!("etag {value}"))
    }

    pub(crate) fn modified(date: &str) -> Self {
        Self(format!("modified {date}"))
    }

    pub(crate) fn as_etag(&self) -> Option<&str> {
        self.0.strip_prefix("etag ")
    }

    /// Whether equal tags mean equal bytes, so that ranges of two answers fit together. A weak ETag
    /// promises the same meaning only.
    pub(crate) fn is_strong(&self) -> bool {
        self.as_etag().is_none_or(|etag| !etag.starts_with("W/"))
    }
}

/// One file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Relative to the model's folder; just a name for a single file. Checked by [`crate::key`].
    pub(crate) path: String,
    /// The store's own name of it.
    pub(crate) key: String,
    pub(crate) size: Option<u64>,
    pub(crate) tag: Option<Tag>,
    /// Whether the remote gives parts of it.
    pub(crate) ranges: bool,
}

/// What is at a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listing {
    File(RemoteFile),
    /// By path. Not empty.
    Folder(Vec<RemoteFile>),
    /// What the caller knows is still right.
    Unchanged,
}

pub(crate) enum Remote {
    Http(http::HttpRemote),
    Store(store::StoreRemote),
}

impl Remote {
    /// Prepares to ask. Nothing is sent yet.
    pub(crate) fn open(
        place: &Place,
        uri: &str,
        options: &FetchOptions,
    ) -> Result<Self, StorageError> {
        // Libraries and tests may come here without the binary's set-up; the first one wins.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(match place {
            Place::Http(_) if options.credentials.are_given() => {
                let reason = "a web server is asked without credentials; put a signature into the \
                              URL, or leave them out"
                    .to_owned();
                return Err(StorageError::Settings { uri: uri.to_owned(), reason });
            }
            Place::Http(url) => Self::Http(http::HttpRemote::open(url.clone(), uri, options)?),
            Place::Object { store, bucket, key } => {
                let object_store = bucket_of(*store, bucket, uri, &options.credentials)?;
                Self::Store(store::StoreRemote::open(object_store, key, uri, options.stall)?)
            }
        })
    }

    /// Looks what is there. `known` is the tag of the single file that the caller has, if any.
    pub(crate) async fn list(&self, known: Option<&Tag>) -> Result<Listing, Fault> {
        match self {
            Self::Http(remote) => remote.probe(known).await,
            Self::Store(remote) => remote.list().await,
        }
    }

    /// Reads a file or a part of it. The first byte of the stream is the first of the range; how
    /// many there are is for the caller to check.
    pub(crate) async fn read(
        &self,
        file: &RemoteFile,
        range: Option<Range<u64>>,
    ) -> Result<Chunks, Fault> {
        match self {
            Self::Http(remote) => remote.read(file, range).await,
            Self::Store(remote) => remote.read(file, range).await,
        }
    }
}

/// The client of the bucket that a place is in. Nothing is sent yet.
pub(crate) fn bucket_of(
    store: Store,
    bucket: &str,
    uri: &str,
    credentials: &Credentials,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    // As in `open`.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let opened = match store {
        Store::S3 => s3::open(bucket, credentials),
        Store::Gs => gs::open(bucket, credentials),
        Store::Az => az::open(bucket, credentials),
    };
    opened.map_err(|reason| StorageError::Settings { uri: uri.to_owned(), reason })
}

/// What tells two remotes of one URI apart: the same bucket name at two endpoints is two buckets.
pub(crate) fn identity(place: &Place, credentials: &Credentials) -> String {
    match place {
        Place::Http(url) => url.to_string(),
        Place::Object { store, bucket, key } => {
            let endpoint = match store {
                Store::S3 => s3::endpoint(credentials),
                Store::Gs => gs::endpoint(credentials),
                Store::Az => az::identity(credentials),
            };
            format!("{store}://{bucket}/{key}\n{}", endpoint.unwrap_or_default())
        }
    }
}
