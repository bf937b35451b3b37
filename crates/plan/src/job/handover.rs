//! The other systems of a cluster that may say when a job's workers start.

use serde::{Deserialize, Serialize};
use trainyard_api::training_job::QueuedBy;

/// A system that queues gangs, or places them, beside Trainyard.
///
/// In the order in which they are asked where nobody says which: Kueue admits before anything is
/// scheduled, and works with any scheduler; the others are schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueSystem {
    Kueue,
    Kai,
    Volcano,
}

impl QueueSystem {
    pub const ALL: [Self; 3] = [Self::Kueue, Self::Kai, Self::Volcano];

    /// As its people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kueue => "Kueue",
            Self::Kai => "KAI",
            Self::Volcano => "Volcano",
        }
    }

    /// What it calls that which a job names.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kueue => "LocalQueue",
            Self::Kai | Self::Volcano => "Queue",
        }
    }

    /// Where its queues are defined.
    pub fn group(self) -> &'static str {
        match self {
            Self::Kueue => "kueue.x-k8s.io",
            Self::Kai => "scheduling.run.ai",
            Self::Volcano => "scheduling.volcano.sh",
        }
    }

    /// Its queue of that name, for people.
    pub fn queue(self, name: &str) -> String {
        format!("{}'s {} `{name}`", self.name(), self.kind())
    }

    /// The one that a job asks for; none for Trainyard itself.
    pub fn asked_for(by: QueuedBy) -> Option<Self> {
        match by {
            QueuedBy::Trainyard => None,
            QueuedBy::Kueue => Some(Self::Kueue),
            QueuedBy::Kai => Some(Self::Kai),
            QueuedBy::Volcano => Some(Self::Volcano),
        }
    }
}

/// To whom the gang is handed, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Handover {
    pub system: QueueSystem,
    pub queue: String,
    /// Kueue's WorkloadPriorityClass that the job's priority means there.
    pub priority_class: Option<String>,
    /// So many workers will do. Only Kueue can give fewer than all, and only to a job whose workers
    /// learn their number once it is known.
    pub min_workers: Option<u32>,
}

impl Handover {
    /// With nothing but the queue.
    pub fn new(system: QueueSystem, queue: String) -> Self {
        Self { system, queue, priority_class: None, min_workers: None }
    }
}
