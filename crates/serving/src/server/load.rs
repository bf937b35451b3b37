//! Loads versions: from files to a queue that is ready. Blocks; never on a runtime thread.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::effective::effective;
use super::fit::{Fit, fit};
use super::info::TagFamily;
use super::options::ServerOptions;
use super::tuning::{BatchPlan, plan_batches, scheduler_options};
use super::version::{Identity, ServedOutput, ServingVersion};
use super::warm_up;
use crate::config::{self, ModelConfig, ReadConfig};
use crate::engine::{Engine, Session, SessionOptions};
use crate::repository::{Fingerprint, ModelSource, Upload, choose_versions};
use crate::scheduler::{Compute, Metrics, Scheduler, verify_batching};

/// What is needed to load any version.
pub(super) struct Loader {
    pub(super) engine: Arc<dyn Engine>,
    /// Why it is this engine.
    pub(super) engine_notes: Vec<String>,
    pub(super) compute: Compute,
    pub(super) threads: usize,
    pub(super) metrics: Metrics,
    pub(super) tags: TagFamily,
    pub(super) options: Arc<ServerOptions>,
}

/// A model whose files were looked at, before any version is loaded.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) source: Arc<ModelSource>,
    pub(super) config: Arc<ReadConfig>,
    /// The model file and identity of each version to serve.
    pub(super) versions: BTreeMap<u64, (PathBuf, Identity)>,
    /// Versions there are, to serve or not.
    pub(super) available: BTreeSet<u64>,
    /// Of all files, when they were looked at.
    pub(super) files: Fingerprint,
}

