//! What is declared becomes what should run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use tokio::sync::oneshot;
use trainyard_api::model_service::MODEL_NAME;
use trainyard_control::rollout;

use super::actor::{Actor, Errand, Looked};
use super::copies;
use super::prepare::{self, PrepareError, Prepared, prepare};
use super::ration::refused_queues;
use super::service::{Revision, Running, Service, declared};
use crate::history::{RevisionRecord, Severity, unix_ms};
use crate::secret::{Entries, Secrets};
use crate::socket::{Applied, Reply};
use crate::target::{
    Change, Declared, Origin, Resolved, TargetError, fingerprint, resolve, resolve_folder,
};

impl Actor {
    pub(super) fn apply_at_start(&mut self, targets: Vec<PathBuf>) {
        self.resolve(targets, true, None);
    }

    /// Reads targets in the background; what they declare is installed when it is ready.
    pub(super) fn resolve(
        &mut self,
        targets: Vec<PathBuf>,
        by_person: bool,
        reply: Option<oneshot::Sender<Reply>>,
    ) {
        self.errands.spawn_blocking(move || {
            let result = resolve(&targets).and_then(|resolved| {
                resolved.check_jobs()?;
                Ok(resolved)
            });
            Errand::Resolved { targets, result, by_person, reply }
        });
    }

    pub(super) async fn on_resolved(
        &mut self,
        targets: Vec<PathBuf>,
        result: Result<Resolved, Vec<TargetError>>,
        by_person: bool,
        reply: Option<oneshot::Sender<Reply>>,
    ) {
        let problems = match result {
            Ok(resolved) => {
                let vanishing = self.vanishing(&targets, &resolved);
                match self.taken(&resolved, &vanishing, by_person) {
                    problems if problems.is_empty() => {
                        let asked = reply.is_some();
                        let applied = self.declare_all(resolved, vanishing, asked, by_person).await;
                        // Whoever asked looks at the status next, which must not be that of before.
                        self.publish();
                        if let Some(reply) = reply {
                            let _ = reply.send(Reply::Applied(applied));
                        }
                        return;
                    }
                    problems => problems,
                }
            }
            Err(errors) => errors.iter().map(in_full).collect(),
        };
        self.not_applied(&targets, &problems).await;
        if let Some(reply) = reply {
            let _ = reply.send(Reply::Failed { problems });
        }
    }

    /// Something came into a folder, or went: only that is acted upon, since all else there may be
    /// as a person wants it by now (rolled back, or taken down).
    pub(super) async fn on_folder_resolved(
        &mut self,
        folder: PathBuf,
        change: Change,
        result: Result<Resolved, Vec<TargetError>>,
    ) {
        let targets = [folder];
        let problems = match result {
            Ok(mut resolved) => {
                let vanishing = self.vanishing(&targets, &resolved);
                resolved.services.retain(|service| change.added.contains(service.origin.path()));
                resolved.jobs.retain(|job| change.added.contains(job.origin.path()));
                match self.taken(&resolved, &vanishing, false) {
                    problems if problems.is_empty() => {
                        self.declare_all(resolved, vanishing, false, false).await;
                        return;
                    }
                    problems => problems,
                }
            }
            Err(errors) => errors.iter().map(in_full).collect(),
        };
        self.not_applied(&targets, &problems).await;
    }

    /// Services go on as they are, and say why they did not change.
    async fn not_applied(&mut self, targets: &[PathBuf], problems: &[String]) {
        for problem in problems {
            let object = targets.first().map(|path| path.display().to_string()).unwrap_or_default();
            self.note(Severity::Warning, None, &object, "NotApplied", problem).await;
        }
        let text = problems.join("\n");
        for service in self.services.values_mut() {
            if targets.iter().any(|target| service.declared.origin.path() == target) {
                service.last_error = Some(text.clone());
            }
        }
    }

    /// Services that targets declared before and do not declare any more.
    fn vanishing(&self, targets: &[PathBuf], resolved: &Resolved) -> BTreeSet<String> {
        let files: BTreeSet<&Path> = resolved
            .services
            .iter()
            .map(|declared| declared.origin.path())
            .chain(targets.iter().map(PathBuf::as_path))
            .collect();
        let gone: BTreeSet<PathBuf> = resolved
            .folders
            .iter()
            .flat_map(|(folder, members)| self.folders.gone(folder, members))
            .collect();
        let names: BTreeSet<&str> = resolved.services.iter().map(Declared::name).collect();
        let vanished = self.services.values().filter(|service| {
            let origin = &service.declared.origin;
            let was_here = matches!(origin, Origin::Manifest { .. })
                && files.contains(origin.path())
                || gone.contains(origin.path());
            was_here && !service.leaving && !names.contains(service.name.as_str())
        });
        vanished.map(|service| service.name.clone()).collect()
    }

