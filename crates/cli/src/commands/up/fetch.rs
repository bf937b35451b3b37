//! Models from elsewhere, for the supervisor, which knows no storage.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trainyard_local::history::Model;
use trainyard_local::status::{Stage, Transfer};
use trainyard_local::{FetchError, FetchRequest, ModelSource, Progress};
use trainyard_storage::{FetchOptions, fetch};

/// The cache of models and the stores behind it.
pub(super) struct Storage {
    pub(super) offline: bool,
}

impl ModelSource for Storage {
    fn fetch(
        &self,
        request: FetchRequest,
        progress: Arc<Progress>,
    ) -> Pin<Box<dyn Future<Output = Result<Model, FetchError>> + Send>> {
        let credentials = request.credentials.iter();
        let options = FetchOptions {
            sha256: request.sha256,
            credentials: credentials
                .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                .collect(),
            offline: self.offline,
            ..FetchOptions::default()
        };
        Box::pin(async move {
            let uri = request.uri.to_string();
            let tell = |now| progress.set(transfer(now));
            let fetched = fetch(&uri, &options, &tell, &CancellationToken::new()).await;
            fetched
                .map(|fetched| Model { path: fetched.path, fingerprint: fetched.fingerprint })
                .map_err(|error| FetchError {
                    reason: error.to_string(),
                    is_transient: error.is_transient(),
                })
        })
    }
}

fn transfer(now: trainyard_storage::Progress) -> Transfer {
    let stage = match now.stage {
        trainyard_storage::Stage::Waiting => Stage::Waiting,
        trainyard_storage::Stage::Downloading => Stage::Downloading,
        trainyard_storage::Stage::Verifying => Stage::Verifying,
    };
    Transfer { stage, done_bytes: now.done_bytes, total_bytes: now.total_bytes }
}