/// Reads the configuration of a model and chooses its versions. The errors are sentences that name
/// the file.
///
/// `config` stands in for the model's own, as JSON.
pub(super) fn prepare(
    source: ModelSource,
    config: Option<&str>,
    upload: Option<Arc<Upload>>,
    only: Option<u64>,
) -> Result<Prepared, Vec<String>> {
    let located = |problem: String| vec![format!("{}: {problem}", source.path.display())];
    // Before the files are read, so that a change in between is seen as one.
    let files = source.fingerprint();
    let config = match config {
        None => source.read_config()?,
        Some(text) => {
            let read = config::read_json(text)?;
            source.check_name(&read.config.name, &read.origin)?;
            read
        }
    };
    let config = Arc::new(config);
    let found = source.versions().map_err(|problem| vec![problem])?;
    let available: BTreeSet<u64> = found.keys().copied().collect();
    let wanted = choose_versions(&available, config.config.version_policy.as_ref(), only)
        .map_err(located)?;
    let shared = source.shared_fingerprint();
    let mut versions = BTreeMap::new();
    let mut problems = Vec::new();
    for (number, path) in found.iter().filter(|(number, _)| wanted.contains(number)) {
        let mut files = Fingerprint::of(path);
        files.merge(shared.clone());
        match source.model_file(path, &config.config.default_model_filename) {
            Ok(file) => {
                let identity = Identity { files, config: config.clone(), upload: upload.clone() };
                versions.insert(*number, (file, identity));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(Prepared { source: Arc::new(source), config, versions, available, files })
    } else {
        Err(problems)
    }
}

impl Loader {
    /// Loads, checks and warms one version. The error is a sentence that names the file.
    pub(super) fn load(
        &self,
        model: &Arc<str>,
        number: u64,
        prepared: &Prepared,
    ) -> Result<ServingVersion, String> {
        let (file, identity) = prepared
            .versions
            .get(&number)
            .ok_or_else(|| format!("there is no version {number}"))?;
        let read = &prepared.config;
        let settings = SessionOptions {
            // More threads than there are would only take turns.
            intra_op_threads: read.parameters.intra_op_threads.map(|it| it.min(self.threads)),
            gpu_memory_limit: self.options.gpu_memory_limit,
        };
        let session = self.engine.load(file, &settings).map_err(|error| error.to_string())?;
        let labels = self.labels(prepared)?;
        let fit = fit(session.signature(), read, labels).map_err(|problems| problems.join("; "))?;
        warm_up::run_samples(&*session, &read.config, &fit, &prepared.source.path)?;
        // Runs the model several times, which warms it too.
        let verification = verify_batching(&*session);
        let plan = plan_batches(&read.config, &self.options, session.signature(), &verification);
        Ok(self.finish(model, number, identity.clone(), session, fit, plan))
    }

    fn finish(
        &self,
        model: &Arc<str>,
        number: u64,
        identity: Identity,
        session: Arc<dyn Session>,
        fit: Fit,
        plan: BatchPlan,
    ) -> ServingVersion {
        let read = identity.config.clone();
        let options = scheduler_options(&read.config, &self.options, &plan, self.threads);
        let config = effective(model, &read.config, &fit, &plan, &options);
        let notes = self.notes(&read, &plan, model, number);
        let scheduler = Scheduler::new(
            model.clone(),
            number,
            session,
            options,
            self.compute.clone(),
            &self.metrics,
        );
        let Fit { signature, inputs, outputs } = fit;
        ServingVersion {
            model: model.clone(),
            number,
            inputs,
            every_output: (0..outputs.len()).collect(),
            outputs: signature
                .outputs
                .iter()
                .zip(outputs)
                .map(|(spec, reshaping)| ServedOutput {
                    name: spec.name.as_str().into(),
                    reshaping,
                })
                .collect(),
            signature: Arc::new(signature),
            max_batch_size: plan.max_batch_size,
            row_limit: plan.row_limit,
            scheduler,
            config,
            notes,
            _tags: self.tags.show(model, number, &read.config.metric_tags),
            identity,
        }
    }

    /// Class labels by output, from the files that the configuration names.
    fn labels(&self, prepared: &Prepared) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut labels = BTreeMap::new();
        for output in &prepared.config.config.output {
            if output.label_filename.is_empty() {
                continue;
            }
            let path = prepared.source.path.join(&output.label_filename);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let lines = text.lines().map(|line| line.trim_end().to_owned()).collect();
            labels.insert(output.tensor.name.clone(), lines);
        }
        Ok(labels)
    }

    fn notes(
        &self,
        read: &ReadConfig,
        plan: &BatchPlan,
        model: &str,
        number: u64,
    ) -> Vec<(String, String)> {
        let info = self.engine.info();
        let mut notes = vec![(
            "engine".to_owned(),
            format!("{} {} on {}, {} threads", info.name, info.version, info.device, self.threads),
        )];
        notes.push(("engine_choice".to_owned(), self.engine_notes.join("; ")));
        let batching = match plan.together {
            true => format!("on, up to {}: {}", plan.max_batch_size, plan.why),
            false => format!("off: {}", plan.why),
        };
        notes.push(("batching".to_owned(), batching));
        let mut warnings = read.warnings.clone();
        if plan.is_refused {
            warnings.push(read.origin.field(
                "max_batch_size",
                &format!("requests are not batched, because {}", plan.why),
            ));
        }
        if info.device == "cpu" {
            warnings.extend(gpu_groups(&read.config).map(|index| {
                let path = format!("instance_group[{index}].kind");
                read.origin.field(&path, &"there is no GPU, the model runs on the CPU")
            }));
        }
        for warning in &warnings {
            tracing::warn!(model, version = number, "{warning}");
        }
        // One entry a key: these become members of a JSON object.
        if !warnings.is_empty() {
            notes.push(("warnings".to_owned(), warnings.join("; ")));
        }
        notes
    }
}

fn gpu_groups(config: &ModelConfig) -> impl Iterator<Item = usize> {
    let groups = config.instance_group.iter().enumerate();
    groups.filter(|(_, group)| group.kind == "KIND_GPU").map(|(index, _)| index)
}
