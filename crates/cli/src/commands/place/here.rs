//! Services of this machine, as the resources that a cluster would have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use miette::{IntoDiagnostic, Report, miette};
use serde_json::{Value, json};
use trainyard_api::nearest;
use trainyard_local::history::{EventQuery, History, JobRecord, Severity};
use trainyard_local::socket::{Client, ClientError, Request};
use trainyard_local::status::{JobStatus, QueueStatus, ReplicaPhase, ServiceStatus, Status};
use trainyard_local::supervisor::as_recorded;
use trainyard_operator::console::{
    Happened, JobStore, Kept, Key, Kind, Replica, ReplicaState, Selection, is_of_a_store, key,
    time_text,
};

use crate::commands::fetching::words;
use crate::commands::jobs;
use crate::commands::supervisor::{State, explain};

/// The supervisor of a state folder, running or not.
pub(crate) struct Here {
    pub(crate) state: State,
}

impl Here {
    pub(super) fn new(state: State) -> Self {
        Self { state }
    }

    async fn status(&self) -> miette::Result<Status> {
        self.state.status().await?.ok_or_else(|| self.nobody())
    }

    /// An error unless a supervisor runs.
    pub(crate) async fn check_running(&self) -> miette::Result<()> {
        self.status().await.map(drop)
    }

    /// That no supervisor runs.
    fn nobody(&self) -> Report {
        explain(ClientError::NotRunning { state: self.state.folder().to_owned() })
    }

    /// All jobs, as the supervisor tells of them, or as the last one has left them.
    async fn all_jobs(&self) -> miette::Result<Vec<JobStatus>> {
        if let Some(status) = self.state.status().await? {
            return Ok(status.jobs);
        }
        self.recorded_jobs()
    }

    /// The newest run of each job, as the last supervisor has left it.
    fn recorded_jobs(&self) -> miette::Result<Vec<JobStatus>> {
        let listed = self.listed_jobs()?.ok_or_else(|| self.nobody())?;
        Ok(listed.iter().map(as_recorded).collect())
    }

    /// The newest run of each job that is still on the list; none without a history.
    fn listed_jobs(&self) -> miette::Result<Option<Vec<JobRecord>>> {
        let Some(history) = self.history()? else { return Ok(None) };
        let mut jobs = history.newest_jobs().into_diagnostic()?;
        jobs.retain(|job| !job.forgotten);
        Ok(Some(jobs))
    }

    /// All runs of all jobs: by name, the newest first.
    fn job_records(&self) -> miette::Result<Vec<JobRecord>> {
        let Some(history) = self.history()? else { return Ok(Vec::new()) };
        history.jobs().into_diagnostic()
    }

    fn history(&self) -> miette::Result<Option<History>> {
        History::open(&self.state.open()?.database()).into_diagnostic()
    }

    pub(super) async fn services(&self, selection: &Selection) -> miette::Result<Vec<Value>> {
        check(selection)?;
        let status = match self.state.status().await? {
            Some(status) => status,
            // None of them is there; of jobs the history tells.
            None if selection.names.is_empty() && self.history()?.is_some() => {
                return Ok(Vec::new());
            }
            None => return Err(self.nobody()),
        };
        let known: Vec<&str> = status.services.iter().map(|it| it.name.as_str()).collect();
        for name in &selection.names {
            if !known.contains(&name.as_str()) {
                if status.jobs.iter().any(|job| job.name == *name) {
                    return Err(miette!(
                        help = format!(
                            "`trainyard status` shows it, `trainyard logs {name}` what it prints, `trainyard events {name}` what happened"
                        ),
                        "`{name}` is a training job, and this is for services"
                    ));
                }
                return Err(not_found(Kind::ModelService, name, &known));
            }
        }
        let all = resources(&status, &self.records()?).into_values();
        let is_meant = |service: &Value| {
            selection.names.is_empty() || selection.names.contains(&key(service).1)
        };
        Ok(all.filter(is_meant).collect())
    }

