//! What `up` is told to run: model files, folders of models, and manifests become services.

mod documents;
mod fingerprint;
mod layout;
mod members;
mod name;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trainyard_api::manifest::{self, Located, ManifestErrors};
use trainyard_api::model_service::{MODEL_NAME, Model, wrong_model_name};
use trainyard_api::scalar::ModelUri;
use trainyard_api::{GpuPool, ModelService, ModelServiceSpec, Queue, TrainingJob};
use trainyard_plan::{JobError, compile_job};

pub(crate) use fingerprint::{files, fingerprint};
pub(crate) use members::{Change, Members, difference, members};

use crate::machine;
use crate::secret::{self, Entries};

/// Where a service comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Origin {
    /// A model's file or folder; there is no manifest.
    Model { path: PathBuf },
    /// A file with manifests.
    Manifest { path: PathBuf },
}

impl Origin {
    pub fn path(&self) -> &Path {
        match self {
            Self::Model { path } | Self::Manifest { path } => path,
        }
    }
}

/// One service that should run.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// With a name, and with no relative path in its model's uri.
    pub manifest: ModelService,
    pub origin: Origin,
    /// Where its command runs.
    pub folder: PathBuf,
    /// The manifest file's fingerprint when it was read; none where there is no manifest.
    pub stamp: Option<String>,
}

impl Declared {
    pub fn name(&self) -> &str {
        self.manifest.metadata.name.as_deref().unwrap_or_default()
    }
}

/// One job that should run.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredJob {
    /// With a name.
    pub manifest: TrainingJob,
    pub origin: Origin,
    /// Where its command runs.
    pub folder: PathBuf,
}

impl DeclaredJob {
    pub fn name(&self) -> &str {
        self.manifest.metadata.name.as_deref().unwrap_or_default()
    }
}

/// One queue that jobs may name.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredQueue {
    /// With a name.
    pub manifest: Queue,
    /// The manifest's file.
    pub path: PathBuf,
}

impl DeclaredQueue {
    pub fn name(&self) -> &str {
        self.manifest.metadata.name.as_deref().unwrap_or_default()
    }
}

/// What targets stand for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    pub services: Vec<Declared>,
    pub jobs: Vec<DeclaredJob>,
    /// Pools that stand among the manifests. This machine has no use for them.
    pub gpu_pools: Vec<GpuPool>,
    pub queues: Vec<DeclaredQueue>,
    /// Secrets that stand among the manifests.
    pub secrets: BTreeMap<String, Entries>,
    /// Folders among the targets, with what they had before they were read.
    pub(crate) folders: BTreeMap<PathBuf, Members>,
    /// What was left aside, and why.
    pub notes: Vec<String>,
}

impl Resolved {
    /// What is left aside on this machine, and why: `notes`, and what acts in clusters only.
    pub fn notes_here(&self) -> Vec<String> {
        let pools = self.gpu_pools.iter().map(|pool| {
            let name = pool.metadata.name.as_deref().unwrap_or_default();
            format!("the GpuPool `{name}` acts in Kubernetes only; this machine ignores it")
        });
        self.notes.iter().cloned().chain(pools).collect()
    }

    /// Which of its jobs this machine cannot run, before anything of them is started. Blocks: it
    /// looks at the machine.
    pub fn check_jobs(&self) -> Result<(), Vec<TargetError>> {
        if self.jobs.is_empty() {
            return Ok(());
        }
        let machine = machine::target();
        let errors = self.jobs.iter().filter_map(|job| compile_job(&job.manifest, &machine).err());
        let errors: Vec<TargetError> = errors.map(TargetError::from).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// What is wrong with one target. Each is a person's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("there is nothing at `{path}`")]
    Missing { path: PathBuf },
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "`{path}` is neither an .onnx file, nor a manifest (.yaml, .yml, .json), nor a folder with models"
    )]
    Unknown { path: PathBuf },
    #[error(
        "`{path}` holds no model: expected an .onnx file, numbered versions, models in Triton's layout (NAME/VERSION/model.onnx), an MLflow model, or manifests{}",
        list(found)
    )]
    NoModel { path: PathBuf, found: String },
    #[error("`{path}` holds several models ({names}); name one of them, or call one `model.onnx`")]
    Several { path: PathBuf, names: String },
    #[error(
        "the MLflow model `{path}` has no `onnx` flavor, it has {flavors}; log it with `mlflow.onnx`, or serve it with a `custom` runtime"
    )]
    NoOnnxFlavor { path: PathBuf, flavors: String },
    #[error("`{path}` is no MLmodel file: {reason}")]
    MlModel { path: PathBuf, reason: String },
    #[error("`{path}` holds no ModelService and no TrainingJob")]
    NoManifest { path: PathBuf },
    #[error(transparent)]
    Manifest(#[from] ManifestErrors),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error("{path}:{line}: {reason}")]
    Secret { path: PathBuf, line: usize, reason: String },
    #[error("`{first}` and `{second}` are both called `{name}`; rename one")]
    SameName { name: String, first: PathBuf, second: PathBuf },
    #[error(
        "the services `{first}` and `{second}` both have a model called `{model}`, so that requests cannot tell them apart; give one of them another name with the annotation `{MODEL_NAME}`"
    )]
    SameModel { model: String, first: String, second: String },
}