    /// Names that a target would take from a service that another model has.
    fn taken(
        &self,
        resolved: &Resolved,
        vanishing: &BTreeSet<String>,
        by_person: bool,
    ) -> Vec<String> {
        let stays = |old: &&Service| !old.leaving && !vanishing.contains(&old.name);
        let same_name = resolved.services.iter().filter_map(|new| {
            let old = self.services.get(new.name()).filter(stays)?;
            let old = &old.declared.origin;
            // A name in a manifest was chosen; that of a plain model may be an accident. What has
            // gone holds no name.
            let is_taken = matches!(new.origin, Origin::Model { .. })
                && *old != new.origin
                && old.path().exists();
            is_taken.then(|| {
                format!(
                    "`{}` is already the name of `{}`; rename `{}`, or take the other down with `trainyard down {}`",
                    new.name(),
                    old.path().display(),
                    new.origin.path().display(),
                    new.name()
                )
            })
        });
        let is_declared_anew = |name: &str| resolved.services.iter().any(|new| new.name() == name);
        let same_model = resolved.services.iter().filter_map(|new| {
            let model = new.manifest.model_name();
            let old = self.services.values().filter(stays).find(|old| {
                old.declared.manifest.model_name() == model && !is_declared_anew(&old.name)
            })?;
            Some(format!(
                "`{}` has a model called `{model}`, and so has the service `{}` that runs; give one of them another name with the annotation `{MODEL_NAME}`, or take the other down with `trainyard down {}`",
                new.name(),
                old.name,
                old.name
            ))
        });
        let jobs = self.refused_jobs(&resolved.jobs, by_person);
        let of_jobs = self.names_of_jobs(resolved.services.iter().map(Declared::name));
        let queues = refused_queues(resolved);
        same_name.chain(same_model).chain(jobs).chain(of_jobs).chain(queues).collect()
    }

    async fn declare_all(
        &mut self,
        resolved: Resolved,
        vanishing: BTreeSet<String>,
        asked: bool,
        by_person: bool,
    ) -> Applied {
        let notes = resolved.notes_here();
        for note in &notes {
            tracing::info!(note, "left aside");
        }
        self.declare_queues(&resolved).await;
        self.declare_secrets(resolved.secrets);
        for name in vanishing {
            self.note(
                Severity::Normal,
                Some(&name),
                &name,
                "NotDeclared",
                "its manifest or its model is not there any more",
            )
            .await;
            self.leave(&name).await;
        }
        if !resolved.folders.is_empty() {
            for (folder, members) in resolved.folders {
                self.folders.acted(&folder, members);
            }
            self.writer.folders(self.folders.saved()).await;
        }
        let services = resolved.services.iter().map(|declared| declared.name().to_owned());
        let services = services.collect::<BTreeSet<_>>().into_iter().collect();
        let jobs = resolved.jobs.iter().map(|declared| declared.name().to_owned()).collect();
        for declared in resolved.services {
            // What was just read is no change of the file any more: a look at it a second later
            // would undo a rollback.
            if let (Origin::Manifest { .. }, Some(stamp)) = (&declared.origin, &declared.stamp) {
                self.watch.acted(declared.origin.path(), Some(stamp.clone()));
            }
            self.declare(declared, asked);
        }
        for declared in resolved.jobs {
            self.declare_job(declared, by_person).await;
        }
        self.ration().await;
        Applied { services, jobs, notes }
    }

    /// Makes secrets known that stand among manifests.
    pub(super) fn declare_secrets(&mut self, found: BTreeMap<String, Entries>) {
        if found.is_empty() {
            return;
        }
        self.declared_secrets.extend(found);
        let mut secrets = Secrets::new(self.shared.state.secrets());
        for (name, entries) in &self.declared_secrets {
            secrets.declare(name.clone(), entries.clone());
        }
        *self.shared.secrets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(secrets);
    }

    /// Begins to prepare a service; what it was before goes on until then.
    pub(super) fn declare(&mut self, declared: Declared, asked: bool) {
        let name = declared.name().to_owned();
        let service =
            self.services.entry(name.clone()).or_insert_with(|| Service::new(declared.clone()));
        service.declared = declared;
        service.leaving = false;
        service.fetching.forget();
        let secrets = self.shared.secrets.read().unwrap_or_else(PoisonError::into_inner).clone();
        service.keys = prepare::keys(&service.declared.manifest, &secrets).ok();
        if let Some(running) = &mut service.running
            && asked
        {
            running.state.retry();
        }
        self.prepare(&name);
        // Requests that come from now on wait for it.
        self.route();
    }

