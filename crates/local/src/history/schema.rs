//! The layout of the database.

use std::path::Path;

use rusqlite::Connection;

use super::{BUSY, HistoryError};

/// In `PRAGMA user_version`. A change of the layout is a step in [`open`].
pub(super) const VERSION: i64 = 2;

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE services (
    name TEXT PRIMARY KEY,
    active INTEGER NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE revisions (
    service TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (service, name)
) WITHOUT ROWID;
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    severity TEXT NOT NULL,
    service TEXT,
    object TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX events_by_object ON events (object, reason);
";

/// What version 2 has beyond version 1.
const JOBS: &str = "
CREATE TABLE jobs (
    name TEXT NOT NULL,
    run INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (name, run)
) WITHOUT ROWID;
";

pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Opens the database for the one who writes, and makes it if there is none.
pub(super) fn open(path: &Path) -> Result<Connection, HistoryError> {
    let failed = |source| HistoryError::Open { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY)?;
    // With a write-ahead log readers do not wait, and a process that is killed loses nothing that
    // was committed; only a power cut may lose the last moments, which no replica survives either.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    match version(&connection)? {
        before @ (0 | 1) => {
            let transaction = connection.transaction()?;
            if before == 0 {
                transaction.execute_batch(TABLES)?;
            }
            transaction.execute_batch(JOBS)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        VERSION => {}
        found => return Err(HistoryError::Newer { path: path.to_owned(), found }),
    }
    Ok(connection)
}
