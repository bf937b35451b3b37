//! A store of checkpoints, and what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use trainyard_storage::objects::Objects;
use trainyard_storage::{Credentials, StorageError, objects};

use crate::error::{self, CheckpointError};
use crate::lazily::lazily;
use crate::manifest::{self, Manifest, Part};
use crate::recognise::Layout;
use crate::{candidate, chunk, keys};

/// How much a store does at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Chunks in flight; each is held in memory.
    pub parallel: usize,
    /// Size of new chunks. A store may hold several sizes; only equal ones share content.
    pub chunk_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { parallel: 6, chunk_bytes: chunk::DEFAULT_BYTES }
    }
}

/// A folder that holds checkpoints. Any number of processes may use it at once.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) tuning: Tuning,
}

/// What tells a checkpoint from all others of a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepId {
    pub name: String,
    pub label: String,
}

/// A checkpoint, as far as its manifests are there.
#[derive(Debug, Clone)]
pub struct Step {
    pub id: StepId,
    pub(crate) of: u32,
    pub(crate) parts: BTreeMap<u32, Manifest>,
}

/// A manifest that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub key: String,
    pub reason: String,
}

/// What is in a store at one look.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// The newest first. Also those of which parts are missing.
    pub steps: Vec<Step>,
    pub broken: Vec<Broken>,
}

impl Step {
    /// Whether every worker's part is there.
    pub fn is_complete(&self) -> bool {
        self.parts.len() as u64 == u64::from(self.of)
    }

    /// Parts that are there, and how many there must be.
    pub fn parts(&self) -> (usize, u32) {
        (self.parts.len(), self.of)
    }

    /// The step that its name tells.
    pub fn step(&self) -> Option<u64> {
        candidate::step_of(&self.id.name)
    }

    pub fn bytes(&self) -> u64 {
        self.parts.values().fold(0, |sum, part| sum.saturating_add(part.bytes()))
    }

    pub fn files(&self) -> usize {
        self.parts.values().map(|part| part.files.len()).sum()
    }

    /// Orders the checkpoints of a store: milliseconds since the Unix epoch, as far as clocks agree.
    pub fn sequence(&self) -> u64 {
        self.parts.values().map(|part| part.sequence).max().unwrap_or_default()
    }

    pub fn layout(&self) -> Layout {
        self.parts.values().next().map_or(Layout::Other, |part| part.layout)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        self.parts.values().map(|it| keys::manifest(&it.name, &it.label, it.part))
    }
}

impl Catalogue {
    /// Those that can be restored, the newest first.
    pub fn complete(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.is_complete())
    }

    /// The newest of a name, or of a step's number.
    pub fn find(&self, name: &str) -> Option<&Step> {
        let number = name.parse::<u64>().ok();
        let find = |wanted: &dyn Fn(&Step) -> bool| {
            self.complete().find(|step| wanted(step)).or_else(|| {
                // So that the error can say what is missing of it.
                self.steps.iter().find(|step| wanted(step))
            })
        };
        find(&|step| step.id.name == name)
            .or_else(|| find(&|step| number.is_some() && step.step() == number))
    }

    pub(crate) fn newest_sequence(&self) -> u64 {
        self.steps.iter().map(Step::sequence).max().unwrap_or_default()
    }
}

impl Store {
    /// Opens the store at a URI: a folder, `file`, `s3`, `gs` or `az`. Nothing is asked or made yet.
    pub fn open(uri: &str, credentials: &Credentials) -> Result<Self, CheckpointError> {
        let opened = objects::open(uri, credentials);
        let objects = opened.map_err(error::store("open the store of checkpoints"))?;
        Ok(Self::over(objects))
    }

    /// A store in a folder of objects that is open already.
    pub fn over(objects: Arc<dyn Objects>) -> Self {
        Self { objects, tuning: Tuning::default() }
    }

