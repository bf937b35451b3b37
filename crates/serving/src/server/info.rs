//! Metrics that describe: the engine, and the tags that models' configurations give.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;

use crate::engine::EngineInfo;
use crate::metrics::Nvml;
use crate::scheduler::Metrics;

type Labels = Vec<(String, String)>;

/// The series of models' tags.
#[derive(Clone, Default)]
pub(super) struct TagFamily(Family<Labels, Gauge>);

/// Keeps one version's tags in the metrics.
#[derive(Default)]
pub(super) struct Tags(Option<Gauge>);

impl Drop for Tags {
    fn drop(&mut self) {
        if let Some(loaded) = &self.0 {
            loaded.dec();
        }
    }
}

/// Registers both, and the bound of GPU memory where there is one.
pub(super) fn register(
    metrics: &Metrics,
    engine: &EngineInfo,
    gpu_memory_limit: Option<u64>,
) -> TagFamily {
    let tags = TagFamily::default();
    let text = |text: &str| text.to_owned();
    let labels = vec![
        (text("name"), text(engine.name)),
        (text("version"), engine.version.clone()),
        (text("device"), engine.device.clone()),
        (text("threads"), engine.threads.to_string()),
    ];
    metrics.with_registry(|registry| {
        registry.register("trainyard_engine", "The engine that runs models", Info::new(labels));
        registry.register(
            "trainyard_model_tags",
            "1 for each loaded version with metric_tags, which are its labels",
            tags.0.clone(),
        );
        // Who runs on the CPU has nothing of a GPU, whatever is in the machine.
        if let Some(nvml) = (engine.device == "cuda").then(Nvml::load).flatten() {
            registry.register_collector(Box::new(nvml));
        }
        if let Some(limit) = gpu_memory_limit {
            registry.register(
                "trainyard_gpu_memory_limit_bytes",
                "GPU memory that the engine's arena may take for each model",
                ConstGauge::new(i64::try_from(limit).unwrap_or(i64::MAX)),
            );
        }
    });
    tags
}

impl TagFamily {
    /// Shows a version's tags until the result is dropped.
    pub(super) fn show(
        &self,
        model: &Arc<str>,
        version: u64,
        tags: &BTreeMap<String, String>,
    ) -> Tags {
        if tags.is_empty() {
            return Tags::default();
        }
        let own =
            [("model".to_owned(), model.to_string()), ("version".to_owned(), version.to_string())];
        let given = tags.iter().map(|(key, value)| (label_name(key), value.clone()));
        // A tag cannot stand in for the labels that say whose it is.
        let given = given.filter(|(key, _)| key != "model" && key != "version");
        // Different keys may become one name.
        let named: BTreeMap<String, String> = given.collect();
        let labels: Labels = own.into_iter().chain(named).collect();
        let loaded = self.0.get_or_create_owned(&labels);
        loaded.inc();
        Tags(Some(loaded))
    }
}

/// A key as a label's name, which holds letters, digits and `_` only.
fn label_name(key: &str) -> String {
    let allowed = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let name: String = key.chars().map(allowed).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}
