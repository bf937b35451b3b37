//! An object, or a folder of them, in an object store.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Certificate, ClientOptions, Error, GetOptions, GetRange, ObjectMeta, ObjectStore,
    ObjectStoreExt, RetryConfig,
};

use super::{Chunks, Listing, RemoteFile, Tag};
use crate::authorities;
use crate::error::StorageError;
use crate::fault::{Fault, within};
use crate::key;

/// A model has some hundred files; a prefix with more than this is a mistake, such as a whole
/// bucket.
const MAX_FILES: usize = 100_000;

pub(crate) struct StoreRemote {
    store: Arc<dyn ObjectStore>,
    key: Path,
    /// The URI ends in `/`, or names a whole bucket: there is no object to look for.
    only_folder: bool,
    uri: String,
    stall: Duration,
}

impl StoreRemote {
    pub(super) fn open(
        store: Arc<dyn ObjectStore>,
        key: &str,
        uri: &str,
        stall: Duration,
    ) -> Result<Self, StorageError> {
        let only_folder = key.is_empty() || key.ends_with('/');
        let key = Path::parse(key).map_err(|error| StorageError::Uri {
            uri: uri.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { store, key, only_folder, uri: uri.to_owned(), stall })
    }

    pub(super) async fn list(&self) -> Result<Listing, Fault> {
        if !self.only_folder {
            match within(self.stall, self.store.head(&self.key)).await? {
                Ok(meta) => {
                    let name = self.key.filename().unwrap_or_default();
                    return Ok(Listing::File(remote_file(name.to_owned(), &meta)));
                }
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.fault(error)),
            }
        }
        let prefix = Some(&self.key).filter(|key| !key.as_ref().is_empty());
        let mut objects = self.store.list(prefix);
        let mut files = BTreeMap::new();
        loop {
            let next = within(self.stall, objects.try_next()).await?;
            let Some(meta) = next.map_err(|error| self.fault(error))? else { break };
            let key = meta.location.as_ref();
            let path = key.strip_prefix(self.key.as_ref()).unwrap_or(key).trim_start_matches('/');
            if path.is_empty() {
                // The folder's own marker.
                continue;
            }
            key::check(path).map_err(|reason| self.unsafe_key(key.to_owned(), reason))?;
            files.insert(path.to_owned(), remote_file(path.to_owned(), &meta));
            if files.len() > MAX_FILES {
                return Err(StorageError::Uri {
                    uri: self.uri.clone(),
                    reason: format!("it holds more than {MAX_FILES} objects"),
                }
                .into());
            }
        }
        key::without_folder_markers(&mut files, |file| file.size == Some(0))
            .map_err(|key| self.unsafe_key(key, "it is a file and a folder at once"))?;
        if files.is_empty() {
            return Err(StorageError::NotFound { uri: self.uri.clone() }.into());
        }
        Ok(Listing::Folder(files.into_values().collect()))
    }

    pub(super) async fn read(
        &self,
        file: &RemoteFile,
        range: Option<Range<u64>>,
    ) -> Result<Chunks, Fault> {
        let key = Path::parse(&file.key).map_err(|error| Fault::transient(error.to_string()))?;
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let answer = within(self.stall, self.store.get_opts(&key, options)).await?;
        let answer = answer.map_err(|error| match error {
            Error::NotFound { .. } => Fault::Changed,
            error => self.fault(error),
        })?;
        if tag(&answer.meta) != file.tag || Some(answer.meta.size) != file.size {
            return Err(Fault::Changed);
        }
        let chunks = answer.into_stream();
        Ok(chunks.map_err(|error| Fault::transient(text(&error))).boxed())
    }

    fn unsafe_key(&self, key: String, reason: &'static str) -> StorageError {
        StorageError::UnsafeKey { uri: self.uri.clone(), key, reason }
    }

    fn fault(&self, error: Error) -> Fault {
        fault_of(&self.uri, error)
    }
}

