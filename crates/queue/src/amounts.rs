//! What is rationed, and how much of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What quotas are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Resource {
    /// Thousandths of a core.
    Cpu,
    /// Bytes.
    Memory,
    /// Whole GPUs, or parts of one as their pool shares them.
    Gpu,
}

impl Resource {
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Gpu];

    /// An amount of it, as people write it.
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Cpu if amount.is_multiple_of(1000) => (amount / 1000).to_string(),
            Self::Cpu => format!("{amount}m"),
            Self::Memory => {
                let units = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
                let whole = |(unit, _): &&(u64, &str)| amount > 0 && amount.is_multiple_of(*unit);
                match units.iter().find(whole) {
                    Some((unit, name)) => format!("{}{name}", amount / unit),
                    None => amount.to_string(),
                }
            }
            Self::Gpu => amount.to_string(),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Gpu => "GPU",
        })
    }
}

/// An amount of each resource, in the unit of [`Resource`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    #[serde(default)]
    pub cpu: u64,
    #[serde(default)]
    pub memory: u64,
    #[serde(default)]
    pub gpu: u64,
}

impl Amounts {
    pub fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
            Resource::Gpu => self.gpu,
        }
    }

    /// So much for each of `count`.
    pub fn times(self, count: u32) -> Self {
        let times = |amount: u64| amount.saturating_mul(count.into());
        Self { cpu: times(self.cpu), memory: times(self.memory), gpu: times(self.gpu) }
    }
}

#[test]
fn amounts_are_shown_as_they_are_written() {
    let shown = [
        (Resource::Cpu, 1500, "1500m"),
        (Resource::Cpu, 4000, "4"),
        (Resource::Memory, 3 << 30, "3Gi"),
        (Resource::Memory, 1, "1"),
        (Resource::Memory, 0, "0"),
        (Resource::Gpu, 8, "8"),
    ];
    for (resource, amount, text) in shown {
        assert_eq!(resource.show(amount), text);
    }
}
