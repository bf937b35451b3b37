//! Every model that is known, whether it serves, and why not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::description::{IndexEntry, VersionState};
use super::version::{ServingModel, ServingVersion, Table};
use crate::repository::Fingerprint;

/// Triton's word for a version that was unloaded on purpose, which clients compare with.
const UNLOADED: &str = "unloaded";

/// All models by name. Changed under a lock; requests read the [`Table`] that it gives.
#[derive(Default)]
pub(super) struct Registry {
    models: BTreeMap<Arc<str>, Model>,
}

/// One model.
#[derive(Default)]
struct Model {
    /// Held by whoever loads or unloads it.
    turn: Arc<tokio::sync::Mutex<()>>,
    should_serve: bool,
    is_loading: bool,
    /// What went wrong with the model as a whole when it was last loaded.
    problem: Option<String>,
    versions: BTreeMap<u64, Status>,
    serving: BTreeMap<u64, Arc<ServingVersion>>,
    labels: BTreeMap<String, u64>,
    /// The files as they were when it was last loaded, or tried to be.
    attempted: Option<Fingerprint>,
}

struct Status {
    state: VersionState,
    reason: String,
}

/// What became of each version of a model that was loaded.
pub(super) struct Loaded {
    pub(super) ready: BTreeMap<u64, Arc<ServingVersion>>,
    pub(super) failed: BTreeMap<u64, String>,
    /// Versions that there are files of.
    pub(super) available: BTreeSet<u64>,
    pub(super) labels: BTreeMap<String, u64>,
}

impl Registry {
    /// Makes a model known.
    pub(super) fn know(&mut self, name: &str) {
        self.model(name);
    }

    pub(super) fn is_known(&self, name: &str) -> bool {
        self.models.contains_key(name)
    }

    /// The lock of a model's turn.
    pub(super) fn turn(&mut self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.model(name).turn.clone()
    }

    fn model(&mut self, name: &str) -> &mut Model {
        if !self.models.contains_key(name) {
            self.models.insert(name.into(), Model::default());
        }
        self.models.get_mut(name).expect("it is there, or was just put there")
    }

    /// Notes that a model is to be loaded.
    pub(super) fn want(&mut self, name: &str) {
        let model = self.model(name);
        model.should_serve = true;
        model.is_loading = true;
    }

    /// Notes which files a load begins with.
    pub(super) fn attempt(&mut self, name: &str, files: Fingerprint) {
        self.model(name).attempted = Some(files);
    }

    /// Models that should serve, with the files they were last loaded from.
    pub(super) fn attempts(&self) -> BTreeMap<Arc<str>, Option<Fingerprint>> {
        let models = self.models.iter().filter(|(_, model)| model.should_serve);
        models.map(|(name, model)| (name.clone(), model.attempted.clone())).collect()
    }

    /// Whether a model is being loaded.
    pub(super) fn is_loading(&self, name: &str) -> bool {
        self.models.get(name).is_some_and(|model| model.is_loading)
    }

    /// The versions that serve now.
    pub(super) fn serving(&self, name: &str) -> BTreeMap<u64, Arc<ServingVersion>> {
        self.models.get(name).map(|model| model.serving.clone()).unwrap_or_default()
    }

    /// Notes that versions are being loaded. Those that serve stay ready.
    pub(super) fn loading(&mut self, name: &str, versions: impl Iterator<Item = u64>) {
        let model = self.model(name);
        for number in versions {
            if !model.serving.contains_key(&number) {
                let status = Status { state: VersionState::Loading, reason: String::new() };
                model.versions.insert(number, status);
            }
        }
    }

    /// Notes that a model could not be loaded at all. What serves goes on.
    pub(super) fn fail(&mut self, name: &str, problem: &str) {
        let model = self.model(name);
        model.is_loading = false;
        model.problem = Some(problem.to_owned());
        for status in model.versions.values_mut() {
            if status.state == VersionState::Loading {
                status.state = VersionState::Unavailable;
            }
            problem.clone_into(&mut status.reason);
        }
    }

