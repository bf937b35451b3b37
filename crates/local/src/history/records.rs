//! What is kept of services, revisions and replicas.
//!
//! Each record is a JSON document beside the columns that it is looked up by: only the supervisor
//! that reads it knows its fields.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trainyard_api::ModelService;
use trainyard_api::queue::QueueSpec;
use trainyard_control::rollout;
use trainyard_plan::RevisionName;

use super::jobs::{self, JobRecord};
use crate::replica::Run;
use crate::target::{Members, Origin};

/// Revisions that a service can go back to.
pub(super) const KEPT_REVISIONS: u32 = 10;

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRecord {
    pub name: String,
    /// Whether it should run: false once it was taken down.
    pub active: bool,
    /// Where it comes from, to be read again when that changes.
    pub origin: Origin,
    /// The revision that it should be at.
    pub target: RevisionName,
    /// Replicas that were wanted last.
    pub wanted: u32,
    /// A person's limits in place of the manifest's.
    pub scale: Option<Override>,
    /// Where a rollout stands.
    pub rollout: rollout::State,
    /// What was last wrong with it, for people.
    pub last_error: Option<String>,
    /// The manifest that holds: of the revision it should be at, with the policies as they are now.
    /// None in what older programs wrote.
    #[serde(default)]
    pub manifest: Option<ModelService>,
    /// The manifest file's fingerprint when it was last acted upon.
    #[serde(default)]
    pub stamp: Option<String>,
    /// A person went to this revision, so that what the file declares is not to be prepared again.
    #[serde(default)]
    pub straight: bool,
}

/// Limits of the replica count, in place of the manifest's until the manifest changes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub min: u32,
    pub max: u32,
}

/// One revision: all that its plan is compiled from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionRecord {
    pub service: String,
    pub name: RevisionName,
    /// Grows each time a revision becomes the target; going back makes an old one the newest. Given
    /// when it is saved.
    #[serde(skip)]
    pub number: i64,
    /// The manifest, its model's place made absolute.
    pub manifest: ModelService,
    pub model: Model,
    /// Where its command runs.
    pub folder: PathBuf,
    /// Milliseconds since the Unix epoch.
    pub since_ms: i64,
}

impl RevisionRecord {
    /// What makes the revision, with the policies of another manifest of its service.
    ///
    /// A revision may be older than its service's API keys: whoever goes back to it wants its model
    /// and its command, not to open the service.
    pub(crate) fn under(&self, policies: &ModelService) -> ModelService {
        let mut manifest = self.manifest.clone();
        manifest.spec.scaling = policies.spec.scaling.clone();
        manifest.spec.rollout = policies.spec.rollout.clone();
        manifest.spec.access = policies.spec.access.clone();
        manifest
    }
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub path: PathBuf,
    /// Differs when the content does.
    pub fingerprint: String,
}

/// A replica's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaRecord {
    pub id: String,
    pub service: String,
    pub revision: RevisionName,
    pub(crate) run: Run,
}

impl ReplicaRecord {
    pub fn pid(&self) -> i32 {
        self.run.identity.pid
    }

    /// Whether that very process still runs.
    pub fn is_alive(&self) -> bool {
        self.run.identity.is_alive()
    }
}

/// All that a new supervisor takes over.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Saved {
    /// A supervisor has used the folder before.
    pub(crate) existed: bool,
    /// Marks the processes of this state folder; made once.
    pub(crate) marker: String,
    /// No run has a higher number.
    pub(crate) runs: u64,
    /// Services that should run.
    pub(crate) services: Vec<ServiceRecord>,
    /// Their revisions, newest first.
    pub(crate) revisions: Vec<RevisionRecord>,
    pub(crate) replicas: Vec<ReplicaRecord>,
    /// The newest run of each job.
    pub(crate) jobs: Vec<JobRecord>,
    /// Folders whose content is watched, with what they had when that was acted upon.
    pub(crate) folders: BTreeMap<PathBuf, Members>,
    /// Queues that were declared, by name.
    pub(crate) queues: BTreeMap<String, QueueRecord>,
}

/// A queue as it was declared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueueRecord {
    pub(crate) spec: QueueSpec,
    /// The manifest's file.
    pub(crate) path: PathBuf,
}

/// What the revisions of the history need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Kept {
    pub(crate) revisions: BTreeSet<String>,
    /// Where their models lie.
    pub(crate) models: BTreeSet<PathBuf>,
}

pub(super) fn kept(connection: &Connection) -> rusqlite::Result<Kept> {
    let mut select = connection.prepare_cached("SELECT record FROM revisions")?;
    let mut kept = Kept::default();
    for revision in select.query_map(params![], record::<RevisionRecord>)? {
        let revision = revision?;
        kept.revisions.insert(revision.name.to_string());
        kept.models.insert(revision.model.path);
    }
    // A job's logs are called by its run, as a service's by their revision.
    for job in jobs::jobs(connection)? {
        kept.revisions.insert(format!("{}-{}", job.name, job.run));
    }
    Ok(kept)
}

