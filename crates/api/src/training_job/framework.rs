//! `spec.framework` and `spec.launcher`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a program is written with.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Framework {
    PyTorch,
    TensorFlow,
    Jax,
    Mpi,
    Generic,
}

impl Framework {
    /// The name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PyTorch => "pytorch",
            Self::TensorFlow => "tensorflow",
            Self::Jax => "jax",
            Self::Mpi => "mpi",
            Self::Generic => "generic",
        }
    }
}

/// Who starts the processes of a PyTorch worker.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Launcher {
    /// The command is torchrun, or starts it: it gets its settings and starts the processes.
    Torchrun,
    /// The command is the training program: the agent starts it once for each process.
    Agent,
}