    /// The jobs that are meant, with those that are over.
    pub(super) async fn jobs(&self, selection: &Selection) -> miette::Result<Vec<Value>> {
        let records = self.job_records()?;
        let spec_of = |name: &str, run: u32| {
            let record = records.iter().find(|it| it.name == name && it.run == run)?;
            serde_json::to_value(&record.manifest.spec).ok()
        };
        let is_meant = |name: &String| selection.names.is_empty() || selection.names.contains(name);
        let all = self.all_jobs().await?;
        let jobs = all.iter().filter(|job| is_meant(&job.name));
        Ok(jobs.map(|job| jobs::resource(job, spec_of(&job.name, job.run))).collect())
    }

    /// The newest run of a job, by which its logs are called; none for what is no job.
    pub(crate) fn newest_run(&self, name: &str) -> miette::Result<Option<u32>> {
        Ok(self.job_records()?.iter().find(|job| job.name == name).map(|job| job.run))
    }

    /// Where the newest run of a job keeps its checkpoints, with the folder that paths are below; none
    /// if it has no store.
    pub(crate) fn store(&self, name: &str) -> miette::Result<Option<(PathBuf, JobStore)>> {
        let jobs = self.job_records()?;
        let Some(job) = jobs.iter().find(|job| job.name == name) else {
            let known: BTreeSet<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
            let known: Vec<&str> = known.into_iter().collect();
            return Err(not_found(Kind::TrainingJob, name, &known));
        };
        let spec = &job.manifest.spec;
        let Some(uri) = spec.checkpoint.as_ref().and_then(|it| it.uri.clone()) else {
            return Ok(None);
        };
        let env = spec.env.iter().flatten();
        let variables = env.filter_map(|it| Some((it.name.clone(), it.value.clone()?)));
        let variables = variables.filter(|(name, _)| is_of_a_store(name)).collect();
        Ok(Some((job.folder.clone(), JobStore { uri, variables })))
    }

    /// That a service or a job is known, running or not.
    pub(crate) fn find(&self, name: &str) -> miette::Result<()> {
        let records = self.records()?;
        if self.newest_run(name)?.is_some()
            || records.contains_key(name)
            || self.state.open()?.logs(name).exists()
        {
            return Ok(());
        }
        let jobs = self.listed_jobs()?.unwrap_or_default();
        let jobs = jobs.iter().map(|job| job.name.as_str());
        let known: Vec<&str> = records.keys().map(String::as_str).chain(jobs).collect();
        Err(not_found(Kind::ModelService, name, &known))
    }

    /// The queues that jobs of this machine wait in.
    pub(crate) async fn queues(&self) -> miette::Result<Vec<QueueStatus>> {
        Ok(self.status().await?.queues)
    }

    /// The workers of jobs.
    pub(super) async fn workers(&self, job: Option<&str>) -> miette::Result<Vec<Replica>> {
        let all = self.all_jobs().await?;
        let jobs = all.iter().filter(|it| job.is_none_or(|name| it.name == name));
        Ok(jobs.flat_map(jobs::workers).collect())
    }

    pub(super) async fn watch(&self, kind: Kind, selection: &Selection) -> miette::Result<Watch> {
        check(selection)?;
        let socket = self.state.open()?.socket();
        let client = match Client::send(&socket, &Request::Watch).await {
            Ok(client) => Some(client),
            // A supervisor ends with its jobs, maybe before it is asked how they ended.
            Err(ClientError::NotRunning { .. })
                if kind == Kind::TrainingJob && self.history()?.is_some() =>
            {
                None
            }
            Err(error) => return Err(explain(error)),
        };
        Ok(Watch {
            client,
            left_in: Some(self.state.clone()),
            kind,
            names: selection.names.clone(),
            records: self.records()?,
            services: BTreeMap::new(),
        })
    }

    pub(super) async fn replicas(&self, service: Option<&str>) -> miette::Result<Vec<Replica>> {
        let status = self.status().await?;
        let services =
            status.services.iter().filter(|it| service.is_none_or(|name| it.name == name));
        Ok(services.flat_map(replicas).collect())
    }

