//! Loads, replaces and unloads models while others serve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::load::{Loader, Prepared, prepare};
use super::options::{LoadOptions, ModelControl};
use super::registry::{Loaded, Registry};
use super::version::{ServingVersion, Table};
use crate::error::InferError;
use crate::repository::{ModelSource, Repository, Upload, check_name};

/// What all parts of a server share.
pub(super) struct Shared {
    /// What requests read.
    pub(super) table: ArcSwap<Table>,
    registry: Mutex<Registry>,
    pub(super) repository: Repository,
    pub(super) loader: Loader,
    /// Loads at a time, over all models.
    load_permits: Semaphore,
    /// Whether the loads that begin with the server have ended.
    pub(super) started: watch::Sender<bool>,
    /// Cancelled when the server shuts down or is dropped.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Loads at a time: as in Triton, since loading is part reading and part computing.
const MAX_LOADS: usize = 4;

impl Shared {
    pub(super) fn new(repository: Repository, loader: Loader) -> Self {
        Self {
            table: ArcSwap::from_pointee(Table::default()),
            registry: Mutex::default(),
            repository,
            load_permits: Semaphore::new(loader.threads.clamp(1, MAX_LOADS)),
            loader,
            started: watch::Sender::new(false),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Reads or changes the registry. Short: no file is touched under the lock.
    pub(super) fn registry<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        // A change is complete before anything in it can panic.
        with(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the registry and shows requests the result.
    fn publish<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        self.registry(|registry| {
            let result = change(registry);
            // After the stop, no version may be shown any more.
            let table = if self.stop.is_cancelled() { Table::default() } else { registry.table() };
            self.table.store(Arc::new(table));
            result
        })
    }

    /// Loads a model whose files were looked at already.
    pub(super) async fn load_prepared(
        self: &Arc<Self>,
        name: &str,
        prepared: Prepared,
    ) -> Result<(), String> {
        let turn = self.registry(|registry| registry.turn(name));
        let _turn = turn.lock().await;
        self.install(name, prepared).await
    }

    /// Looks at a model's files and loads what differs from what serves.
    pub(super) async fn load_source(
        self: &Arc<Self>,
        source: ModelSource,
        config: Option<String>,
        upload: Option<Arc<Upload>>,
    ) -> Result<(), String> {
        let name = source.name.clone();
        let turn = self.registry(|registry| registry.turn(&name));
        let _turn = turn.lock().await;
        self.registry(|registry| registry.want(&name));
        let only = self.loader.options.version;
        let files = {
            let source = source.clone();
            blocking(move || source.fingerprint()).await
        };
        // Noted before anything can fail, so that the same files are not tried again and again.
        if let Ok(files) = files {
            self.registry(|registry| registry.attempt(&name, files));
        }
        let prepared = blocking(move || prepare(source, config.as_deref(), upload, only)).await;
        let problem = match prepared {
            Ok(Ok(prepared)) => return self.install(&name, prepared).await,
            Ok(Err(problems)) => problems.join("; "),
            Err(panic) => panic,
        };
        tracing::error!(model = name, problem, "the model failed to load");
        self.registry(|registry| registry.fail(&name, &problem));
        Err(problem)
    }

    /// Loads the versions that do not serve yet, then replaces all at once.
    async fn install(self: &Arc<Self>, name: &str, prepared: Prepared) -> Result<(), String> {
        let name: Arc<str> = name.into();
        let serving = self.registry(|registry| {
            registry.want(&name);
            registry.attempt(&name, prepared.files.clone());
            registry.serving(&name)
        });
        let (same, changed): (BTreeSet<u64>, BTreeSet<u64>) = prepared
            .versions
            .iter()
            .map(|(number, (_, identity))| (*number, identity))
            .fold(Default::default(), |(mut same, mut changed), (number, identity)| {
                let is_same = serving.get(&number).is_some_and(|it| it.identity == *identity);
                if is_same { &mut same } else { &mut changed }.insert(number);
                (same, changed)
            });
        self.registry(|registry| registry.loading(&name, changed.iter().copied()));

        let prepared = Arc::new(prepared);
        let loads = changed.iter().map(|number| self.load_version(&name, *number, &prepared));
        let results = futures_util::future::join_all(loads).await;
        let mut ready: BTreeMap<u64, Arc<ServingVersion>> =
            serving.into_iter().filter(|(number, _)| same.contains(number)).collect();
        let mut failed = BTreeMap::new();
        for (number, result) in changed.into_iter().zip(results) {
            match result {
                Ok(version) => {
                    tracing::info!(model = %name, version = number, "ready");
                    ready.insert(number, Arc::new(version));
                }
                Err(problem) => {
                    tracing::error!(model = %name, version = number, problem, "failed to load");
                    failed.insert(number, problem);
                }
            }
        }
        let problems: Vec<String> = failed.values().cloned().collect();
        let loaded = Loaded {
            ready,
            failed,
            available: prepared.available.clone(),
            labels: prepared.config.parameters.version_labels.clone(),
        };
        for retired in self.publish(|registry| registry.replace(&name, loaded)) {
            self.tasks.spawn(self.clone().drain(retired));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    async fn load_version(
        self: &Arc<Self>,
        name: &Arc<str>,
        number: u64,
        prepared: &Arc<Prepared>,
    ) -> Result<ServingVersion, String> {
        let load = async {
            let _permit = self.load_permits.acquire().await.map_err(|error| error.to_string())?;
            let (shared, name, prepared) = (self.clone(), name.clone(), prepared.clone());
            blocking(move || shared.loader.load(&name, number, &prepared)).await?
        };
        tokio::select! {
            result = load => result,
            () = self.stop.cancelled() => Err("the server is shutting down".to_owned()),
        }
    }

    /// Waits until a version that was taken away has answered its requests.
    async fn drain(self: Arc<Self>, version: Arc<ServingVersion>) {
        version.scheduler.drained().await;
        self.registry(|registry| registry.drained(&version.model, version.number));
        tracing::info!(model = %version.model, version = version.number, "unloaded");
        // Letting go of a session frees its memory, which takes a while.
        let _ = blocking(move || drop(version)).await;
    }

    /// Takes a model away and waits until its requests are answered.
    pub(super) async fn retire(self: &Arc<Self>, name: &str) {
        let turn = self.registry(|registry| registry.turn(name));
        let _turn = turn.lock().await;
        let taken = self.publish(|registry| registry.take(name));
        let drains = taken.into_iter().map(|version| self.clone().drain(version));
        futures_util::future::join_all(drains).await;
    }

    /// Runs to its end also when the caller goes away.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, InferError> {
        let handle = self.tasks.spawn(work);
        handle.await.map_err(|error| InferError::Internal(error.to_string()))
    }

    pub(super) async fn api_load(
        self: &Arc<Self>,
        name: &str,
        options: LoadOptions,
    ) -> Result<(), InferError> {
        let failed =
            |problem: &str| InferError::Invalid(format!("failed to load '{name:.255}', {problem}"));
        self.check_api(name).map_err(|error| match error {
            InferError::Invalid(problem) => failed(&problem),
            other => other,
        })?;
        let LoadOptions { config, files } = options;
        let (shared, owned) = (self.clone(), name.to_owned());
        let found = blocking(move || {
            if files.is_empty() {
                return Ok(shared.repository.find(&owned).map(|source| (source, None)));
            }
            let upload = Upload::write(&files)?;
            Ok(Some((upload.source(&owned), Some(Arc::new(upload)))))
        });
        let found: Result<_, String> = found.await.and_then(|found| found);
        let Some((source, upload)) = found.map_err(|problem| failed(&problem))? else {
            return Err(failed("failed to poll from model repository: there is no such model"));
        };
        let shared = self.clone();
        let load = async move { shared.load_source(source, config, upload).await };
        self.detached(load).await?.map_err(|problem| failed(&problem))
    }

    pub(super) async fn api_unload(self: &Arc<Self>, name: &str) -> Result<(), InferError> {
        self.check_api(name)?;
        if !self.registry(|registry| registry.is_known(name)) {
            return Err(InferError::UnknownModel { model: name.to_owned() });
        }
        let (shared, name) = (self.clone(), name.to_owned());
        self.detached(async move { shared.retire(&name).await }).await
    }

    fn check_api(&self, name: &str) -> Result<(), InferError> {
        check_name(name).map_err(InferError::Invalid)?;
        if self.stop.is_cancelled() {
            return Err(InferError::ShuttingDown);
        }
        let enabled = match self.loader.options.control {
            ModelControl::Explicit { .. } => return Ok(()),
            ModelControl::Poll(_) => "polling is",
            ModelControl::None => "explicit model control is not",
        };
        Err(InferError::Unsupported(format!(
            "explicit model load / unload is not allowed if {enabled} enabled"
        )))
    }

    /// Refuses requests, answers those that are queued, then lets go of all models.
    pub(super) async fn shut_down(self: &Arc<Self>) {
        self.stop.cancel();
        let names = self.publish(|registry| registry.names());
        let retired = names.iter().map(|name| self.retire(name));
        futures_util::future::join_all(retired).await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Runs what blocks on a thread that may. A panic becomes an error.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| format!("a task of the server failed: {error}"))
}
