//! Starts a server: the engine, the models there are, and the tasks that load them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::control::Shared;
use super::info;
use super::load::{Loader, Prepared, prepare};
use super::options::{ModelControl, ServerOptions, StartError};
use super::poll::poll;
use crate::engine::choose_with_threads;
use crate::repository::Repository;
use crate::scheduler::{Compute, Metrics};

/// In place of names, loads all models that are there at start, as in Triton.
const EVERY_MODEL: &str = "*";

pub(super) fn start(options: ServerOptions) -> Result<Arc<Shared>, StartError> {
    let may_be_empty = matches!(options.control, ModelControl::Explicit { .. });
    let repository = Repository::open(&options.targets, options.name.as_deref(), may_be_empty)
        .map_err(|problems| StartError { problems })?;
    // Before the engine is looked for: what a person mistyped is said at once.
    let (known, wanted) =
        look(&repository, &options).map_err(|problems| StartError { problems })?;
    let loader = loader(options)?;
    let control = loader.options.control.clone();
    let shared = Arc::new(Shared::new(repository, loader));
    shared.registry(|registry| {
        known.iter().for_each(|name| registry.know(name));
        wanted.keys().for_each(|name| registry.want(name));
    });
    shared.tasks.spawn(load_all(shared.clone(), wanted));
    if let ModelControl::Poll(interval) = control {
        shared.tasks.spawn(poll(Arc::downgrade(&shared), interval));
    }
    Ok(shared)
}

/// Names of all models, and those to load with what is known of their files.
type Found = (Vec<String>, BTreeMap<String, Prepared>);

fn look(repository: &Repository, options: &ServerOptions) -> Result<Found, Vec<String>> {
    let (mut sources, _) = repository.scan();
    let known = sources.keys().cloned().collect();
    let mut problems = Vec::new();
    if let ModelControl::Explicit { load } = &options.control
        && !load.iter().any(|name| name == EVERY_MODEL)
    {
        for name in load.iter().filter(|name| !sources.contains_key(*name)) {
            problems.push(format!("the model '{name}' is to be loaded, but there is none"));
        }
        sources.retain(|name, _| load.contains(name));
    }
    let mut wanted = BTreeMap::new();
    for (name, source) in sources {
        match prepare(source, None, None, options.version) {
            Ok(prepared) => {
                wanted.insert(name, prepared);
            }
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok((known, wanted)) } else { Err(problems) }
}

fn loader(options: ServerOptions) -> Result<Loader, StartError> {
    let choice = choose_with_threads(options.engine, options.threads)
        .map_err(|error| StartError { problems: vec![error.to_string()] })?;
    // The affinity mask and the cgroup's quota count, not the host's cores.
    let usable = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = options.threads.unwrap_or_else(usable).max(1);
    let metrics = Metrics::new();
    let tags = info::register(&metrics, choice.engine.info(), options.gpu_memory_limit);
    for note in &choice.notes {
        tracing::info!(engine = choice.engine.info().name, "{note}");
    }
    Ok(Loader {
        engine: choice.engine,
        engine_notes: choice.notes,
        compute: Compute::new(threads),
        threads,
        metrics,
        tags,
        options: Arc::new(options),
    })
}

/// Loads the models that begin with the server, side by side.
async fn load_all(shared: Arc<Shared>, wanted: BTreeMap<String, Prepared>) {
    let loads = wanted.into_iter().map(|(name, prepared)| {
        let shared = shared.clone();
        // A failure is logged, shown by the index and told by `loaded`.
        async move { shared.load_prepared(&name, prepared).await.is_ok() }
    });
    futures_util::future::join_all(loads).await;
    shared.started.send_replace(true);
}