    /// Begins an attempt to prepare a service as it is declared.
    fn prepare(&mut self, name: &str) {
        // Counted over all services: one that is gone must not pass for its successor.
        self.generation = self.generation.wrapping_add(1);
        let Some(service) = self.services.get_mut(name) else { return };
        service.generation = self.generation;
        service.preparing = true;
        let progress = service.fetching.begin();
        let (generation, declared) = (service.generation, service.declared.clone());
        let (shared, models) = (self.shared.clone(), self.models.clone());
        let (name, copies) = (name.to_owned(), shared.state.models());
        self.errands.spawn(async move {
            let secrets = shared.secrets.read().unwrap_or_else(PoisonError::into_inner).clone();
            let result = Box::new(prepare(declared, models, secrets, copies, progress).await);
            Errand::Prepared { service: name, generation, result }
        });
    }

    /// It is time for the next attempt to fetch a service's model.
    pub(super) fn fetch_again(&mut self, name: &str, generation: u64) {
        let is_due = self.services.get(name).is_some_and(|service| {
            service.generation == generation && !service.leaving && service.fetching.retry.is_some()
        });
        if is_due && !self.stopping {
            self.prepare(name);
        }
    }

    pub(super) async fn on_prepared(
        &mut self,
        name: &str,
        generation: u64,
        result: Result<Prepared, PrepareError>,
    ) {
        let is_newest = self.services.get(name).is_some_and(|s| s.generation == generation);
        if !is_newest {
            return;
        }
        self.watch_files(name);
        match result {
            Ok(prepared) => self.install(prepared, false).await,
            Err(error) => self.on_not_prepared(name, generation, error).await,
        }
    }

    async fn on_not_prepared(&mut self, name: &str, generation: u64, error: PrepareError) {
        let problem = error.to_string();
        let now = self.shared.now();
        let Some(service) = self.services.get_mut(name) else { return };
        service.preparing = false;
        service.last_error = Some(problem.clone());
        let retry = match error {
            PrepareError::Fetch { failure, .. } => service.fetching.failed(failure, now),
            _ => None,
        };
        let reason = if retry.is_some() { "FetchFailed" } else { "NotPrepared" };
        if let Some(retry) = retry {
            tracing::info!(service = name, failures = retry.failures, delay = ?retry.delay, "fetching again later");
            let service = name.to_owned();
            self.errands.spawn(async move {
                tokio::time::sleep(retry.delay).await;
                Errand::FetchAgain { service, generation }
            });
        }
        self.note(Severity::Warning, Some(name), name, reason, &problem).await;
        self.route();
    }

    /// Makes a prepared service the one that should run.
    pub(super) async fn install(&mut self, prepared: Prepared, straight: bool) {
        let Prepared { declared, model, plan, keys } = prepared;
        let name = declared.name().to_owned();
        let Some(service) = self.services.get_mut(&name) else { return };
        service.preparing = false;
        service.last_error = None;
        service.fetching.forget();
        // Going back leaves the file as it is, which is no change of it.
        if let Some(path) = service.model_file().filter(|_| !straight) {
            self.watch.acted(path, Some(model.fingerprint.clone()));
        }
        let target = plan.revision.clone();
        let revision = Revision {
            workload: Arc::new(plan.workload.clone()),
            folder: declared.folder.clone().into(),
        };
        let is_new = match &mut service.running {
            None => {
                let mut running = Running::new(plan, &declared, rollout::State::default());
                running.keys = keys;
                service.running = Some(running);
                true
            }
            Some(running) => {
                if running.plan.scaling != plan.scaling {
                    // The manifest has the last word again once it says something new.
                    running.scale = None;
                    let (min, max) = (plan.scaling.min, plan.scaling.max);
                    running.wanted = running.wanted.clamp(min.min(max), max);
                }
                running.keys = keys;
                running.plan = plan;
                running.manifest = declared.manifest.clone();
                running.stamp = declared.stamp.clone();
                let is_new = running.target != target;
                if is_new {
                    running.target = target.clone();
                    running.straight = straight;
                    running.example = None;
                    (running.example_asked, running.example_known) = (false, false);
                }
                is_new
            }
        };
        if let Some(running) = &mut service.running {
            running.revisions.insert(target.clone(), revision);
        }
        service.declared = declared.clone();
        if is_new {
            let record = RevisionRecord {
                service: name.clone(),
                name: target,
                number: 0,
                manifest: declared.manifest,
                model,
                folder: declared.folder,
                since_ms: unix_ms(SystemTime::now()),
            };
            self.writer.revision(record).await;
            self.prune().await;
        }
        self.steer(&name).await;
    }

    /// Removes copies of models and logs that no revision of the history needs.
    async fn prune(&mut self) {
        let kept = self.writer.kept().await;
        let state = self.shared.state.clone();
        self.errands.spawn_blocking(move || {
            if let Some(kept) = kept {
                copies::prune(&state, &kept);
            }
            Errand::Swept
        });
    }

