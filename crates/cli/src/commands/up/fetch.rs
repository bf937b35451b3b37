//! Models from elsewhere, for the supervisor, which knows no storage.

use std::future::Future;
use std::pin::Pin;

use tokio_util::sync::CancellationToken;
use trainyard_local::history::Model;
use trainyard_local::{FetchRequest, ModelSource};
use trainyard_storage::{FetchOptions, fetch};

/// The cache of models and the stores behind it.
pub(super) struct Storage {
    pub(super) offline: bool,
}

impl ModelSource for Storage {
    fn fetch(
        &self,
        request: FetchRequest,
    ) -> Pin<Box<dyn Future<Output = Result<Model, String>> + Send>> {
        let options = FetchOptions {
            sha256: request.sha256,
            offline: self.offline,
            ..FetchOptions::default()
        };
        Box::pin(async move {
            if !request.credentials.is_empty() {
                return Err(
                    "credentials come from the environment of `trainyard up` on this machine; set \
                     its variables there, and remove `spec.model.credentialsSecret`"
                        .to_owned(),
                );
            }
            let service = request.service;
            let progress = |now: trainyard_storage::Progress| {
                tracing::debug!(
                    service,
                    done = now.done_bytes,
                    total = now.total_bytes,
                    "fetching"
                );
            };
            let uri = request.uri.to_string();
            let fetched = fetch(&uri, &options, &progress, &CancellationToken::new()).await;
            fetched
                .map(|fetched| Model { path: fetched.path, fingerprint: fetched.fingerprint })
                .map_err(|error| error.to_string())
        })
    }
}
