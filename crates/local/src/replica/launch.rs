//! Starts the process of a replica: every typed reference of the plan becomes text.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use trainyard_plan::{
    EnvVar, Port, PortNumber, Program, Resources, Value, Volume, VolumeSource, expand,
};

use super::address::free_port;
use super::process::Process;
use super::task::Shared;
use super::{Run, cgroup, logs};
use crate::secret::{SecretError, Secrets};

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("{0}")]
    Secret(#[from] SecretError),
    #[error("{what} refers to the port `{port}`, whose number is not known before it starts")]
    Port { what: String, port: String },
    #[error("{what} refers to the volume `{volume}`, which this machine does not have")]
    Volume { what: String, volume: String },
    #[error("image `{image}` needs a container engine, and this machine runs commands only")]
    Image { image: String },
    #[error("the command is empty")]
    NoCommand,
    #[error("cannot {action} `{object}`: {source}")]
    Io { action: &'static str, object: String, source: io::Error },
}

/// The environment variable that tells of every process which run it belongs to: `MARKER/NUMBER`.
/// What a replica starts inherits it.
pub(super) const RUN: &str = "TRAINYARD_RUN";

/// What is started, and for whom.
pub(crate) struct Spec<'a> {
    /// Names the log, the cgroup and the files of a run.
    pub(crate) id: &'a str,
    /// The service or the job.
    pub(crate) owner: &'a str,
    /// Where its command runs.
    pub(crate) folder: &'a Path,
    pub(crate) program: &'a Program,
    pub(crate) args: &'a [Value],
    pub(crate) env: &'a [EnvVar],
    pub(crate) ports: &'a [Port],
    pub(crate) volumes: &'a [Volume],
    pub(crate) resources: &'a Resources,
}

/// A process that was started.
pub(crate) struct Launched {
    pub(crate) process: Process,
    pub(crate) run: Run,
    /// Where it will write its address, if it chooses its port.
    pub(super) address_file: Option<PathBuf>,
    /// What could not be done as asked.
    pub(crate) notes: Vec<String>,
}

/// Starts one process. Blocks for as long as a start of a process takes.
pub(crate) fn launch(
    slot: &Spec<'_>,
    number: u64,
    shared: &Shared,
) -> Result<Launched, LaunchError> {
    let io = |action, object: &Path| {
        let object = object.display().to_string();
        move |source| LaunchError::Io { action, object, source }
    };
    let address_file = shared.state.run().join(format!("{}.{number}.address", slot.id));
    let _ = std::fs::remove_file(&address_file);
    let ports = ports(slot.ports).map_err(io("find a free port for", Path::new(slot.id)))?;
    let secrets = shared.secrets();
    let values =
        Values { spec: slot, ports: &ports, address_file: &address_file, secrets: &secrets };
    let env = values.env()?;
    let (program, args) = values.command_line(&shared.exe, &env)?;

    let log = shared.state.logs(slot.owner).join(format!("{}.log", slot.id));
    let (out, log_start) = logs::open(&log).map_err(io("open", &log))?;
    let error_out = out.try_clone().map_err(io("open", &log))?;
    let mut command = tokio::process::Command::new(&program);
    command
        .args(args)
        .envs(shared.env.iter().map(|(name, value)| (name, value)))
        .envs(env)
        .env(RUN, format!("{}/{number}", shared.marker))
        .current_dir(slot.folder)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(error_out)
        // A group of its own: what it starts can be ended with it, and a Ctrl-C in our terminal
        // does not reach it before it has drained.
        .process_group(0)
        .kill_on_drop(false);
    let child = command.spawn().map_err(io("start", Path::new(&program)))?;
    let process = Process::child(child).map_err(io("start", Path::new(&program)))?;

    let mut notes = Vec::new();
    let group = shared.cgroups().make(&format!("{}.{number}", slot.id), slot.resources);
    let cgroup = group.unwrap_or_else(|reason| {
        notes.push(format!("limits of CPU and memory are not enforced: {reason}"));
        None
    });
    if let Some(error) =
        cgroup.as_ref().and_then(|group| cgroup::enter(group, process.identity.pid).err())
    {
        notes.push(format!("limits of CPU and memory are not enforced: {error}"));
    }
    let http = slot.ports.iter().find(|port| port.name == "http");
    let (address, address_file) = match http.map(|port| port.number) {
        Some(PortNumber::Reported) => (None, Some(address_file)),
        _ => (ports.get("http").map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port))), None),
    };
    let run = Run { number, identity: process.identity.clone(), address, log_start, cgroup };
    Ok(Launched { process, run, address_file, notes })
}

/// Numbers of the ports that are known before the start.
fn ports(declared: &[Port]) -> io::Result<BTreeMap<String, u16>> {
    let mut ports = BTreeMap::new();
    for port in declared {
        match port.number {
            PortNumber::Fixed(number) => ports.insert(port.name.clone(), number),
            PortNumber::Assigned => ports.insert(port.name.clone(), free_port()?),
            PortNumber::Reported => None,
        };
    }
    Ok(ports)
}

/// Turns the values of one workload into text.
struct Values<'a> {
    spec: &'a Spec<'a>,
    ports: &'a BTreeMap<String, u16>,
    address_file: &'a Path,
    secrets: &'a Secrets,
}

type Env = Vec<(String, OsString)>;

