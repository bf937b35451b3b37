//! The messages.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::status::Status;

/// Changes when an older program could not understand a message.
pub const PROTOCOL: u32 = 1;

/// The first line of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    pub(super) version: String,
    pub(super) request: serde_json::Value,
}

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "ask")]
pub enum Request {
    /// What is.
    Status,
    /// What is, again at each change, until the connection ends.
    Watch,
    /// Run these targets, beside what runs, or in place of what they were before.
    Apply { targets: Vec<PathBuf> },
    /// End these services; all of them, and the supervisor, for an empty list.
    ///
    /// Jobs that are over are taken off the list; with `forget` so are those that run, once they
    /// have ended.
    Down {
        services: Vec<String>,
        hurry: bool,
        #[serde(default)]
        forget: bool,
    },
    /// Keep so many replicas.
    Scale { service: String, min: u32, max: u32 },
    /// Go back to the revision before, or to the one named.
    Rollback { service: String, to: Option<String> },
    /// Replace every replica by a new one of its revision.
    Restart { service: String },
    /// Hand everything over to a new supervisor that runs `exe`.
    Handover { exe: PathBuf },
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "answer")]
pub enum Reply {
    Status(Box<Status>),
    Applied(Applied),
    /// Done, or under way; what exactly, for people.
    Done {
        message: String,
    },
    /// Not done; why, for people.
    Failed {
        problems: Vec<String>,
    },
    /// The other side speaks another version of the protocol.
    Unfit {
        protocol: u32,
        version: String,
    },
}

/// What came of targets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// Every service of the targets.
    pub services: Vec<String>,
    /// Every job of the targets.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// What was left aside, and why.
    pub notes: Vec<String>,
}
