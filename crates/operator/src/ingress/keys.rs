//! API keys, read from the Secrets that services name, beside everything else: a slow answer keeps
//! no route from being known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube_client::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use trainyard_gateway::table::ApiKey;

use super::table::{Key, Keys};

/// For one read of a secret.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Reads at once.
const AT_ONCE: usize = 8;
/// A table waits so long for secrets that were never read: who has just been named in a manifest
/// should not be turned away for the milliseconds that a read takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keys that were read, and reads that are under way.
pub(super) struct Reader {
    client: Client,
    known: Keys,
    reading: HashMap<Key, Instant>,
    reads: FuturesUnordered<Reading>,
    places: Arc<Semaphore>,
}

type Read = Result<Vec<ApiKey>, Unread>;
type Reading = Pin<Box<dyn Future<Output = (Key, Read)> + Send>>;

/// Why a secret was not read. For callers; holds no value of it.
enum Unread {
    /// Nobody can say what it holds.
    Away(String),
    /// It is not there, or not for us.
    Wrong(String),
}

impl Reader {
    pub(super) fn new(client: Client) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let (known, reading) = (Keys::new(), HashMap::new());
        Self { client, known, reading, reads: FuturesUnordered::new(), places }
    }

    pub(super) fn known(&self) -> &Keys {
        &self.known
    }

    /// Forgets the secrets that nobody names any more, and begins to read those that are new, or all
    /// of them again. Whether any was forgotten.
    pub(super) fn begin(&mut self, wanted: &BTreeSet<Key>, again: bool) -> bool {
        let before = self.known.len();
        self.known.retain(|key, _| wanted.contains(key));
        for key in wanted {
            let is_needed = again || !self.known.contains_key(key);
            if !is_needed || self.reading.contains_key(key) {
                continue;
            }
            self.reading.insert(key.clone(), Instant::now());
            let (client, places, key) = (self.client.clone(), self.places.clone(), key.clone());
            self.reads.push(Box::pin(async move {
                let _place = places.acquire_owned().await;
                let read = match tokio::time::timeout(READ_TIMEOUT, read(&client, &key)).await {
                    Ok(read) => read,
                    Err(_) => Err(Unread::Away("the API server does not answer".to_owned())),
                };
                (key, read)
            }));
        }
        self.known.len() != before
    }

    /// Until when a table should wait for the secrets that are wanted and were never read; none if
    /// it should not.
    pub(super) fn worth_waiting(&self, wanted: &BTreeSet<Key>, now: Instant) -> Option<Instant> {
        let missing = wanted.iter().filter(|key| !self.known.contains_key(*key));
        let until = missing.filter_map(|key| Some(*self.reading.get(key)? + PATIENCE)).max();
        until.filter(|until| *until > now)
    }

    /// Takes in the next read that ends; whether it told anything new. Waits for ever where none is
    /// under way. Cancel-safe.
    pub(super) async fn next(&mut self) -> bool {
        let Some((key, read)) = self.reads.next().await else {
            return std::future::pending().await;
        };
        self.reading.remove(&key);
        let known = self.known.get(&key);
        let read = match read {
            Ok(keys) => Ok(keys),
            // Keys that were good a moment ago are so while the API server is away.
            Err(Unread::Away(error)) if matches!(known, Some(Ok(_))) => {
                tracing::warn!(
                    namespace = key.0,
                    secret = key.1,
                    error,
                    "API keys were not read again"
                );
                return false;
            }
            Err(Unread::Away(reason) | Unread::Wrong(reason)) => Err(reason),
        };
        let is_news = known != Some(&read);
        self.known.insert(key, read);
        is_news
    }
}

async fn read(client: &Client, (namespace, name): &Key) -> Read {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(secret)) => Ok(digests(secret.data.unwrap_or_default())),
        Ok(None) => Err(Unread::Wrong(format!(
            "there is no secret `{name}` in the namespace `{namespace}`, which \
             `spec.access.apiKeysSecret` names"
        ))),
        Err(kube_client::Error::Api(status)) if status.is_forbidden() => Err(Unread::Wrong(
            format!("the gateway may not read the secret `{name}`: {}", status.message),
        )),
        Err(error) => Err(Unread::Away(error.to_string())),
    }
}

fn digests(entries: BTreeMap<String, ByteString>) -> Vec<ApiKey> {
    entries.into_iter().map(|(name, key)| ApiKey::of(name, &key.0)).collect()
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube_client::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that has the secret `fast` and never answers about any other.
    fn client() -> Client {
        let answer = |request: Request<Body>| async move {
            if !request.uri().path().ends_with("/secrets/fast") {
                std::future::pending::<()>().await;
            }
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"ann": "a2V5Cg=="}});
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(
                secret.to_string().into_bytes(),
            )))
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_keeps_nobody_waiting() {
        let key = |name: &str| ("a".to_owned(), name.to_owned());
        let wanted: BTreeSet<Key> = [key("fast"), key("slow")].into();
        let mut reader = Reader::new(client());
        let begun = Instant::now();
        assert!(!reader.begin(&wanted, false));
        assert_eq!(reader.worth_waiting(&wanted, begun), Some(begun + PATIENCE));
        assert!(reader.next().await);
        assert_eq!(reader.known()[&key("fast")], Ok(vec![ApiKey::of("ann".into(), b"key")]));
        assert_eq!(Instant::now(), begun);
        // The other one is waited for a little, and not again by each table.
        assert_eq!(reader.worth_waiting(&wanted, begun + PATIENCE), None);
        assert!(!reader.begin(&wanted, false));
        assert!(reader.next().await);
        assert_eq!(Instant::now(), begun + READ_TIMEOUT);
        assert!(reader.known()[&key("slow")].is_err());
        // What nobody names is forgotten.
        assert!(reader.begin(&BTreeSet::new(), false));
        assert!(reader.known().is_empty());
    }
}
