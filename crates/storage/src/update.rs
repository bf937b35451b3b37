//! Bringing a cache entry to what the remote has now. Runs with the entry's lock held.

use std::path::PathBuf;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use crate::cache::{Entry, Model, ModelFile};
use crate::digest::{self, blocking};
use crate::download::Download;
use crate::error::StorageError;
use crate::fault::{Attempts, Fault};
use crate::fetch::{FetchOptions, Fetched, Progress, Source, Stage, check_digest};
use crate::meter::Meter;
use crate::remote::{Listing, Remote, RemoteFile, Tag};
use crate::space;

/// How often a remote may change under our hands before we say so.
const MOST_CHANGES: u32 = 4;

pub(crate) struct Update<'a> {
    pub(crate) uri: &'a str,
    pub(crate) options: &'a FetchOptions,
    pub(crate) expected: Option<&'a str>,
    pub(crate) entry: &'a Entry,
    pub(crate) progress: &'a (dyn Fn(Progress) + Send + Sync),
}

/// A file as it will be, and where its content is until then.
struct Arrived {
    file: ModelFile,
    /// `None` where the content is a blob already.
    data: Option<PathBuf>,
}

/// Asks a remote what it has, again where it does not answer.
pub(crate) async fn list(
    uri: &str,
    options: &FetchOptions,
    remote: &Remote,
    known: Option<&Tag>,
) -> Result<Listing, Fault> {
    let mut attempts = Attempts::new(options.attempts, options.backoff);
    loop {
        match remote.list(known).await {
            Err(Fault::Transient { reason, after }) => {
                let pause = attempts.failed(uri, reason, after)?;
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
}

impl Update<'_> {
    pub(crate) async fn run(&self, remote: &Remote) -> Result<Fetched, StorageError> {
        let mut changes = Attempts::new(MOST_CHANGES, self.options.backoff);
        loop {
            match self.try_once(remote).await {
                Err(Fault::Changed) => {
                    let pause = changes.failed(self.uri, "it changed".to_owned(), None);
                    let changing = |_| StorageError::Changing { uri: self.uri.to_owned() };
                    tokio::time::sleep(pause.map_err(changing)?).await;
                }
                Err(Fault::Fatal(error)) => return Err(error),
                Err(Fault::Transient { reason, .. }) => {
                    let uri = self.uri.to_owned();
                    return Err(StorageError::Remote { uri, attempts: 1, reason });
                }
                Err(Fault::NoRanges) => {
                    let reason = "it answered with another range than asked for".to_owned();
                    let uri = self.uri.to_owned();
                    return Err(StorageError::Remote { uri, attempts: 1, reason });
                }
                Ok(fetched) => return Ok(fetched),
            }
        }
    }

    async fn try_once(&self, remote: &Remote) -> Result<Fetched, Fault> {
        // Read again under the lock: whoever held it before may have fetched just this.
        let cached = self.entry.model().await?;
        let known = cached.as_ref().filter(|cached| !cached.folder);
        let known = known.and_then(|cached| cached.files.first()?.tag.clone()).map(Tag);
        let listing = list(self.uri, self.options, remote, known.as_ref()).await?;
        let (folder, wanted) = match listing {
            Listing::File(file) => (false, vec![file]),
            Listing::Folder(files) => (true, files),
            Listing::Unchanged => match cached {
                Some(cached) => return self.unchanged(&cached),
                None => return Err(Fault::Changed),
            },
        };
        if let Some(cached) = cached.as_ref().filter(|cached| is_same(cached, folder, &wanted)) {
            return self.unchanged(cached);
        }
        let mut files = Vec::with_capacity(wanted.len());
        let (there, missing) = self.split(cached.as_ref(), wanted);
        files.extend(there.into_iter().map(|file| Arrived { file, data: None }));
        let downloaded = self.download(remote, &missing).await?;
        files.extend(self.verify(missing, downloaded).await?);
        files.sort_by(|a, b| a.file.path.cmp(&b.file.path));
        Ok(self.keep(folder, files).await?)
    }

    fn unchanged(&self, cached: &Model) -> Result<Fetched, Fault> {
        check_digest(self.uri, self.expected, cached.sha256())?;
        Ok(self.entry.fetched(cached, Source::Cache))
    }

    /// Files whose content the cache has, and files to fetch.
    fn split(
        &self,
        cached: Option<&Model>,
        wanted: Vec<RemoteFile>,
    ) -> (Vec<ModelFile>, Vec<RemoteFile>) {
        let mut there = Vec::new();
        let mut missing = Vec::new();
        for file in wanted {
            let same = cached.and_then(|cached| {
                cached.files.iter().find(|have| {
                    is_same_file(have, &file) && self.entry.blob(&have.sha256).is_file()
                })
            });
            match same {
                Some(have) => there.push(have.clone()),
                None => missing.push(file),
            }
        }
        (there, missing)
    }

    async fn download(
        &self,
        remote: &Remote,
        missing: &[RemoteFile],
    ) -> Result<Vec<PathBuf>, Fault> {
        let total = missing.iter().try_fold(0u64, |sum, file| sum.checked_add(file.size?));
        let meter = Meter::new(Stage::Downloading, total, self.progress);
        let parallel = self.options.parallel.max(1);
        let folder = self.entry.partial();
        let download = Download {
            remote,
            uri: self.uri,
            options: self.options,
            expected: self.expected,
            folder: &folder,
            gate: &Semaphore::new(parallel),
            meter: &meter,
        };
        let paths: Vec<_> = missing.iter().map(|file| download.paths(file)).collect();
        let wanted: Vec<PathBuf> =
            paths.iter().flat_map(|paths| [paths.data.clone(), paths.journal.clone()]).collect();
        let entry = self.entry.clone();
        let sizes: Vec<Option<u64>> = missing.iter().map(|file| file.size).collect();
        let uri = self.uri.to_owned();
        blocking(move || {
            entry.remove_stale(&wanted)?;
            let needed = sizes.iter().zip(&paths).fold(0u64, |sum, (size, paths)| {
                let taken = space::allocated(&paths.data);
                sum.saturating_add(size.unwrap_or(0).saturating_sub(taken))
            });
            match space::available(entry.root()) {
                Some(available) if available < needed => Err(StorageError::NoSpace {
                    uri,
                    needed,
                    available: Some(available),
                    folder: entry.root().display().to_string(),
                }),
                _ => Ok(()),
            }
        })
        .await?;
        // Futures first: a closure in the stream would keep the whole future from being `Send`.
        let downloads: Vec<_> = missing.iter().map(|file| download.file(file)).collect();
        stream::iter(downloads).buffered(parallel).try_collect().await
    }

    /// Hashes what came.
    async fn verify(
        &self,
        files: Vec<RemoteFile>,
        downloaded: Vec<PathBuf>,
    ) -> Result<Vec<Arrived>, StorageError> {
        let lengths = downloaded.clone();
        let lengths = blocking(move || {
            let length = |path: &PathBuf| std::fs::metadata(path).map(|metadata| metadata.len());
            lengths
                .iter()
                .map(|path| length(path).map_err(crate::error::files("read", path)))
                .collect::<Result<Vec<u64>, _>>()
        })
        .await?;
        let total = lengths.iter().fold(0u64, |sum, length| sum.saturating_add(*length));
        let meter = Meter::new(Stage::Verifying, Some(total), self.progress);
        let mut arrived = Vec::with_capacity(files.len());
        for ((file, data), bytes) in files.into_iter().zip(downloaded).zip(lengths) {
            let sha256 = digest::of_file(&data, &meter).await?;
            let tag = file.tag.map(|tag| tag.0);
            let file = ModelFile { path: file.path, bytes, sha256, tag };
            arrived.push(Arrived { file, data: Some(data) });
        }
        Ok(arrived)
    }

    async fn keep(&self, folder: bool, arrived: Vec<Arrived>) -> Result<Fetched, StorageError> {
        let (files, data): (Vec<_>, Vec<_>) =
            arrived.into_iter().map(|it| (it.file, it.data)).unzip();
        let model = Model::new(self.uri, folder, files);
        let wrong = check_digest(self.uri, self.expected, model.sha256());
        let entry = self.entry.clone();
        blocking(move || {
            if wrong.is_err() {
                // The error counts, also where the wrong content cannot be removed.
                let _ = entry.remove_stale(&[]);
                return wrong.map(|()| entry.fetched(&model, Source::Remote));
            }
            for (file, data) in model.files.iter().zip(data) {
                if let Some(data) = data {
                    entry.keep_blob(&data, &file.sha256)?;
                }
            }
            entry.publish(&model)?;
            Ok(entry.fetched(&model, Source::Remote))
        })
        .await
    }
}

fn is_same(cached: &Model, folder: bool, wanted: &[RemoteFile]) -> bool {
    cached.folder == folder
        && cached.files.len() == wanted.len()
        && cached.files.iter().zip(wanted).all(|(have, file)| is_same_file(have, file))
}

/// Without a tag nothing says that the content is the same.
fn is_same_file(have: &ModelFile, file: &RemoteFile) -> bool {
    have.path == file.path
        && file.size.is_none_or(|size| size == have.bytes)
        && file.tag.as_ref().is_some_and(|tag| Some(&tag.0) == have.tag.as_ref())
}