    pub(super) fn revisions(&self, service: &str) -> miette::Result<Vec<Kept>> {
        let Some(history) = self.history()? else { return Ok(Vec::new()) };
        let revisions = history.revisions(service).into_diagnostic()?;
        let kept = revisions.into_iter().map(|revision| Kept {
            name: revision.name.to_string(),
            number: revision.number,
            since_ms: Some(revision.since_ms),
            model: revision.manifest.spec.model.uri.to_string(),
        });
        Ok(kept.collect())
    }

    pub(crate) fn events(
        &self,
        service: Option<&str>,
        after_ms: Option<i64>,
    ) -> miette::Result<Vec<Happened>> {
        let history =
            self.history()?.ok_or_else(|| miette!("nothing ever ran with this state folder"))?;
        let query = EventQuery { service: service.map(str::to_owned), after_ms, limit: None };
        let events = history.events(&query).into_diagnostic()?.into_iter();
        Ok(events
            .map(|event| Happened {
                namespace: String::new(),
                service: event.service.unwrap_or_default(),
                object: event.object,
                is_warning: event.severity == Severity::Warning,
                reason: event.reason,
                message: event.message,
                first_ms: event.first_ms,
                last_ms: event.last_ms,
                count: event.count,
            })
            .collect())
    }

    fn records(&self) -> miette::Result<Records> {
        let Some(history) = self.history()? else { return Ok(Records::new()) };
        let mut records = Records::new();
        for service in history.services().into_diagnostic()? {
            let revisions = history.revisions(&service.name).into_diagnostic()?;
            let created_ms = revisions.iter().map(|revision| revision.since_ms).min();
            let manifest = service.manifest.or_else(|| {
                let target = revisions.into_iter().find(|it| it.name == service.target);
                target.map(|revision| revision.manifest)
            });
            let manifest = manifest.and_then(|manifest| serde_json::to_value(manifest).ok());
            records.insert(service.name, Record { manifest, created_ms });
        }
        Ok(records)
    }
}

/// What the history knows of a service.
struct Record {
    manifest: Option<Value>,
    created_ms: Option<i64>,
}

type Records = BTreeMap<String, Record>;

/// Services, again at each change.
pub(crate) struct Watch {
    /// None where no supervisor runs.
    client: Option<Client>,
    /// Where jobs are that are not told of yet as the supervisor has left them.
    left_in: Option<State>,
    kind: Kind,
    names: Vec<String>,
    records: Records,
    services: BTreeMap<Key, Value>,
}

impl Watch {
    pub(super) async fn next(&mut self) -> miette::Result<&BTreeMap<Key, Value>> {
        let status = match &mut self.client {
            Some(client) => client.next_status().await.map_err(explain)?,
            None => None,
        };
        let of_jobs = |jobs: &[JobStatus]| {
            let jobs = jobs.iter().map(|job| jobs::resource(job, None));
            jobs.map(|job| (key(&job), job)).collect()
        };
        let ended = || miette!("the supervisor has ended");
        self.services = match (status, self.kind) {
            (Some(status), Kind::ModelService) => resources(&status, &self.records),
            (Some(status), Kind::TrainingJob) => of_jobs(&status.jobs),
            (None, Kind::ModelService) => return Err(ended()),
            (None, Kind::TrainingJob) => {
                of_jobs(&Here::new(self.left_in.take().ok_or_else(ended)?).recorded_jobs()?)
            }
        };
        if !self.names.is_empty() {
            self.services.retain(|key, _| self.names.contains(&key.1));
        }
        Ok(&self.services)
    }
}

fn check(selection: &Selection) -> miette::Result<()> {
    match &selection.labels {
        Some(_) => {
            Err(miette!("--selector is for clusters: on one machine services have no labels"))
        }
        None => Ok(()),
    }
}

