//! One look at a node.

use std::path::PathBuf;

use serde::Serialize;

use crate::files::{self, Files};
use crate::kernel::{self, Kernel, Xid};
use crate::nvml::{self, Gpu};

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct ProbeSettings {
    /// The node's name in the cluster.
    pub node: String,
    /// RFC 3339.
    pub taken_at: String,
    /// Where the node's files are: `/` on the node itself, `/host` or the like in a pod.
    pub root: PathBuf,
    /// NVML's library, where it is in no usual place.
    pub nvml: Option<PathBuf>,
}

/// What was seen.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    pub format: &'static str,
    pub node: String,
    pub taken_at: String,
    pub nvml: Nvml,
    pub driver: Driver,
    pub gpus: Vec<Gpu>,
    /// Xid errors in the kernel's log, the oldest first.
    pub xids: Vec<Xid>,
    pub kernel: Kernel,
    pub files: Files,
    /// What could not be read, and why.
    pub unread: Vec<Unread>,
}

/// Whether NVML answers.
#[derive(Debug, Clone, Serialize)]
pub struct Nvml {
    pub status: NvmlState,
    /// What it says, or why it is not there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NvmlState {
    Ok,
    /// There is no library: no driver on this node.
    Missing,
    /// The library is there and does not work.
    Error,
}

/// The driver, by NVML, or else by the kernel's module.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Driver {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The newest CUDA that it can run, as `12.8`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cuda: String,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    pub what: String,
    pub reason: String,
}

/// Looks at this node. Takes a second with eight GPUs; blocks the thread.
#[must_use]
pub fn probe(settings: &ProbeSettings) -> Probe {
    let mut unread = Vec::new();
    let files = files::read(&settings.root, &mut unread);
    let lines = kernel::lines(&settings.root, &mut unread);
    let (xids, kernel) = kernel::sort_out(&lines);
    let looked = nvml::look(settings.nvml.as_deref(), &settings.root);
    let version = files.module_version.clone().unwrap_or_default();
    let (nvml, driver, gpus) = match looked {
        Ok(look) => {
            (Nvml { status: NvmlState::Ok, message: String::new() }, look.driver, look.gpus)
        }
        Err(failure) => {
            let status = if failure.is_missing { NvmlState::Missing } else { NvmlState::Error };
            let driver = Driver { version, cuda: String::new() };
            (Nvml { status, message: failure.message }, driver, Vec::new())
        }
    };
    Probe {
        format: trainyard_diagnose::PROBE_FORMAT,
        node: settings.node.clone(),
        taken_at: settings.taken_at.clone(),
        nvml,
        driver,
        gpus,
        xids,
        kernel,
        files,
        unread,
    }
}
