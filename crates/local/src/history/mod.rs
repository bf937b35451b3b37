//! What outlives a supervisor, in SQLite: services, their revisions, replicas, jobs, events.
//!
//! One thread writes, in the order in which it is told; readers open the file by themselves. A
//! supervisor that is killed loses at most what it had not handed over.

mod events;
mod jobs;
mod records;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags};

pub use events::{Event, EventQuery, Severity};
pub(crate) use jobs::KEPT_ATTEMPTS;
pub use jobs::{AttemptRecord, JobRecord, WorkerRecord};
pub(crate) use records::{Kept, QueueRecord, Saved};
pub use records::{Model, Override, ReplicaRecord, RevisionRecord, ServiceRecord};
pub(crate) use writer::Writer;

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("cannot open the history `{path}`")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error(
        "the history `{path}` was written by a newer Trainyard (version {found} of its layout); use that, or another --state-dir"
    )]
    Newer { path: PathBuf, found: i64 },
    #[error("the history cannot be read or written")]
    Sql(#[from] rusqlite::Error),
}

/// A reader, for commands that look at what is or was.
#[derive(Debug)]
pub struct History {
    connection: Connection,
}

impl History {
    /// Opens an existing history. `None` if there is none.
    pub fn open(path: &Path) -> Result<Option<Self>, HistoryError> {
        if !path.exists() {
            return Ok(None);
        }
        let failed = |source| HistoryError::Open { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        // A file that is being made has no layout yet, and nothing to tell.
        match schema::version(&connection)? {
            0 => Ok(None),
            // What an older program wrote is brought up to date by the next supervisor.
            1..=schema::VERSION => Ok(Some(Self { connection })),
            found => Err(HistoryError::Newer { path: path.to_owned(), found }),
        }
    }

    /// Every service that was ever up, by name.
    pub fn services(&self) -> Result<Vec<ServiceRecord>, HistoryError> {
        Ok(records::services(&self.connection)?)
    }

    /// Every replica that was not seen to end.
    pub fn replicas(&self) -> Result<Vec<ReplicaRecord>, HistoryError> {
        Ok(records::replicas(&self.connection)?)
    }

    /// The revisions of a service, newest first.
    pub fn revisions(&self, service: &str) -> Result<Vec<RevisionRecord>, HistoryError> {
        Ok(records::revisions(&self.connection, service)?)
    }

    /// The newest run of each job, by name.
    pub fn newest_jobs(&self) -> Result<Vec<JobRecord>, HistoryError> {
        Ok(jobs::newest(self.jobs()?))
    }

    /// Every run of every job that is kept: by name, the newest first.
    pub fn jobs(&self) -> Result<Vec<JobRecord>, HistoryError> {
        match schema::version(&self.connection)? {
            1 => Ok(Vec::new()),
            _ => Ok(jobs::jobs(&self.connection)?),
        }
    }

    /// Events that match, oldest first.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<Event>, HistoryError> {
        Ok(events::read(&self.connection, query)?)
    }
}

/// How long a reader or writer waits for the other.
const BUSY: Duration = Duration::from_secs(5);

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
