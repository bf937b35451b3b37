//! The name of a revision: what changes a replica changes it, and nothing else does.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::workload::Workload;

/// A name such as `iris-7c9f0e12ab`, stable for equal workloads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionName(String);

impl RevisionName {
    /// The name for a workload of a service, and the fingerprint of its model.
    ///
    /// Replicas, rollout, access and placement's spread are not in it: a change of those restarts
    /// nothing. Ten hexadecimal digits are 40 bits: a thousand revisions of one service collide
    /// with a chance of one in two millions.
    pub(crate) fn of(
        service: &str,
        workload: &Workload,
        fingerprint: Option<&str>,
    ) -> Result<Self, serde_json::Error> {
        // serde's output has the order of the struct's fields, so equal workloads give equal bytes.
        let content = serde_json::to_vec(&(workload, fingerprint))?;
        let digest = Sha256::digest(content);
        let digits: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(format!("{service}-{digits}")))
    }

    /// A name that was stored before.
    pub fn stored(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RevisionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