fn list(found: &str) -> String {
    if found.is_empty() { "; it is empty".to_owned() } else { format!("; it has {found}") }
}

/// Finds out what targets stand for, or all that is wrong with them. Blocks: it reads files.
pub fn resolve(targets: &[PathBuf]) -> Result<Resolved, Vec<TargetError>> {
    let mut resolved = Resolved::default();
    let mut errors = Vec::new();
    for target in targets {
        match resolve_one(target) {
            Ok(found) => {
                resolved.services.extend(found.services);
                resolved.jobs.extend(found.jobs);
                resolved.gpu_pools.extend(found.gpu_pools);
                resolved.queues.extend(found.queues);
                resolved.secrets.extend(found.secrets);
                resolved.folders.extend(found.folders);
                resolved.notes.extend(found.notes);
            }
            Err(found) => errors.extend(found),
        }
    }
    let mut first: BTreeMap<&str, &Path> = BTreeMap::new();
    let services = resolved.services.iter().map(|it| (it.name(), it.origin.path()));
    // Commands and logs go by the name alone.
    let jobs = resolved.jobs.iter().map(|it| (it.name(), it.origin.path()));
    for (name, path) in services.chain(jobs) {
        if let Some(first) = first.insert(name, path) {
            errors.push(TargetError::SameName {
                name: name.to_owned(),
                first: first.to_owned(),
                second: path.to_owned(),
            });
        }
    }
    // Services of one name have been refused already.
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for service in &resolved.services {
        let model = service.manifest.model_name();
        if let Some(first) = first.insert(model, service.name())
            && first != service.name()
        {
            errors.push(TargetError::SameModel {
                model: model.to_owned(),
                first: first.to_owned(),
                second: service.name().to_owned(),
            });
        }
    }
    if errors.is_empty() { Ok(resolved) } else { Err(errors) }
}

fn resolve_one(target: &Path) -> Result<Resolved, Vec<TargetError>> {
    let read = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => vec![TargetError::Missing { path: target.to_owned() }],
        _ => vec![TargetError::Read { path: target.to_owned(), source }],
    };
    // Absolute, but links stay: `current -> v7` is a name that people chose.
    let path = std::path::absolute(target).map_err(read)?;
    let metadata = fs::metadata(&path).map_err(read)?;
    if metadata.is_dir() {
        // Before it is read: what comes after this is a change.
        let members = members(&path, &BTreeSet::new()).map_err(read)?;
        let mut resolved = folder(&path)?;
        resolved.folders.insert(path, members);
        return Ok(resolved);
    }
    match extension(&path) {
        Some("onnx") => Ok(Resolved { services: vec![plain(&path)], ..Resolved::default() }),
        Some("yaml" | "yml" | "json") => manifest_file(&path, true),
        _ => Err(vec![TargetError::Unknown { path: target.to_owned() }]),
    }
}

/// Reads a folder again that was a target before. One that has become empty stands for nothing.
/// Blocks.
pub(crate) fn resolve_folder(path: &Path) -> Result<Resolved, Vec<TargetError>> {
    match resolve(&[path.to_owned()]) {
        Err(errors) if matches!(errors.as_slice(), [TargetError::NoModel { .. }]) => {
            let read = |source| vec![TargetError::Read { path: path.to_owned(), source }];
            let members = members(path, &BTreeSet::new()).map_err(read)?;
            let folders = [(path.to_owned(), members)].into();
            Ok(Resolved { folders, ..Resolved::default() })
        }
        result => result,
    }
}

