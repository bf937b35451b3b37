//! Talking to a cluster: kubectl, run inside the control plane's network.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::layout::Layout;
use super::process::search_path;
use super::settings::Settings;
use crate::run::run;

pub(crate) struct Kubectl {
    network: String,
    kubeconfig: PathBuf,
    /// Folder of kubectl.
    programs: PathBuf,
}

impl Kubectl {
    /// Fails with a hint where the cluster does not exist.
    pub(crate) fn of(layout: &Layout) -> anyhow::Result<Self> {
        let settings = Settings::read(layout)?;
        Ok(Self {
            network: layout.network(),
            kubeconfig: layout.kubeconfig(),
            programs: settings.kubernetes,
        })
    }

    /// A command in the control plane's network, with `KUBECONFIG`, and `kubectl` on its path.
    pub(crate) fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut path = self.programs.as_os_str().to_owned();
        path.push(":");
        path.push(search_path());
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.network)).arg("--").arg(program);
        command.env("KUBECONFIG", &self.kubeconfig).env("PATH", path);
        command
    }

    /// Runs kubectl with its output shown.
    pub(crate) fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<()> {
        run(self.inside("kubectl").args(arguments))
    }

    /// Runs kubectl and returns what it prints.
    pub(crate) fn output<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<String> {
        let mut command = self.inside("kubectl");
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot start nsenter; on Debian: apt-get install util-linux")?;
        if !output.status.success() {
            bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The objects of manifests in YAML. Their kinds have to be in the cluster.
    pub(crate) fn objects(&self, manifests: &str) -> anyhow::Result<Vec<serde_json::Value>> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(manifests.as_bytes())?;
        let path = file.path().to_owned();
        let arguments = ["create", "--dry-run=client", "--validate=false", "-o", "json", "-f"];
        let arguments = arguments.map(OsStr::new).into_iter().chain([path.as_os_str()]);
        let text = self.output(arguments)?;
        // One after the other, and no list.
        Ok(serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>()?)
    }

    /// Applies manifests, in YAML or JSON, server-side.
    pub(crate) fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        let mut child = self
            .inside("kubectl")
            .args(["apply", "--server-side", "--force-conflicts", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().expect("it was asked for");
        input.write_all(manifests.as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("kubectl apply: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Waits until kubectl succeeds and its output is as wanted.
    pub(crate) fn until(
        &self,
        what: &str,
        patience: Duration,
        arguments: &[&str],
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let seen = self.output(arguments);
            if seen.as_ref().is_ok_and(|text| wanted(text)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seen = seen.unwrap_or_else(|error| format!("{error:#}"));
                bail!("{what} did not come within {} s; last: {seen}", patience.as_secs());
            }
            sleep(Duration::from_millis(300));
        }
    }

    /// Waits until all replicas of a workload are there.
    pub(crate) fn rolled_out(&self, namespace: &str, workload: &str) -> anyhow::Result<()> {
        self.output(["-n", namespace, "rollout", "status", workload, "--timeout=180s"]).map(|_| ())
    }
}
