//! What was decided, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::amounts::Resource;

/// What one cycle decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Of each workload that was not admitted before.
    pub pending: BTreeMap<String, Decision>,
    /// Who is to make room.
    pub evictions: BTreeMap<String, Eviction>,
    /// Who is to make room by going on with fewer workers.
    pub shrinks: BTreeMap<String, Resize>,
    /// Who has fewer workers than it would have, and could have more in room that is of no use to
    /// anybody who waits. [`Growth`](crate::Growth) says when that is worth a start of all its workers.
    pub rooms: BTreeMap<String, Room>,
    /// What each queue uses after this cycle: what runs, what leaves and what was admitted now.
    pub used: BTreeMap<String, Used>,
}

/// Of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Admit(Assignment),
    Wait(Waiting),
}

/// What a workload is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    pub flavour: String,
    /// Workers.
    pub count: u32,
    /// With it its queue uses more than its own.
    pub borrows: bool,
}

/// Why a workload waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    pub reason: Wait,
    /// Who is before it in its queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// How many are before it.
    pub ahead: usize,
    /// When it starts as things stand; none if that depends on what nobody has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_start: Option<Duration>,
}

impl Waiting {
    /// Whether it says something else than before; that it says when, or how much, otherwise is none.
    pub fn is_news_after(&self, before: &Self) -> bool {
        before.reason.as_str() != self.reason.as_str() || before.behind != self.behind
    }

    /// For people: in which queue it waits, why, behind whom, and until when. `why` is the reason in
    /// words, `starts_by` the expected start as a date.
    pub fn sentence(&self, queue: &str, why: &str, starts_by: Option<String>) -> String {
        let mut text = format!("waits in the queue `{queue}`: {why}");
        if let Some(behind) = &self.behind {
            let number = self.ahead.saturating_add(1);
            text.push_str(&format!("; it is number {number} in line, behind `{behind}`"));
        }
        match starts_by {
            _ if self.reason.needs_a_person() => {}
            Some(start) => text.push_str(&format!("; as things stand it starts by {start}")),
            None => text.push_str("; when it starts depends on jobs without `spec.deadline`"),
        }
        text
    }
}

/// Why a workload cannot start now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Wait {
    NoSuchQueue {
        queue: String,
    },
    /// The queue has no quota of any flavour that will do.
    NoQuota {
        flavours: Vec<String>,
    },
    /// More than the queue can ever have, with all that it may borrow.
    ExceedsQuota {
        flavour: String,
        resource: Resource,
        asked: u64,
        most: u64,
    },
    /// Not enough is left now.
    QuotaUsed {
        flavour: String,
        resource: Resource,
        asked: u64,
        left: u64,
    },
    /// Others were told to make room for it.
    Preempting {
        victims: Vec<String>,
    },
    /// Its queue is strict, and the one before it waits.
    BehindHead {
        head: String,
    },
    /// It would delay one that goes before it.
    WouldDelay {
        head: String,
    },
}

impl Wait {
    /// In one word, for conditions and events.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoSuchQueue { .. } => "NoSuchQueue",
            Self::NoQuota { .. } => "NoQuota",
            Self::ExceedsQuota { .. } => "ExceedsQuota",
            Self::QuotaUsed { .. } => "QuotaUsed",
            Self::Preempting { .. } => "Preempting",
            Self::BehindHead { .. } => "BehindHead",
            Self::WouldDelay { .. } => "WouldDelay",
        }
    }

    /// Nothing but a changed manifest lets it start.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::NoSuchQueue { .. } | Self::NoQuota { .. } | Self::ExceedsQuota { .. })
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| {
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            quoted.join(", ")
        };
        match self {
            Self::NoSuchQueue { queue } => {
                write!(f, "there is no queue `{queue}`; apply one, or correct the name")
            }
            Self::NoQuota { flavours } => {
                write!(f, "the queue has no quota of the flavour {}", list(flavours))
            }
            Self::ExceedsQuota { flavour, resource, asked, most } => write!(
                f,
                "it asks for {} of {resource} of the flavour `{flavour}`, and the queue can have {} at most, with all that it may borrow",
                resource.show(*asked),
                resource.show(*most)
            ),
            Self::QuotaUsed { flavour, resource, asked, left } => write!(
                f,
                "it asks for {} of {resource} of the flavour `{flavour}`, and {} of the queue's quota is left",
                resource.show(*asked),
                resource.show(*left)
            ),
            Self::Preempting { victims } if victims.is_empty() => {
                f.write_str("those that were told to make room have not ended yet")
            }
            Self::Preempting { victims } => write!(f, "{} make room for it", list(victims)),
            Self::BehindHead { head } => {
                write!(f, "the queue keeps its order, and `{head}` is before it")
            }
            Self::WouldDelay { head } => {
                write!(f, "it would run on what `{head}` is to start with")
            }
        }
    }
}

/// Why a workload has to make room, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Eviction {
    pub for_whom: String,
    pub because: Because,
}

/// How many workers one could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub workers: u32,
    /// With them its queue uses more than its own.
    pub borrows: bool,
}

/// Another number of workers for one that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resize {
    pub from: u32,
    pub to: u32,
    /// Its queue then uses more than its own.
    pub borrows: bool,
    pub why: Why,
}

/// Why one gets another number of workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// There is room that nobody waits for.
    Room,
    MakesRoom(Eviction),
    /// Only so many found a node. No cycle decides it: quotas know nothing of nodes.
    NodesMissing,
}

impl Resize {
    pub fn is_growth(&self) -> bool {
        self.to > self.from
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = if self.to == 1 { "worker" } else { "workers" };
        write!(f, "from {} to {} {workers}", self.from, self.to)?;
        match &self.why {
            Why::Room => f.write_str(", since there is room that nobody waits for"),
            Why::MakesRoom(Eviction { for_whom, because }) => {
                write!(f, ", which makes room for `{for_whom}`: {}", because.message())
            }
            Why::NodesMissing => f.write_str(", since there was no node for the others"),
        }
    }
}

/// What gives the right to push out another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Because {
    /// The other goes first in the same queue.
    Priority,
    /// Another queue takes back its own.
    Reclaimed,
    /// Its queue has a larger share of what the cohort lends.
    FairShare,
    /// Another queue borrows for one of higher priority.
    BorrowedForPriority,
}

impl Because {
    /// For people.
    pub fn message(self) -> &'static str {
        match self {
            Self::Priority => "it goes first in this queue",
            Self::Reclaimed => "its queue takes back what it had lent",
            Self::FairShare => "this queue had more than its fair share",
            Self::BorrowedForPriority => "its priority is higher, and this queue had borrowed",
        }
    }
}

/// What a queue uses, by the order of its flavours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    pub flavours: Vec<FlavourUse>,
    /// Its largest part of what the cohort lends, in thousandths, by its weight.
    pub share: u64,
}

/// What it uses of one resource of one flavour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlavourUse {
    pub flavour: String,
    pub resource: Resource,
    pub used: u64,
    pub nominal: u64,
    /// Of what is used, beyond its own.
    pub borrowed: u64,
}
