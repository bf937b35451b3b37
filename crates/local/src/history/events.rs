//! Events: what happened, to what, why, and how often.

use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

/// Events that are kept; older ones are forgotten.
const KEPT: u32 = 10_000;
/// The same event again within this time is counted, not added: half an hour keeps a crash loop at
/// its longest back-off (30 s) to one line.
const SAME_WITHIN_MS: i64 = 30 * 60 * 1000;

/// Whether somebody should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
        }
    }
}

impl FromStr for Severity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "normal" => Ok(Self::Normal),
            "warning" => Ok(Self::Warning),
            _ => Err(()),
        }
    }
}

/// Something that happened, once or more often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Grows with each new event; the same event again keeps it.
    pub id: i64,
    /// Milliseconds since the Unix epoch.
    pub first_ms: i64,
    pub last_ms: i64,
    pub count: i64,
    pub severity: Severity,
    /// The service that it belongs to; none for the supervisor's own.
    pub service: Option<String>,
    /// What it happened to: a replica, a revision, a service, a file.
    pub object: String,
    /// In one word, for machines.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Which events to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// Of this service only.
    pub service: Option<String>,
    /// Only those that happened, first or again, after this time in milliseconds since the epoch.
    pub after_ms: Option<i64>,
    /// The newest so many; all for `None`.
    pub limit: Option<u32>,
}

/// Adds an event, or counts it if it is the same as a recent one.
pub(super) fn add(connection: &Connection, event: &Event) -> rusqlite::Result<()> {
    let same: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM events WHERE object = ?1 AND reason = ?2 AND message = ?3
             AND last_ms >= ?4 ORDER BY id DESC LIMIT 1",
        )?
        .query_row(
            params![event.object, event.reason, event.message, event.first_ms - SAME_WITHIN_MS],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(id) = same {
        connection
            .prepare_cached("UPDATE events SET count = count + 1, last_ms = ?2 WHERE id = ?1")?
            .execute(params![id, event.last_ms])?;
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO events
             (first_ms, last_ms, count, severity, service, object, reason, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            event.first_ms,
            event.last_ms,
            event.count,
            event.severity.as_str(),
            event.service,
            event.object,
            event.reason,
            event.message
        ])?;
    connection
        .prepare_cached("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?1")?
        .execute(params![KEPT])?;
    Ok(())
}

pub(super) fn read(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Vec<Event>> {
    let mut select = connection.prepare_cached(
        "SELECT id, first_ms, last_ms, count, severity, service, object, reason, message
         FROM events WHERE (?1 IS NULL OR service = ?1) AND (?2 IS NULL OR last_ms > ?2)
         ORDER BY last_ms DESC, id DESC LIMIT ?3",
    )?;
    let limit = query.limit.map_or(-1, i64::from);
    let rows = select.query_map(params![query.service, query.after_ms, limit], |row| {
        let severity: String = row.get(4)?;
        Ok(Event {
            id: row.get(0)?,
            first_ms: row.get(1)?,
            last_ms: row.get(2)?,
            count: row.get(3)?,
            severity: severity.parse().unwrap_or(Severity::Warning),
            service: row.get(5)?,
            object: row.get(6)?,
            reason: row.get(7)?,
            message: row.get(8)?,
        })
    })?;
    let mut events: Vec<Event> = rows.collect::<rusqlite::Result<_>>()?;
    events.reverse();
    Ok(events)
}