/// Whether a file of a folder may hold manifests.
fn is_manifest(file: &Path) -> bool {
    matches!(extension(file), Some("yaml" | "yml"))
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

/// The service that a model without a manifest stands for.
fn plain(path: &Path) -> Declared {
    let called = if path.is_dir() { path.file_name() } else { path.file_stem() }
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name = name::valid(&called);
    let model = Model {
        uri: ModelUri::File(path.to_owned()),
        format: None,
        version: None,
        sha256: None,
        credentials_secret: None,
    };
    let spec = ModelServiceSpec {
        model,
        runtime: None,
        resources: None,
        batching: None,
        replicas: None,
        scaling: Default::default(),
        rollout: None,
        access: None,
        placement: None,
    };
    let mut manifest = ModelService::new(&name, spec);
    // Its clients know it by the name that it was given.
    if called != name && wrong_model_name(&called).is_none() {
        manifest.metadata.annotations = Some([(MODEL_NAME.to_owned(), called)].into());
    }
    Declared {
        manifest,
        origin: Origin::Model { path: path.to_owned() },
        folder: path.parent().unwrap_or(path).to_owned(),
        stamp: None,
    }
}

/// A folder: manifests if it has one, else models in one of their layouts.
fn folder(path: &Path) -> Result<Resolved, Vec<TargetError>> {
    let read = |source| vec![TargetError::Read { path: path.to_owned(), source }];
    let listing = layout::Listing::of(path).map_err(read)?;
    let mut resolved = Resolved::default();
    let mut errors = Vec::new();
    for file in listing.files.iter().filter(|file| is_manifest(file)) {
        match manifest_file(file, false) {
            Ok(found) => {
                resolved.services.extend(found.services);
                resolved.jobs.extend(found.jobs);
                resolved.gpu_pools.extend(found.gpu_pools);
                resolved.queues.extend(found.queues);
                resolved.secrets.extend(found.secrets);
                resolved.notes.extend(found.notes);
            }
            Err(found) => errors.extend(found),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let is_empty = resolved.services.is_empty() && resolved.jobs.is_empty();
    if is_empty && resolved.gpu_pools.is_empty() && resolved.queues.is_empty() {
        let models = layout::models(path, &listing).map_err(|error| vec![error])?;
        resolved.services.extend(models.iter().map(|path| plain(path)));
        // What is not a manifest beside a model is nobody's mistake.
        resolved.notes.clear();
    }
    Ok(resolved)
}

/// Reads a file of manifests. One that was named must hold some; another may hold none.
fn manifest_file(path: &Path, was_named: bool) -> Result<Resolved, Vec<TargetError>> {
    let read = |source| vec![TargetError::Read { path: path.to_owned(), source }];
    // Before the file is read: what changes after this is a change.
    let stamp = fingerprint(path).map_err(read)?;
    let bytes = fs::read(path).map_err(read)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let found = documents_of(&path.display().to_string(), &bytes, was_named)?;
    let services = found.services.into_iter().map(|found| Declared {
        manifest: found.relative_to(parent),
        origin: Origin::Manifest { path: path.to_owned() },
        folder: parent.to_owned(),
        stamp: Some(stamp.clone()),
    });
    let jobs = found.jobs.into_iter().map(|located| DeclaredJob {
        manifest: located.value,
        origin: Origin::Manifest { path: path.to_owned() },
        folder: parent.to_owned(),
    });
    let queues = found
        .queues
        .into_iter()
        .map(|located| DeclaredQueue { manifest: located.value, path: path.to_owned() });
    Ok(Resolved {
        jobs: jobs.collect(),
        services: services.collect(),
        gpu_pools: found.gpu_pools.into_iter().map(|located| located.value).collect(),
        queues: queues.collect(),
        secrets: found.secrets,
        notes: found.notes,
        ..Resolved::default()
    })
}

/// What stands in a text of manifests.
#[derive(Debug, Default)]
pub struct Documents {
    pub services: Vec<Located<ModelService>>,
    pub jobs: Vec<Located<TrainingJob>>,
    pub gpu_pools: Vec<Located<GpuPool>>,
    pub queues: Vec<Located<Queue>>,
    /// Secrets that stand among them.
    pub secrets: BTreeMap<String, Entries>,
    /// What was left aside, and why.
    pub notes: Vec<String>,
}

/// Reads a text that somebody named, such as standard input: it must hold manifests, and may hold
/// other resources beside them, as a file may.
pub fn read_manifests(name: &str, bytes: &[u8]) -> Result<Documents, Vec<TargetError>> {
    documents_of(name, bytes, true)
}

/// Reads a text of manifests. One that was named must hold some; another may hold none.
fn documents_of(name: &str, bytes: &[u8], was_named: bool) -> Result<Documents, Vec<TargetError>> {
    let mut found = Documents::default();
    let located = match std::str::from_utf8(bytes) {
        Err(_) => manifest::read_bytes(name, bytes),
        Ok(text) => {
            let sorted = documents::sort(text, was_named);
            for secret in &sorted.secrets {
                let (secret_name, entries) = secret::parse(&secret.text).map_err(|reason| {
                    vec![TargetError::Secret { path: name.into(), line: secret.line, reason }]
                })?;
                found.secrets.insert(secret_name, entries);
            }
            let notes = sorted.foreign.iter().map(|what| format!("`{name}`: {what} is left aside"));
            found.notes.extend(notes);
            if !sorted.has_ours {
                return match was_named && found.secrets.is_empty() {
                    true => Err(vec![TargetError::NoManifest { path: name.into() }]),
                    false => Ok(found),
                };
            }
            manifest::read(name, &sorted.ours)
        }
    };
    let located = located.map_err(|errors| vec![errors.into()])?;
    Ok(Documents {
        services: located.services,
        jobs: located.jobs,
        gpu_pools: located.gpu_pools,
        queues: located.queues,
        ..found
    })
}

/// The secrets among the YAML files of a folder; what cannot be read has none. Blocks.
pub(crate) fn secrets_of(folder: &Path) -> BTreeMap<String, Entries> {
    let listing = layout::Listing::of(folder).unwrap_or_default();
    let files = listing.files.iter().filter(|file| is_manifest(file));
    let texts = files.filter_map(|file| fs::read_to_string(file).ok());
    let documents = texts.flat_map(|text| documents::sort(&text, false).secrets);
    documents.filter_map(|document| secret::parse(&document.text).ok()).collect()
}

#[cfg(test)]
mod tests;
