//! Objects in a bucket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use md5::{Digest, Md5};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult,
};

use super::{Answer, Object, Objects};
use crate::digest::{blocking, hex};
use crate::error::StorageError;
use crate::fault::{Attempts, Fault, within};
use crate::key;
use crate::part::Room;
use crate::remote::fault_of;

/// How long the store may say nothing, beside the time that the bytes need.
const STALL: Duration = Duration::from_secs(30);
/// The slowest line that is waited for, in bytes a second.
const SLOWEST: u64 = 128 << 10;
/// Attempts in a row that may bring nothing, with pauses of 0.2 s to 10 s: about 6 seconds.
const ATTEMPTS: u32 = 6;
const BACKOFF: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    uri: String,
}

impl Bucket {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        uri: String,
    ) -> Result<Self, StorageError> {
        let prefix = Path::parse(prefix)
            .map_err(|error| StorageError::Uri { uri: uri.clone(), reason: error.to_string() })?;
        Ok(Self { store, prefix, uri })
    }

    fn path(&self, key: &str) -> Result<Path, StorageError> {
        let bad =
            |reason| StorageError::UnsafeKey { uri: self.uri.clone(), key: key.to_owned(), reason };
        key::check(key).map_err(bad)?;
        let whole = match self.prefix.as_ref() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        Path::parse(whole).map_err(|_| bad("it is no path below the folder"))
    }

    /// Does one thing until it works, with pauses, or cannot.
    async fn again<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        work: impl Fn() -> F,
    ) -> Result<T, StorageError> {
        let mut attempts = Attempts::new(ATTEMPTS, BACKOFF);
        loop {
            let (reason, after) = match work().await {
                Ok(done) => return Ok(done),
                Err(Fault::Fatal(error)) => return Err(error),
                Err(Fault::Transient { reason, after }) => (reason, after),
                // Objects are read whole, so neither is a fault of theirs.
                Err(Fault::Changed | Fault::NoRanges) => ("it changed".to_owned(), None),
            };
            tokio::time::sleep(attempts.failed(&self.uri, reason, after)?).await;
        }
    }

    async fn send(
        &self,
        path: &Path,
        bytes: &Bytes,
        mode: PutMode,
    ) -> Result<Result<PutResult, Error>, Fault> {
        let patience = STALL.saturating_add(Duration::from_secs(bytes.len() as u64 / SLOWEST));
        let options = PutOptions { mode, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(bytes.clone());
        within(patience, self.store.put_opts(path, payload, options)).await
    }

    /// Compares what the store holds with what it was given. Stores whose ETag is the MD5 of what
    /// came (S3 and Google without keys of the customer's own) have said it already; the others
    /// are read.
    async fn is_same(&self, path: &Path, bytes: &Bytes, tag: Option<&str>) -> Result<bool, Fault> {
        let copy = bytes.clone();
        let ours = blocking(move || Ok(hex(&Md5::digest(&copy)))).await?;
        if tag.is_some_and(|tag| tag.trim_matches('"').eq_ignore_ascii_case(&ours)) {
            return Ok(true);
        }
        Ok(self.read(path, bytes.len() as u64).await? == bytes)
    }

    async fn read(&self, path: &Path, most: u64) -> Result<Bytes, Fault> {
        let answer = within(STALL, self.store.get_opts(path, GetOptions::default())).await?;
        let answer = answer.map_err(|error| fault_of(&self.uri, error))?;
        let size = answer.meta.size;
        if size > most {
            return Err(StorageError::Object {
                uri: self.uri.clone(),
                key: path.to_string(),
                reason: format!("it has {size} bytes, at most {most} were expected"),
            }
            .into());
        }
        let mut chunks = answer.into_stream();
        let mut whole = Room::of(size).map_err(|error| Fault::transient(error.to_string()))?;
        while let Some(chunk) = within(STALL, chunks.next()).await? {
            let chunk = chunk.map_err(|error| fault_of(&self.uri, error))?;
            if !whole.append(&chunk) {
                return Err(Fault::transient("it sent more bytes than it announced"));
            }
        }
        let missing = whole.missing();
        if missing > 0 {
            return Err(Fault::transient(format!("it ended {missing} bytes before its {size}")));
        }
        Ok(whole.into_bytes())
    }
}

impl Objects for Bucket {
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, ()> {
        async move {
            let path = &self.path(key)?;
            self.again(|| async {
                let sent = self.send(path, &bytes, PutMode::Overwrite).await?;
                let put = sent.map_err(|error| fault_of(&self.uri, error))?;
                match self.is_same(path, &bytes, put.e_tag.as_deref()).await? {
                    true => Ok(()),
                    false => {
                        let reason = format!("it holds other bytes of `{path}` than were sent");
                        Err(Fault::transient(reason))
                    }
                }
            })
            .await
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool> {
        async move {
            let path = &self.path(key)?;
            self.again(|| async {
                match self.send(path, &bytes, PutMode::Create).await? {
                    Ok(put) => self.is_same(path, &bytes, put.e_tag.as_deref()).await,
                    // Also after an attempt of ours whose answer was lost: then it holds our bytes.
                    Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                        Ok(self.read(path, bytes.len() as u64).await.is_ok_and(|it| it == bytes))
                    }
                    Err(error) => Err(fault_of(&self.uri, error)),
                }
            })
            .await
        }
        .boxed()
    }

    fn holds<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool> {
        async move {
            let path = &self.path(key)?;
            self.again(|| async {
                let meta = match within(STALL, self.store.head(path)).await? {
                    Err(Error::NotFound { .. }) => return Ok(false),
                    meta => meta.map_err(|error| fault_of(&self.uri, error))?,
                };
                if meta.size != bytes.len() as u64 {
                    return Ok(false);
                }
                match self.is_same(path, &bytes, meta.e_tag.as_deref()).await {
                    Err(Fault::Fatal(
                        StorageError::NotFound { .. } | StorageError::Object { .. },
                    )) => Ok(false),
                    same => same,
                }
            })
            .await
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a str, most: u64) -> Answer<'a, Bytes> {
        async move {
            let path = &self.path(key)?;
            self.again(|| async { self.read(path, most).await }).await
        }
        .boxed()
    }

    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<Object>> {
        async move {
            let path = &self.path(folder)?;
            let below = match self.prefix.as_ref() {
                "" => 0,
                prefix => prefix.len().saturating_add(1),
            };
            let mut objects = self
                .again(|| async {
                    let mut stream = self.store.list(Some(path));
                    let mut objects = Vec::new();
                    while let Some(meta) = within(STALL, stream.try_next())
                        .await?
                        .map_err(|error| fault_of(&self.uri, error))?
                    {
                        let key = meta.location.as_ref().get(below..).unwrap_or_default();
                        objects.push(Object {
                            key: key.to_owned(),
                            bytes: meta.size,
                            modified: meta.last_modified.into(),
                        });
                    }
                    Ok(objects)
                })
                .await?;
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(objects)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        async move {
            let path = &self.path(key)?;
            self.again(|| async {
                match within(STALL, self.store.delete(path)).await? {
                    Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(fault_of(&self.uri, error)),
                }
            })
            .await
        }
        .boxed()
    }

    fn visibility(&self) -> Duration {
        Duration::ZERO
    }

    fn uri(&self) -> &str {
        &self.uri
    }
}