    pub fn with_tuning(self, tuning: Tuning) -> Self {
        let parallel = tuning.parallel.max(1);
        let chunk_bytes = tuning.chunk_bytes.clamp(1, manifest::MAX_CHUNK_BYTES);
        Self { tuning: Tuning { parallel, chunk_bytes }, ..self }
    }

    /// The URI for people.
    pub fn uri(&self) -> &str {
        self.objects.uri()
    }

    /// Looks what is there.
    pub async fn catalogue(&self) -> Result<Catalogue, CheckpointError> {
        let listed = self.objects.list(keys::STEPS).await;
        let listed = listed.map_err(error::store("list checkpoints"))?;
        let keys = listed.into_iter().filter(|it| it.key.ends_with(".json")).map(|it| it.key);
        let reads = keys.map(|key| {
            async move {
                let read = self.manifest(&key).await?;
                Ok::<_, CheckpointError>((key, read))
            }
            .boxed()
        });
        let read: Vec<(String, Option<Result<Manifest, String>>)> =
            lazily(reads).buffered(self.tuning.parallel).try_collect().await?;
        let mut catalogue = Catalogue::default();
        let mut steps: BTreeMap<(String, String, u32), Step> = BTreeMap::new();
        for (key, manifest) in read {
            match manifest {
                // It was removed since it was listed.
                None => {}
                Some(Err(reason)) => catalogue.broken.push(Broken { key, reason }),
                Some(Ok(part)) => {
                    let id = StepId { name: part.name.clone(), label: part.label.clone() };
                    let Part { index, of } = part.part;
                    let step = steps.entry((id.name.clone(), id.label.clone(), of));
                    let step = step.or_insert_with(|| Step { id, of, parts: BTreeMap::new() });
                    step.parts.insert(index, part);
                }
            }
        }
        catalogue.steps = steps.into_values().collect();
        catalogue.steps.sort_by(|a, b| {
            let key = |step: &Step| (step.sequence(), step.step());
            key(b).cmp(&key(a)).then_with(|| b.id.cmp(&a.id))
        });
        Ok(catalogue)
    }

    /// Reads one manifest; `None` if there is none.
    async fn manifest(
        &self,
        key: &str,
    ) -> Result<Option<Result<Manifest, String>>, CheckpointError> {
        let bytes = match self.objects.get(key, manifest::MAX_BYTES).await {
            Ok(bytes) => bytes,
            Err(StorageError::NotFound { .. }) => return Ok(None),
            Err(StorageError::Object { reason, .. }) => return Ok(Some(Err(reason))),
            Err(source) => return Err(error::store(format!("read `{key}`"))(source)),
        };
        let parsed = Manifest::parse(&bytes).and_then(|manifest| {
            let expected = keys::manifest(&manifest.name, &manifest.label, manifest.part);
            if expected == key {
                Ok(manifest)
            } else {
                Err("it is the manifest of another checkpoint".to_owned())
            }
        });
        Ok(Some(parsed))
    }

    /// Reads a chunk and compares it with its hash. `Ok(Err)`: the store holds something else.
    pub(crate) async fn chunk(
        &self,
        sha256: &str,
        bytes: u64,
    ) -> Result<Result<Bytes, String>, CheckpointError> {
        let wrong = match self.objects.get(&keys::chunk(sha256), bytes).await {
            Ok(read) if read.len() as u64 == bytes => {
                let copy = read.clone();
                let hash = chunk::blocking(move || chunk::sha256(&copy)).await;
                if hash == sha256 {
                    return Ok(Ok(read));
                }
                "holds other bytes than were saved".to_owned()
            }
            Ok(read) => format!("has {} bytes in place of {bytes}", read.len()),
            Err(StorageError::NotFound { .. }) => "is not there any more".to_owned(),
            Err(StorageError::Object { reason, .. }) => format!("is too long: {reason}"),
            Err(source) => return Err(error::store(format!("read the chunk {sha256}"))(source)),
        };
        Ok(Err(format!("the chunk {sha256} {wrong}")))
    }
}