fn not_found(kind: Kind, name: &str, known: &[&str]) -> Report {
    let resource = kind.full_name();
    let message = format!("NotFound: {resource} \"{name}\" not found on this machine");
    match nearest(name, known.iter().copied()) {
        Some(near) => miette!(help = format!("did you mean `{near}`?"), "{message}"),
        None if known.is_empty() => miette!("{message}"),
        None => miette!(help = format!("there are: {}", known.join(", ")), "{message}"),
    }
}

fn resources(status: &Status, records: &Records) -> BTreeMap<Key, Value> {
    let url = format!("http://{}", status.address);
    let services = status.services.iter().map(|service| {
        let resource = resource(service, records.get(&service.name), &url);
        (key(&resource), resource)
    });
    services.collect()
}

/// A service as a `ModelService` with the status that an operator would write.
fn resource(service: &ServiceStatus, record: Option<&Record>, url: &str) -> Value {
    let manifest = record.and_then(|record| record.manifest.as_ref());
    let mut metadata = json!({"name": service.name});
    let annotations = manifest.map(|manifest| &manifest["metadata"]["annotations"]);
    if let Some(annotations) = annotations.filter(|annotations| annotations.is_object()) {
        metadata["annotations"] = annotations.clone();
    }
    if let Some(created) = record.and_then(|record| record.created_ms).and_then(time_text) {
        metadata["creationTimestamp"] = json!(created);
    }
    let serving = service.revisions.iter().max_by_key(|it| (it.weight, it.ready));
    let revisions: Vec<Value> = service
        .revisions
        .iter()
        .map(|it| {
            json!({
                "name": it.name, "traffic": it.weight, "replicas": it.replicas,
                "readyReplicas": it.ready,
            })
        })
        .collect();
    json!({
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService", "metadata": metadata,
        "spec": manifest.map_or_else(|| json!({}), |manifest| manifest["spec"].clone()),
        "status": {
            "conditions": conditions(service),
            "url": url,
            "revision": serving.filter(|it| it.ready > 0).map(|it| &it.name),
            "replicas": service.revisions.iter().map(|it| it.replicas).sum::<u32>(),
            "readyReplicas": service.ready,
            "revisions": revisions,
        },
    })
}

/// The four conditions of a service, as `docs/operator.md` has them.
fn conditions(service: &ServiceStatus) -> Value {
    let has_failed = service.has_failed();
    let serves = service.ready > 0;
    let fetch = service.fetch.as_ref().map(words);
    let message = fetch.or_else(|| service.last_error.clone()).unwrap_or_else(|| {
        format!("{} of {} replicas answer requests", service.ready, service.wanted)
    });
    let is_changing = service.preparing
        || service.fetch.is_some()
        || matches!(service.phase.as_str(), "Progressing" | "Paused")
        || service.phase == "Stable" && !service.is_settled();
    let condition = |kind: &str, holds: bool| {
        json!({
            "type": kind, "status": if holds { "True" } else { "False" },
            "reason": service.reason, "message": message,
        })
    };
    json!([
        condition("Ready", service.is_settled()),
        condition("Progressing", is_changing && !has_failed),
        condition("Degraded", has_failed && serves),
        condition("Stalled", has_failed),
    ])
}

fn replicas(service: &ServiceStatus) -> Vec<Replica> {
    let replicas = service.replicas.iter().map(|replica| Replica {
        namespace: String::new(),
        service: service.name.clone(),
        name: replica.id.clone(),
        revision: replica.revision.clone(),
        state: match replica.phase {
            ReplicaPhase::Starting => ReplicaState::Starting,
            ReplicaPhase::Ready => ReplicaState::Ready,
            ReplicaPhase::Draining => ReplicaState::Draining,
            ReplicaPhase::Failed => ReplicaState::Failed,
        },
        place: replica.pid.map(|pid| format!("pid {pid}")).unwrap_or_default(),
        address: replica.address.map(|address| address.to_string()),
        restarts: replica.restarts.into(),
        since_ms: replica.since_ms,
        trouble: replica.message.clone(),
    });
    replicas.collect()
}
