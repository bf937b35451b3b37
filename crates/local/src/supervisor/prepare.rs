//! From a declared service to a plan: the model is fetched, the machine looked at, and compiled.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use trainyard_api::ModelService;
use trainyard_api::scalar::ModelUri;
use trainyard_control::fetch::Failure;
use trainyard_gateway::table::ApiKey;
use trainyard_plan::{Facts, FetchedModel, Plan, PlanError, Target, compile};

use super::copies::copy_of;
use super::fetching::Progress;
use crate::fleet::digests;
use crate::history::Model;
use crate::secret::{Entries, SecretError, Secrets};
use crate::target::{Declared, fingerprint};

/// Fetches models that are not on this machine. The crate that does it is not one that we may know.
pub trait ModelSource: Send + Sync {
    /// Makes the model available as a local path, and tells how far it is.
    fn fetch(
        &self,
        request: FetchRequest,
        progress: Arc<Progress>,
    ) -> Pin<Box<dyn Future<Output = Result<Model, FetchError>> + Send>>;
}

/// Why a model was not fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchError {
    /// For people, with its causes, and without credentials.
    pub reason: String,
    /// The same fetch may succeed later, though nobody changes anything about it.
    pub is_transient: bool,
}

/// A model to fetch.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    pub service: String,
    pub uri: ModelUri,
    /// What its content must hash to, in hexadecimal.
    pub sha256: Option<String>,
    /// Under the names of the scheme's environment variables.
    pub credentials: Entries,
}

/// A service that can run.
pub(super) struct Prepared {
    pub(super) declared: Declared,
    pub(super) model: Model,
    pub(super) plan: Plan,
    /// Digests of the keys that callers have to show; empty lets everybody in.
    pub(super) keys: Vec<ApiKey>,
}

/// Why a service cannot run as declared. All are a person's to mend, but a fetch may pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the model `{path}` of `{service}` cannot be read: {source}")]
    Model { service: String, path: PathBuf, source: std::io::Error },
    #[error(
        "the model `{path}` of `{service}` has the SHA-256 {actual}, and `spec.model.sha256` says {expected}"
    )]
    Digest { service: String, path: PathBuf, actual: String, expected: String },
    #[error("`spec.model.sha256` of `{service}` is of one file, and `{path}` is a folder")]
    DigestOfFolder { service: String, path: PathBuf },
    #[error(
        "the secret `{secret}` with the API keys of `{service}` is empty: nobody could call it"
    )]
    NoKeys { service: String, secret: String },
    #[error("the model of `{service}` cannot be fetched: {reason}")]
    Fetch { service: String, reason: String, failure: Failure },
}

/// Prepares one service. Takes as long as its model takes to fetch.
pub(super) async fn prepare(
    declared: Declared,
    source: Arc<dyn ModelSource>,
    secrets: Arc<Secrets>,
    copies: PathBuf,
    progress: Arc<Progress>,
) -> Result<Prepared, PrepareError> {
    let model = model(&declared, source, &secrets, copies, progress).await?;
    again(declared, model, &secrets)
}

/// Prepares a service whose model is there.
pub(super) fn again(
    declared: Declared,
    model: Model,
    secrets: &Secrets,
) -> Result<Prepared, PrepareError> {
    let plan = plan(&declared.manifest, &model)?;
    let keys = keys(&declared.manifest, secrets)?;
    Ok(Prepared { declared, model, plan, keys })
}

/// The keys that a service asks of callers. None at all must not mean that everybody may call.
pub(super) fn keys(
    manifest: &ModelService,
    secrets: &Secrets,
) -> Result<Vec<ApiKey>, PrepareError> {
    let access = manifest.spec.access.as_ref();
    let Some(secret) = access.and_then(|access| access.api_keys_secret.as_ref()) else {
        return Ok(Vec::new());
    };
    let keys = digests(&secrets.entries(secret)?);
    if keys.is_empty() {
        let service = manifest.metadata.name.clone().unwrap_or_default();
        let secret = secret.clone();
        return Err(PrepareError::NoKeys { service, secret });
    }
    Ok(keys)
}

/// Compiles a manifest whose model is there.
pub(super) fn plan(manifest: &ModelService, model: &Model) -> Result<Plan, PlanError> {
    let fetched =
        FetchedModel { path: model.path.clone(), fingerprint: Some(model.fingerprint.clone()) };
    compile(manifest, &Facts { target: machine(), model: Some(fetched) })
}

/// Looked at once: the files of cgroups are many, and their limits rarely change.
fn machine() -> Target {
    static MACHINE: std::sync::OnceLock<Target> = std::sync::OnceLock::new();
    MACHINE.get_or_init(crate::machine::target).clone()
}

async fn model(
    declared: &Declared,
    source: Arc<dyn ModelSource>,
    secrets: &Secrets,
    copies: PathBuf,
    progress: Arc<Progress>,
) -> Result<Model, PrepareError> {
    let service = declared.name().to_owned();
    let wanted = &declared.manifest.spec.model;
    let ModelUri::File(path) = &wanted.uri else {
        let credentials = match &wanted.credentials_secret {
            Some(secret) => secrets.entries(secret)?,
            None => Entries::new(),
        };
        let request = FetchRequest {
            service: service.clone(),
            uri: wanted.uri.clone(),
            sha256: wanted.sha256.clone(),
            credentials,
        };
        let fetched = source.fetch(request, progress).await;
        return fetched.map_err(|error| {
            let failure = if error.is_transient { Failure::Transient } else { Failure::Permanent };
            PrepareError::Fetch { service, reason: error.reason, failure }
        });
    };
    let (path, expected) = (path.clone(), wanted.sha256.clone());
    let looked =
        tokio::task::spawn_blocking(move || on_disk(service, path, expected, &copies)).await;
    // It can only fail by a panic, which goes on here.
    looked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn on_disk(
    service: String,
    path: PathBuf,
    expected: Option<String>,
    copies: &Path,
) -> Result<Model, PrepareError> {
    let failed =
        |source| PrepareError::Model { service: service.clone(), path: path.clone(), source };
    let fingerprint = fingerprint(&path).map_err(failed)?;
    if let Some(expected) = expected {
        if path.is_dir() {
            return Err(PrepareError::DigestOfFolder { service, path });
        }
        let mut digest = Sha256::new();
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        std::io::copy(&mut file, &mut digest).map_err(failed)?;
        let actual: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if actual != expected {
            return Err(PrepareError::Digest { service, path, actual, expected });
        }
    }
    // A model that is too large to copy is used where it lies.
    let path = copy_of(&path, &fingerprint, copies).map_err(failed)?.unwrap_or(path);
    Ok(Model { path, fingerprint })
}
