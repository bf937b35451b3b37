//! `trainyard agent --probe`: a look at a node.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use trainyard_agent::{NvmlState, ProbeSettings, probe};
use trainyard_api::scalar::Period;
use trainyard_operator::console::time_text;

use crate::failure::failure;
use crate::print::print_line;

/// Looks at this node's GPUs, driver and kernel log, for `trainyard doctor`.
#[derive(Args)]
pub(super) struct Probe {
    /// Look at GPUs, driver and kernel log once, and print a line of JSON; changes nothing. Exit code
    /// 0: NVML answered, or there is no NVIDIA GPU. 1: there is one, and NVML does not answer
    #[arg(long, required = true)]
    probe: bool,
    /// Look again after each such time, until told to end
    #[arg(long, value_name = "TIME")]
    every: Option<Period>,
    /// The node's name in the cluster
    #[arg(long, env = "NODE_NAME", default_value_t = host_name())]
    node: String,
    /// NVML's library [default: where drivers put it]
    #[arg(long, value_name = "FILE")]
    nvml: Option<PathBuf>,
    /// Where the node's files are, such as /host in a pod
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
}

impl Probe {
    pub(super) fn run(self) -> miette::Result<ExitCode> {
        loop {
            let settings = ProbeSettings {
                node: self.node.clone(),
                taken_at: now(),
                root: self.root.clone(),
                nvml: self.nvml.clone(),
            };
            let seen = probe(&settings);
            print_line(&serde_json::to_string(&seen).map_err(failure)?)?;
            match &self.every {
                Some(pause) => sleep(pause.0),
                None => {
                    let has_gpus = !seen.files.pci_gpus.is_empty();
                    let fails = match seen.nvml.status {
                        NvmlState::Ok => false,
                        NvmlState::Missing => has_gpus,
                        NvmlState::Error => true,
                    };
                    return Ok(ExitCode::from(u8::from(fails)));
                }
            }
        }
    }
}

fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time_text(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)).unwrap_or_default()
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
