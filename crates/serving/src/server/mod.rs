//! The protocol-free model server: what every protocol calls.
//!
//! Requests find their version in a table that is replaced as a whole, so that loading, replacing
//! and unloading models never makes one wait.

mod check;
mod control;
mod description;
mod effective;
mod fit;
mod info;
mod load;
mod options;
mod poll;
mod registry;
mod start;
mod tuning;
mod version;
mod warm_up;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use description::{DurationStat, IndexEntry, ModelMetadata, ModelStatistics, VersionState};
pub use options::{LoadOptions, ModelControl, ServerOptions, StartError};

use self::control::Shared;
use self::version::{ServingModel, ServingVersion};
use crate::engine::EngineInfo;
use crate::error::InferError;
use crate::request::{InferRequest, InferResponse, VersionChoice};
use crate::scheduler::Metrics;
use crate::signature::Signature;

/// Loaded models, their queues and engines. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// Starts the engine and finds the models; they load in the background.
    ///
    /// What is wrong with a target (nothing there, an unsupported backend, a mistake in a
    /// configuration) fails at once, all problems in one error. Reads files and may load a library:
    /// call it at start, within a Tokio runtime, which runs the loads.
    pub fn start(options: ServerOptions) -> Result<Self, StartError> {
        start::start(options).map(|shared| Self { shared })
    }

    /// A server of models on the built-in engine, with one thread and all settings left alone, once
    /// it has loaded them.
    #[cfg(test)]
    pub(crate) async fn on_tract(targets: Vec<std::path::PathBuf>, control: ModelControl) -> Self {
        let server = Self::start(ServerOptions {
            targets,
            name: None,
            control,
            engine: crate::engine::EnginePreference::Tract,
            threads: Some(1),
            max_batch: None,
            max_delay: None,
            max_queue: None,
            version: None,
            gpu_memory_limit: None,
        })
        .expect("starts");
        server.loaded().await.expect("loads");
        server
    }

    /// Waits until every model that should serve does, or tells what failed to load.
    pub async fn loaded(&self) -> Result<(), StartError> {
        let mut started = self.shared.started.subscribe();
        // The sender lives as long as `self`.
        let _ = started.wait_for(|started| *started).await;
        let problems = self.shared.registry(|registry| registry.problems());
        if problems.is_empty() { Ok(()) } else { Err(StartError { problems }) }
    }

    /// Refuses new requests, finishes those that are queued, then unloads.
    pub async fn shutdown(&self) {
        self.shared.shut_down().await;
    }

    /// The registry that `/metrics` shows.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.loader.metrics
    }

    /// Checks and runs one request. Dropping the future cancels it while it waits.
    pub async fn infer(&self, request: InferRequest) -> Result<InferResponse, InferError> {
        let version = self.find(&request.model, &request.version)?;
        version.infer(request).await
    }

    /// The engine that runs models.
    pub fn engine(&self) -> &EngineInfo {
        self.shared.loader.engine.info()
    }

    /// Metadata of one version.
    pub fn metadata(
        &self,
        model: &str,
        version: &VersionChoice,
    ) -> Result<ModelMetadata, InferError> {
        self.with_model(model, |serving| {
            Ok(choose(model, serving, version)?.metadata(serving.numbers()))
        })
    }

    /// Inputs and outputs of one version, for decoding: [`Self::metadata`] without the rest.
    pub fn signature(
        &self,
        model: &str,
        version: &VersionChoice,
    ) -> Result<Arc<Signature>, InferError> {
        self.with_model(model, |serving| Ok(choose(model, serving, version)?.signature.clone()))
    }

    /// Triton's model configuration, as JSON with proto field names: the newest version's.
    pub fn config(&self, model: &str) -> Result<serde_json::Value, InferError> {
        self.with_model(model, |serving| {
            Ok(choose(model, serving, &VersionChoice::Latest)?.config.clone())
        })
    }

    /// Every model and version known, loaded or not, by name and version.
    pub fn index(&self) -> Vec<IndexEntry> {
        self.shared.registry(|registry| registry.index())
    }

    /// Statistics of the versions that match; all models for `None`.
    pub fn statistics(
        &self,
        model: Option<&str>,
        version: Option<u64>,
    ) -> Result<Vec<ModelStatistics>, InferError> {
        let Some(model) = model else {
            let table = self.shared.table.load();
            let versions = table.values().flat_map(|serving| &serving.versions);
            let mut all: Vec<ModelStatistics> =
                versions.map(|version| version.scheduler.statistics()).collect();
            all.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
            return Ok(all);
        };
        self.with_model(model, |serving| match version {
            None => Ok(serving.versions.iter().map(|it| it.scheduler.statistics()).collect()),
            Some(number) => {
                let version = choose(model, serving, &VersionChoice::Number(number))?;
                Ok(vec![version.scheduler.statistics()])
            }
        })
    }

    /// Loads or reloads a model; the old version serves until the new one is ready.
    ///
    /// Versions whose files and configuration did not change stay as they are. Goes on when the
    /// future is dropped.
    pub async fn load(&self, model: &str, options: LoadOptions) -> Result<(), InferError> {
        self.shared.api_load(model, options).await
    }

    /// Unloads every version of a model once its requests are answered. Goes on when the future is
    /// dropped.
    pub async fn unload(&self, model: &str) -> Result<(), InferError> {
        self.shared.api_unload(model).await
    }

    /// Whether the process can answer at all.
    pub fn is_live(&self) -> bool {
        // Who can ask can be answered; a process that cannot does not get here.
        true
    }

    /// Whether every model that should serve does, and the server is not draining.
    pub fn is_ready(&self) -> bool {
        !self.shared.stop.is_cancelled()
            && *self.shared.started.borrow()
            && self.shared.registry(|registry| registry.all_serve())
    }

    /// Labels of a model's versions, of those that are ready.
    pub fn labels(&self, model: &str) -> Result<BTreeMap<String, u64>, InferError> {
        self.with_model(model, |serving| {
            let labels = serving.labels.iter();
            let ready = labels.filter(|(_, number)| serving.find(**number).is_some());
            Ok(ready.map(|(label, number)| (label.clone(), *number)).collect())
        })
    }

    fn find(
        &self,
        model: &str,
        version: &VersionChoice,
    ) -> Result<Arc<ServingVersion>, InferError> {
        self.with_model(model, |serving| choose(model, serving, version).cloned())
    }

    fn with_model<T>(
        &self,
        model: &str,
        with: impl FnOnce(&ServingModel) -> Result<T, InferError>,
    ) -> Result<T, InferError> {
        let table = self.shared.table.load();
        match table.get(model) {
            Some(serving) => with(serving),
            None => Err(self.why_not(model)),
        }
    }

    fn why_not(&self, model: &str) -> InferError {
        if self.shared.stop.is_cancelled() {
            return InferError::ShuttingDown;
        }
        let model = model.to_owned();
        match self.shared.registry(|registry| registry.why_not(&model)) {
            Some(reason) => InferError::NotReady { model, reason },
            None => InferError::UnknownModel { model },
        }
    }
}

/// The version that a request wants.
fn choose<'a>(
    model: &str,
    serving: &'a ServingModel,
    version: &VersionChoice,
) -> Result<&'a Arc<ServingVersion>, InferError> {
    let number = match version {
        VersionChoice::Latest => {
            let latest = serving.versions.last();
            return latest.ok_or_else(|| InferError::UnknownModel { model: model.to_owned() });
        }
        VersionChoice::Number(number) => *number,
        VersionChoice::Label(label) => {
            *serving.labels.get(label).ok_or_else(|| InferError::UnknownLabel {
                model: model.to_owned(),
                label: label.clone(),
                known: serving.labels.keys().cloned().collect(),
            })?
        }
    };
    serving.find(number).ok_or_else(|| InferError::UnknownVersion {
        model: model.to_owned(),
        version: number,
        ready: serving.numbers(),
    })
}