impl Values<'_> {
    /// The variables, each of which may use those before it.
    fn env(&self) -> Result<Env, LaunchError> {
        let mut env = Env::new();
        for var in self.spec.env {
            let value = self.text(&format!("variable `{}`", var.name), &var.value, &env)?;
            env.push((var.name.clone(), value));
        }
        Ok(env)
    }

    fn command_line(
        &self,
        exe: &Path,
        env: &Env,
    ) -> Result<(OsString, Vec<OsString>), LaunchError> {
        let text = |value| self.text("an argument", value, env);
        let mut line: Vec<OsString> = match self.spec.program {
            Program::Trainyard { .. } => vec![exe.as_os_str().to_owned()],
            Program::Command { command, .. } => {
                command.iter().map(text).collect::<Result<_, _>>()?
            }
            Program::Image { image, .. } => {
                return Err(LaunchError::Image { image: image.clone() });
            }
        };
        for value in self.spec.args {
            line.push(text(value)?);
        }
        if line.is_empty() {
            return Err(LaunchError::NoCommand);
        }
        let args = line.split_off(1);
        Ok((line.pop().unwrap_or_default(), args))
    }

    fn text(&self, what: &str, value: &Value, env: &Env) -> Result<OsString, LaunchError> {
        let what = || what.to_owned();
        Ok(match value {
            Value::Text(text) => {
                // The last one of a name wins, as in the environment itself.
                let lookup = |name: &str| {
                    let found = env.iter().rev().find(|(known, _)| known == name);
                    found.map(|(_, value)| value.to_string_lossy().into_owned())
                };
                expand(text, lookup).into()
            }
            Value::Port(port) => match self.ports.get(port) {
                Some(number) => number.to_string().into(),
                None => return Err(LaunchError::Port { what: what(), port: port.clone() }),
            },
            Value::AddressFile => self.address_file.as_os_str().to_owned(),
            Value::Volume { name, path } => {
                let volume = self.spec.volumes.iter().find(|volume| volume.name == *name);
                match volume.map(|volume| &volume.source) {
                    Some(VolumeSource::Host(root)) if path.is_empty() => root.into(),
                    Some(VolumeSource::Host(root)) => root.join(path).into(),
                    _ => return Err(LaunchError::Volume { what: what(), volume: name.clone() }),
                }
            }
            Value::Secret { secret, key } => self.secrets.value(secret, key)?.expose().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trainyard_plan::{Check, Drain, Mount, Probe, Probes, Workload};

    use crate::replica::Slot;

    use super::*;

    fn workload() -> Workload {
        let probe = Probe {
            check: Check::Tcp { port: "http".to_owned() },
            period: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 1,
        };
        let var = |name: &str, value| EnvVar { name: name.to_owned(), value };
        let text = |text: &str| Value::Text(text.to_owned());
        Workload {
            program: Program::Command { image: None, command: vec![text("server")] },
            args: vec![
                text("--port=$(PORT)"),
                text("$$(PORT) $(UNKNOWN)"),
                Value::Volume { name: "model".to_owned(), path: "1".to_owned() },
                Value::AddressFile,
            ],
            env: vec![
                var("PORT", Value::Port("http".to_owned())),
                var("URL", text("http://localhost:$(PORT)$(LATER)")),
                var("LATER", text("x")),
                var("KEY", Value::Secret { secret: "keys".to_owned(), key: "alice".to_owned() }),
            ],
            working_dir: None,
            ports: vec![Port { name: "http".to_owned(), number: PortNumber::Assigned }],
            grpc: None,
            metrics: None,
            probes: Probes { startup: probe.clone(), readiness: probe.clone(), liveness: probe },
            resources: Resources { cpu: None, memory: None, gpu: None },
            volumes: vec![Volume {
                name: "model".to_owned(),
                source: VolumeSource::Host("/models/iris".into()),
                mount: Mount { path: "/mnt".to_owned(), read_only: true },
            }],
            drain: Drain::None,
            grace: Duration::from_secs(1),
        }
    }

    fn slot(workload: Workload) -> Slot {
        Slot {
            id: "iris-1-0".into(),
            service: "iris".into(),
            workload: workload.into(),
            folder: Path::new("/").into(),
        }
    }

    #[test]
    fn references_become_text() {
        let mut secrets = Secrets::new("/nonexistent".into());
        let value = crate::secret::Secret::new("$(PORT)".to_owned());
        secrets.declare("keys".to_owned(), [("alice".to_owned(), value)].into());
        let slot = slot(workload());
        let ports = BTreeMap::from([("http".to_owned(), 4000)]);
        let values = Values {
            spec: &slot.spec(),
            ports: &ports,
            address_file: Path::new("/run/address"),
            secrets: &secrets,
        };
        let env = values.env().unwrap();
        let shown: Vec<String> =
            env.iter().map(|(name, value)| format!("{name}={}", value.display())).collect();
        assert_eq!(
            shown,
            ["PORT=4000", "URL=http://localhost:4000$(LATER)", "LATER=x", "KEY=$(PORT)"]
        );
        let (program, args) = values.command_line(Path::new("/bin/trainyard"), &env).unwrap();
        assert_eq!(program, "server");
        assert_eq!(args, ["--port=4000", "$(PORT) $(UNKNOWN)", "/models/iris/1", "/run/address"]);
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let secrets = Secrets::new("/nonexistent".into());
        let mut workload = workload();
        let ports = BTreeMap::new();
        let error = |workload: &Workload| {
            let address_file = Path::new("/run/address");
            let slot = slot(workload.clone());
            let values =
                Values { spec: &slot.spec(), ports: &ports, address_file, secrets: &secrets };
            values.env().unwrap_err().to_string()
        };
        assert!(error(&workload).contains("variable `PORT` refers to the port `http`"));
        workload.env.drain(..3);
        assert!(error(&workload).contains("there is no secret `keys`"));
    }
}