    /// Puts loaded versions in place of those that serve, and gives back those that no longer do.
    ///
    /// When a version failed to load, no other is taken away: it may be the one that was to replace
    /// it.
    pub(super) fn replace(&mut self, name: &str, loaded: Loaded) -> Vec<Arc<ServingVersion>> {
        let Loaded { ready, failed, available, labels } = loaded;
        let model = self.model(name);
        model.is_loading = false;
        model.problem = None;
        model.labels = labels;
        let mut retired = Vec::new();
        let mut serving = std::mem::take(&mut model.serving);
        if failed.is_empty() {
            serving.retain(|number, version| {
                let stays = ready.contains_key(number);
                if !stays {
                    retired.push(version.clone());
                }
                stays
            });
        }
        for (number, version) in ready {
            if let Some(before) = serving.insert(number, version.clone())
                && !Arc::ptr_eq(&before, &version)
            {
                retired.push(before);
            }
        }
        model.serving = serving;
        model.versions.retain(|number, status| {
            let is_gone = status.state == VersionState::Unavailable && !available.contains(number);
            !is_gone || failed.contains_key(number)
        });
        for version in &retired {
            let status = Status { state: VersionState::Unloading, reason: String::new() };
            model.versions.insert(version.number, status);
        }
        for (number, reason) in failed {
            let status = Status { state: VersionState::Unavailable, reason };
            model.versions.insert(number, status);
        }
        for number in model.serving.keys() {
            // A version that serves although its replacement failed says why it is the old one.
            let before = model.versions.remove(number);
            let failure = before.filter(|status| status.state == VersionState::Unavailable);
            let reason = failure.map(|status| status.reason).filter(|it| it != UNLOADED);
            let reason = reason.unwrap_or_default();
            model.versions.insert(*number, Status { state: VersionState::Ready, reason });
        }
        retired
    }

    /// Notes that a version which was taken away has answered its last request.
    pub(super) fn drained(&mut self, name: &str, number: u64) {
        let Some(model) = self.models.get_mut(name) else { return };
        if let Some(status) = model.versions.get_mut(&number)
            && status.state == VersionState::Unloading
        {
            *status = Status { state: VersionState::Unavailable, reason: UNLOADED.to_owned() };
        }
    }

    /// Takes all versions of a model away, and gives them back.
    pub(super) fn take(&mut self, name: &str) -> Vec<Arc<ServingVersion>> {
        let Some(model) = self.models.get_mut(name) else { return Vec::new() };
        model.should_serve = false;
        model.is_loading = false;
        model.attempted = None;
        model.problem = None;
        model.labels.clear();
        let taken: Vec<_> = std::mem::take(&mut model.serving).into_values().collect();
        for (number, status) in &mut model.versions {
            *status = match taken.iter().any(|version| version.number == *number) {
                true => Status { state: VersionState::Unloading, reason: String::new() },
                false => Status { state: VersionState::Unavailable, reason: UNLOADED.to_owned() },
            };
        }
        taken
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.models.keys().cloned().collect()
    }

    /// The table for requests.
    pub(super) fn table(&self) -> Table {
        let serving = self.models.iter().filter(|(_, model)| !model.serving.is_empty());
        serving
            .map(|(name, model)| {
                let versions = model.serving.values().cloned().collect();
                let model = ServingModel { versions, labels: model.labels.clone() };
                (name.clone(), model)
            })
            .collect()
    }

    /// Every model and version, by name and number.
    pub(super) fn index(&self) -> Vec<IndexEntry> {
        let mut entries = Vec::new();
        for (name, model) in &self.models {
            if model.versions.is_empty() {
                let (state, reason) = model.state();
                entries.push(IndexEntry { name: name.to_string(), version: None, state, reason });
            }
            for (number, status) in &model.versions {
                entries.push(IndexEntry {
                    name: name.to_string(),
                    version: Some(*number),
                    state: status.state,
                    reason: status.reason.clone(),
                });
            }
        }
        entries
    }

    /// Why no version of a model serves; `None` for a model that is not known.
    pub(super) fn why_not(&self, name: &str) -> Option<String> {
        let model = self.models.get(name)?;
        if model.is_loading {
            return Some("it is loading".to_owned());
        }
        if let Some(problem) = &model.problem {
            return Some(problem.clone());
        }
        let failure = model.versions.values().map(|status| status.reason.as_str());
        let failure = failure.filter(|reason| !reason.is_empty()).max();
        Some(failure.unwrap_or(UNLOADED).to_owned())
    }

    /// What failed in models that should serve.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, model) in self.models.iter().filter(|(_, model)| model.should_serve) {
            problems.extend(model.problem.iter().cloned());
            let failed = model.versions.iter().filter(|(_, status)| {
                status.state == VersionState::Unavailable && status.reason != UNLOADED
            });
            if model.problem.is_none() {
                problems.extend(failed.map(|(number, status)| {
                    format!("model '{name}' version {number}: {}", status.reason)
                }));
            }
        }
        problems
    }

    /// Whether every model that should serve does.
    pub(super) fn all_serve(&self) -> bool {
        self.models.values().all(|model| !model.should_serve || !model.serving.is_empty())
    }
}

impl Model {
    fn state(&self) -> (VersionState, String) {
        match &self.problem {
            _ if self.is_loading => (VersionState::Loading, String::new()),
            Some(problem) => (VersionState::Unavailable, problem.clone()),
            None => (VersionState::Unavailable, UNLOADED.to_owned()),
        }
    }
}
