//! `spec.checkpoint`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Period;

/// Where a program keeps its checkpoints, and how it is asked for one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.credentialsSecret) || (has(self.uri) && !self.uri.startsWith('file:') && !self.uri.startsWith('pvc:'))").message("only a store at `s3://`, `gs://` or `az://` takes credentials; remove `credentialsSecret`, or name such a store with `uri`").field_path(".credentialsSecret"),
    validation = Rule::new("!has(self.uri) || !self.uri.startsWith('pvc:') || self.uri.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^/]+)*/?$') && !self.uri.matches('/[.][.](/|$)')").message("a path in a volume is written `pvc://CLAIM/PATH`, from the root of the volume, without `..`").field_path(".uri"),
    validation = Rule::new("!has(self.interval) || has(self.uri)").message("how much an interruption costs depends on what is in a store; name one with `uri`, or remove it").field_path(".interval"),
    validation = Rule::new("!has(self.interval) || duration(self.interval) >= duration('5s')").message("a checkpoint takes seconds to come to a store; write at least `5s`").field_path(".interval"),
    validation = Rule::new("!has(self.keep) || has(self.uri)").message("what lies in `path` is the program's to keep; remove it, or name a store with `uri`").field_path(".keep"),
)]
pub struct Checkpoint {
    /// The folder that the program writes its checkpoints to, and reads the newest from when it
    /// starts. It is made if it is not there, and the program finds it as `$TRAINYARD_CHECKPOINT_PATH`. One
    /// that is not absolute is below the folder of the manifest. In Kubernetes it is on the disk of the
    /// pod and goes with it: what is to outlive a pod needs a `uri`.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// The store that whole checkpoints are brought to while the program trains, and the newest good
    /// one from before it starts: `s3://bucket/jobs/digits`, `gs://`, `az://`, `pvc://CLAIM/PATH` in a
    /// volume that all workers can mount (Kubernetes only), or `file:///mnt/jobs` (one machine only).
    /// Each job needs one of its own. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^(file:///|pvc://|s3://|gs://|az://)[^\x00-\x1f]+$")
    )]
    pub uri: Option<String>,
    /// A Secret of the namespace with the credentials for the uri, under the names of the scheme's
    /// environment variables, such as `AWS_ACCESS_KEY_ID`. Default: the workers' own identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
    /// Which workers write checkpoints that are brought to the store: `first`, which saves for all, or
    /// `all`, each a part of every checkpoint (sharded ones). On one machine all write to one folder,
    /// and it does not matter. Default: first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers: Option<Writers>,
    /// Checkpoints that the store keeps. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep: Option<u32>,
    /// How much of the program's time an interruption may cost: it is asked for checkpoints so early that
    /// the newest one in the store is never older than this, for as long as the program answers and the
    /// store takes them. It is asked by the file `$TRAINYARD_CHECKPOINT_REQUEST_FILE`, which changes each
    /// time, and goes on after it has saved. Default: the program alone decides when it saves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Period>,
    /// The signal that asks for a checkpoint before the program is ended: `SIGUSR1`, `SIGUSR2` or
    /// `SIGHUP`. A program that does not handle it does not get it. Default: SIGUSR1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<CheckpointSignal>,
    /// How long a program that is to end may take to write its checkpoint. Default: 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Period>,
}

/// Which workers write checkpoints.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum Writers {
    #[default]
    First,
    All,
}

/// Signals that programs have to themselves.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CheckpointSignal {
    #[default]
    #[serde(rename = "SIGUSR1")]
    Usr1,
    #[serde(rename = "SIGUSR2")]
    Usr2,
    #[serde(rename = "SIGHUP")]
    Hup,
}

impl CheckpointSignal {
    /// The name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Hup => "SIGHUP",
        }
    }
}