/// What follows from an error of a store.
pub(crate) fn fault_of(uri: &str, error: Error) -> Fault {
    let uri = uri.to_owned();
    let reason = text(&error);
    // The addresses where virtual machines get credentials, asked when nothing else has any.
    if ["169.254.169.254", "metadata.google.internal", "metadata/identity"]
        .iter()
        .any(|address| reason.contains(address))
    {
        let reason = "no credentials are set (see the store's standard environment variables), \
                      and this machine has no identity of its own"
            .to_owned();
        return StorageError::Settings { uri, reason }.into();
    }
    match error {
        Error::NotFound { .. } => StorageError::NotFound { uri }.into(),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            StorageError::Denied { uri, reason, help: "check the credentials and their rights" }
                .into()
        }
        Error::InvalidPath { .. } => {
            StorageError::UnsafeKey { uri, key: reason, reason: "it is no path below the folder" }
                .into()
        }
        _ => match status(&reason) {
            // A list of a bucket that does not exist.
            Some(404) => StorageError::NotFound { uri }.into(),
            // These two pass, unlike other mistakes of ours.
            Some(408 | 429) | None => Fault::transient(reason),
            Some(status) if (400..500).contains(&status) => {
                StorageError::Rejected { uri, reason }.into()
            }
            Some(_) => Fault::transient(reason),
        },
    }
}

fn remote_file(path: String, meta: &ObjectMeta) -> RemoteFile {
    RemoteFile {
        path,
        key: meta.location.to_string(),
        size: Some(meta.size),
        tag: tag(meta),
        ranges: true,
    }
}

fn tag(meta: &ObjectMeta) -> Option<Tag> {
    meta.e_tag.as_deref().map(Tag::etag)
}

/// How each store's client is set up. Retries, deadlines and stalls are ours, the same for every
/// remote.
pub(super) fn client_options() -> Result<ClientOptions, String> {
    let options =
        ClientOptions::new().with_connect_timeout(Duration::from_secs(10)).with_timeout_disabled();
    let Some(brought) = authorities::brought()? else { return Ok(options) };
    let brought = Certificate::from_pem_bundle(&brought).map_err(|error| text(&error))?;
    Ok(brought.into_iter().fold(options, ClientOptions::with_root_certificate))
}

pub(super) fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// What went wrong, without the request: its URL may be signed, and stores repeat the key's id and
/// what was signed in their answers.
pub(super) fn text(error: &Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        texts.push(inner.to_string());
        cause = inner.source();
    }
    // Outer errors repeat inner ones, so the longest holds the most.
    if let Some(answer) = texts.iter().find_map(|text| answer(text)) {
        return answer;
    }
    let whole = texts.into_iter().reduce(|whole, inner| {
        if whole.contains(&inner) { whole } else { format!("{whole}: {inner}") }
    });
    without_queries(&whole.unwrap_or_default())
}

/// Status, code and message of an XML answer.
fn answer(text: &str) -> Option<String> {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.trim())
    };
    let code = element("Code")?;
    let status = status(text).map(|status| format!("status code: {status}, ")).unwrap_or_default();
    // Azure's message goes on with ids and times on lines of their own.
    let message = element("Message").and_then(|message| message.lines().next()).unwrap_or_default();
    Some(format!("{status}{code}: {message}"))
}

fn status(text: &str) -> Option<u16> {
    text.split_once("status code: ")?.1.get(..3)?.parse().ok()
}

fn without_queries(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((before, _)) if before.contains("://") => before,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn errors_keep_the_reason_and_drop_the_rest() {
    let body = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?><Error>\
                <Code>SignatureDoesNotMatch</Code><Message>It does not match.\nId: 1</Message>\
                <AWSAccessKeyId>AKIA1</AWSAccessKeyId></Error>";
    assert_eq!(
        answer(body).unwrap(),
        "status code: 403, SignatureDoesNotMatch: It does not match."
    );
    assert_eq!(without_queries("GET https://h/a?sig=1 failed"), "GET https://h/a failed");
    assert_eq!(without_queries("why? no"), "why? no");
}