    /// Watches a service's manifest and model from now on.
    pub(super) fn watch_files(&mut self, name: &str) {
        let Some(service) = self.services.get(name) else { return };
        let known = self.watch.paths();
        let files = [Some(service.declared.origin.path()), service.model_file()];
        for path in files.into_iter().flatten() {
            if !known.iter().any(|known| known == path) {
                let is_manifest = service.declared.origin.path() == path;
                let stamp = service.declared.stamp.clone().filter(|_| is_manifest);
                self.watch.acted(path, stamp.or_else(|| fingerprint(path).ok()));
            }
        }
    }

    /// Files and folders have been looked at: what changed is read again.
    pub(super) fn on_looked(&mut self, looked: Looked) {
        if self.stopping {
            return;
        }
        for (folder, members) in looked.folders {
            let Some(change) = self.folders.look(&folder, members) else { continue };
            self.errands.spawn_blocking(move || {
                let result = resolve_folder(&folder);
                Errand::FolderResolved { folder, change, result }
            });
        }
        for (path, is_there) in self.watch.look(looked.files) {
            // What goes from a folder is taken down with it.
            if !is_there && self.folders.have(&path) {
                continue;
            }
            let concerned: Vec<(bool, Declared)> = self
                .services
                .values()
                .filter(|service| !service.leaving && service.is_watched_at(&path))
                .map(|service| {
                    let is_manifest = matches!(service.declared.origin, Origin::Manifest { .. });
                    let by_manifest = is_manifest && service.declared.origin.path() == path;
                    (by_manifest, service.declared.clone())
                })
                .collect();
            if concerned.iter().any(|(by_manifest, _)| *by_manifest) {
                self.resolve(vec![path], false, None);
                continue;
            }
            for (_, declared) in concerned {
                self.declare(declared, false);
            }
        }
    }

    /// Goes back to the revision before, or to the one named. The answer is for people.
    pub(super) async fn roll_back(
        &mut self,
        name: &str,
        to: Option<&str>,
    ) -> Result<String, String> {
        let Some(running) = self.running(name) else {
            return Err(format!("`{name}` does not run"));
        };
        let target = running.target.clone();
        let revisions = self.writer.revisions(name).await;
        let found = revisions.iter().find(|revision| match to {
            Some(to) => revision.name.as_str() == to,
            None => revision.name != target,
        });
        let Some(record) = found else {
            let known: Vec<String> =
                revisions.iter().map(|revision| format!("`{}`", revision.name)).collect();
            return Err(match to {
                Some(to) => format!("`{name}` has no revision `{to}`; it has {}", known.join(", ")),
                None => format!("`{name}` has no revision before `{target}`"),
            });
        };
        if record.name == target {
            return Err(format!("`{name}` is at `{target}` already"));
        }
        let prepared = self.prepare_again(name, record)?;
        let message = format!("`{name}` goes from `{target}` back to `{}`", record.name);
        self.note(Severity::Normal, Some(name), record.name.as_str(), "Rollback", &message).await;
        self.install(prepared, true).await;
        Ok(message)
    }

    /// A revision of the history, if its model is still what it was.
    fn prepare_again(&self, name: &str, record: &RevisionRecord) -> Result<Prepared, String> {
        let Some(service) = self.services.get(name) else {
            return Err(format!("`{name}` does not run"));
        };
        let path = record.model.path.display();
        let is_in_place = !record.model.path.starts_with(self.shared.state.models());
        if is_in_place && record.model.fingerprint.starts_with("stat:") {
            let now = fingerprint(&record.model.path).map_err(|error| {
                format!("the model `{path}` of `{}` cannot be read: {error}", record.name)
            })?;
            if now != record.model.fingerprint {
                return Err(format!(
                    "the model `{path}` has changed since `{}`, so that revision cannot come back; put the model's old file back, and run `up` again",
                    record.name
                ));
            }
        } else if !record.model.path.exists() {
            return Err(format!("the model `{path}` of `{}` is not there any more", record.name));
        }
        // The file is as it was acted upon; only what it declares does not hold for now.
        let Some(Running { manifest, stamp, .. }) = &service.running else {
            return Err(format!("`{name}` does not run"));
        };
        let origin = &service.declared.origin;
        let declared = declared(record, Some(manifest), origin, stamp.clone());
        let secrets = self.shared.secrets.read().unwrap_or_else(PoisonError::into_inner).clone();
        prepare::again(declared, record.model.clone(), &secrets).map_err(|error| error.to_string())
    }
}

/// An error with its causes.
fn in_full(error: &TargetError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        // A transparent error repeats its source.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
