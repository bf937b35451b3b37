//! What an agent tells its back end, by a file: how far the program is, and how it ended.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::course::Cause;
use super::notice::Notice;

/// The whole of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub attempt: u32,
    /// Where metrics are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// None before the program has shown progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// The newest checkpoint that is durable; none without a store, or before there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<Saved>,
    /// What the next attempt goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// The cloud is about to take the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// None while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How far a program is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Over the last minute, or the last 64 reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_per_second: Option<f64>,
    /// The share of the time since the job's first start in which steps were done that are not
    /// done again, from 0 to 1. None where steps are not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodput: Option<f64>,
    /// When progress was seen last, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// A checkpoint in the store, every byte of which is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    pub name: String,
    /// The step that its name tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Those that this agent has made durable.
    pub count: u64,
    pub uploaded_bytes: u64,
    /// Of what this agent has restored, by where it came from.
    #[serde(default)]
    pub from_store_bytes: u64,
    #[serde(default)]
    pub from_peers_bytes: u64,
    /// Attempts to upload, to prune or to look that failed.
    pub failures: u64,
    /// What failed last, for people; none after it went well again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What goodput is computed from, over all attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The first start of the job, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Time in which new steps were done.
    pub productive_ms: i64,
    pub best_step: Option<u64>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    pub cause: Cause,
    /// The process that failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// For people.
    pub message: String,
    /// What that process had printed last, oldest first.
    pub last_lines: Vec<String>,
    /// The cloud had said by then that it takes the machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub machine_leaves: bool,
}

impl Report {
    /// Reads a report; none if there is none that can be understood. Blocks.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes it in place of the one before, so that who reads sees one or the other. Blocks.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut staged = path.as_os_str().to_owned();
        staged.push(".new");
        fs::write(&staged, serde_json::to_vec(self).map_err(io::Error::other)?)?;
        fs::rename(&staged, path)
    }
}

#[test]
fn a_report_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    assert_eq!(Report::read(&path), None);
    let report = Report {
        attempt: 2,
        metrics: Some(SocketAddr::from(([127, 0, 0, 1], 4000))),
        seen: Some(Seen {
            step: Some(3),
            loss: Some(0.5),
            steps_per_second: None,
            goodput: Some(1.0),
            at_ms: 7,
        }),
        kept: Some(Kept { since_ms: 1, productive_ms: 2, best_step: Some(3) }),
        saved: None,
        notice: None,
        ended: Some(Ended {
            cause: Cause::Signalled(11),
            rank: Some(1),
            message: "signal 11".to_owned(),
            last_lines: vec!["boom".to_owned()],
            machine_leaves: true,
        }),
    };
    report.write(&path).unwrap();
    assert_eq!(Report::read(&path), Some(report));
    fs::write(&path, "{").unwrap();
    assert_eq!(Report::read(&path), None);
}