/// Reads what a new supervisor needs, and gives a new history its marker.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Saved> {
    // Random and stored: two histories never share it. SQLite's generator is seeded by the system.
    let made = connection.execute(
        "INSERT OR IGNORE INTO meta VALUES ('marker', lower(hex(randomblob(8))))",
        params![],
    )?;
    let marker = meta(connection, "marker")?.unwrap_or_default();
    let runs = meta(connection, "runs")?.and_then(|runs| runs.parse().ok()).unwrap_or(0);
    let mut services = services(connection)?;
    services.retain(|service| service.active);
    let mut revisions = Vec::new();
    for service in &services {
        revisions.extend(self::revisions(connection, &service.name)?);
    }
    let existed = made == 0;
    let replicas = replicas(connection)?;
    let jobs = jobs::newest(jobs::jobs(connection)?);
    // They are looked at anew at the next `up` of them, should they not be understood.
    let folders = meta(connection, "folders")?.and_then(|text| serde_json::from_str(&text).ok());
    let folders = folders.unwrap_or_default();
    // What cannot be read comes back with the next `up` of its manifest.
    let queues = meta(connection, "queues")?.and_then(|text| serde_json::from_str(&text).ok());
    let queues = queues.unwrap_or_default();
    Ok(Saved { existed, marker, runs, services, revisions, replicas, jobs, folders, queues })
}

fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    let select = "SELECT value FROM meta WHERE key = ?1";
    connection.query_row(select, params![key], |row| row.get(0)).optional()
}

pub(super) fn services(connection: &Connection) -> rusqlite::Result<Vec<ServiceRecord>> {
    let mut select = connection.prepare_cached("SELECT record FROM services ORDER BY name")?;
    select.query_map(params![], record)?.collect()
}

pub(super) fn revisions(
    connection: &Connection,
    service: &str,
) -> rusqlite::Result<Vec<RevisionRecord>> {
    let mut select = connection.prepare_cached(
        "SELECT record, number FROM revisions WHERE service = ?1 ORDER BY number DESC",
    )?;
    let numbered = |row: &Row<'_>| Ok(RevisionRecord { number: row.get(1)?, ..record(row)? });
    select.query_map(params![service], numbered)?.collect()
}

pub(super) fn replicas(connection: &Connection) -> rusqlite::Result<Vec<ReplicaRecord>> {
    let mut select = connection.prepare_cached("SELECT record FROM replicas ORDER BY id")?;
    select.query_map(params![], record)?.collect()
}

/// The JSON document in the first column.
pub(super) fn record<T: DeserializeOwned>(row: &Row<'_>) -> rusqlite::Result<T> {
    let text: String = row.get(0)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

pub(super) fn json(record: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(record)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

pub(super) fn save_service(
    connection: &Connection,
    service: &ServiceRecord,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO services VALUES (?1, ?2, ?3)")?
        .execute(params![service.name, service.active, json(service)?])?;
    Ok(())
}

/// Saves a revision as its service's newest, and forgets the oldest beyond those that are kept.
pub(super) fn save_revision(
    connection: &Connection,
    revision: &RevisionRecord,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO revisions VALUES (?1, ?2,
             1 + (SELECT coalesce(max(number), 0) FROM revisions WHERE service = ?1), ?3)",
        )?
        .execute(params![revision.service, revision.name.as_str(), json(revision)?])?;
    connection
        .prepare_cached(
            "DELETE FROM revisions WHERE service = ?1 AND name NOT IN
             (SELECT name FROM revisions WHERE service = ?1 ORDER BY number DESC LIMIT ?2)",
        )?
        .execute(params![revision.service, KEPT_REVISIONS])?;
    Ok(())
}

/// Saves a replica's process, and that its run's number was used.
pub(super) fn save_replica(
    connection: &Connection,
    replica: &ReplicaRecord,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO replicas VALUES (?1, ?2, ?3)")?
        .execute(params![replica.id, replica.service, json(replica)?])?;
    save_run_number(connection, replica.run.number)
}

/// Saves that a run's number was used.
pub(super) fn save_run_number(connection: &Connection, number: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO meta VALUES ('runs', ?1) ON CONFLICT (key) DO UPDATE
             SET value = max(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER))",
        )?
        .execute(params![number.to_string()])?;
    Ok(())
}

pub(super) fn save_folders(
    connection: &Connection,
    folders: &BTreeMap<PathBuf, Members>,
) -> rusqlite::Result<()> {
    // A name that is no text has no place in JSON; such a folder is watched until the supervisor ends.
    let text: BTreeMap<&str, BTreeMap<&str, &str>> = folders
        .iter()
        .filter_map(|(folder, members)| {
            let members =
                members.iter().map(|(path, stamp)| Some((path.to_str()?, stamp.as_str())));
            Some((folder.to_str()?, members.collect::<Option<_>>()?))
        })
        .collect();
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('folders', ?1)")?
        .execute(params![json(&text)?])?;
    Ok(())
}

pub(super) fn save_queues(
    connection: &Connection,
    queues: &BTreeMap<String, QueueRecord>,
) -> rusqlite::Result<()> {
    // A path that is no text has no place in JSON, and its queue holds until the supervisor ends.
    let text: BTreeMap<&String, &QueueRecord> =
        queues.iter().filter(|(_, queue)| queue.path.to_str().is_some()).collect();
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('queues', ?1)")?
        .execute(params![json(&text)?])?;
    Ok(())
}

pub(super) fn forget_replica(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM replicas WHERE id = ?1")?.execute(params![id])?;
    Ok(())
}
