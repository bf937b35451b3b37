//! Daemons of a cluster: started in its namespaces and control group, with a log file each.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cgroup;
use super::layout::{Layout, NodeLayout};

/// Where a daemon runs.
pub(crate) struct Place {
    network: String,
    mounts: Option<PathBuf>,
    cgroup: String,
}

impl Place {
    pub(crate) fn control_plane(layout: &Layout) -> Self {
        let cgroup = format!("{}/control-plane", layout.cgroup());
        Self { network: layout.network(), mounts: None, cgroup }
    }

    pub(crate) fn node(node: &NodeLayout) -> Self {
        Self {
            network: node.network(),
            mounts: Some(node.mount_namespace()),
            cgroup: node.daemons_cgroup(),
        }
    }
}

/// One daemon to start.
pub(crate) struct Daemon {
    /// Name of its log file.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Daemon {
    pub(crate) fn new<A: Into<OsString>>(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
        }
    }

    /// One that is started again whenever it ends, as a service manager does with the services of a node.
    pub(crate) fn kept_running<A: Into<OsString>>(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        const KEEP_RUNNING: &str = "while :; do \"$0\" \"$@\"; sleep 1; done";
        let own: [OsString; 3] =
            ["-c".into(), KEEP_RUNNING.into(), program.into().into_os_string()];
        Self::new(name, "sh", own.into_iter().chain(arguments.into_iter().map(Into::into)))
    }

    pub(crate) fn log(&self, layout: &Layout) -> PathBuf {
        layout.logs().join(format!("{}.log", self.name))
    }

    /// Starts it; it lives on after this process.
    pub(crate) fn start(&self, layout: &Layout, place: &Place) -> anyhow::Result<()> {
        cgroup::create(&place.cgroup)?;
        let log = self.log(layout);
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        // The shell joins the groups before there is anything that could start a child, then makes
        // way for the daemon: a session of its own keeps it from the terminal's signals.
        let join =
            "while [ \"$1\" != -- ]; do echo $$ >\"$1\" || exit 1; shift; done; shift; exec \"$@\"";
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", join, "sh"]).args(cgroup::doors(&place.cgroup)?).arg("--");
        command.arg("nsenter").arg(format!("--net=/run/netns/{}", place.network));
        if let Some(mounts) = &place.mounts {
            command.arg(format!("--mount={}", mounts.display()));
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        command.current_dir("/").env("PATH", search_path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.process_group(0);
        // Not waited for: it outlives this process, whose end leaves it to init.
        command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        Ok(())
    }
}

/// The caller's search path, with the folders of administrators' programs.
pub(crate) fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

/// Waits until something holds; `what` and the log's end are in the error.
pub(crate) fn wait_for(
    what: &str,
    log: &Path,
    patience: Duration,
    mut holds: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while !holds() {
        if Instant::now() > deadline {
            bail!("{what} did not come up in {} s; {}", patience.as_secs(), tail(log));
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().rev().take(15).collect();
    let lines: Vec<_> = lines.into_iter().rev().collect();
    format!("the end of {}:\n{}", log.display(), lines.join("\n"))
}
