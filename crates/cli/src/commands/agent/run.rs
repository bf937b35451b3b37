//! `trainyard agent run`: the first process of a training worker.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use miette::{Context, IntoDiagnostic, miette};
use trainyard_agent::run::{self, Cause, Cloud, Gathering, METADATA, Settings, Signal, Token};
use trainyard_api::scalar::Period;
use trainyard_api::training_job::{PATTERN_SIZE, wrong_log_pattern};
use trainyard_checkpoint::Part;
use trainyard_plan::{GANG, Gang};

use super::mpi::Launch;
use super::termination;
use crate::failure::failure;

/// Start a training program and stay with it: pass signals on, ask for checkpoints, see that it gets
/// on, collect its children, and say how it ended
///
/// SIGTERM asks the program for a checkpoint and then ends it; SIGINT ends it without one. Leaves with
/// the program's own exit code, with 98 if it showed no progress, with 143 if it was told to end.
#[derive(Args)]
pub(super) struct Run {
    /// Which worker this is, from 0
    #[arg(long, env = "JOB_COMPLETION_INDEX", default_value_t = 0, value_name = "N")]
    index: u32,
    /// All workers, as JSON [default: this one alone]
    #[arg(long, env = GANG, hide_env_values = true, value_name = "JSON")]
    gang: Option<String>,
    /// Data that the program reads, which is fetched before it starts; the variable
    /// TRAINYARD_DATA_NAME has its path. May be repeated
    #[arg(long = "data", value_name = "NAME=URI", value_parser = pair)]
    data: Vec<(String, String)>,
    /// What the file of data must hash to; may be repeated
    #[arg(long = "data-sha256", value_name = "NAME=HEX", value_parser = pair)]
    digests: Vec<(String, String)>,
    /// Folder of fetched data, which agents may share [default: the user's cache]
    #[arg(long, value_name = "FOLDER")]
    data_cache: Option<PathBuf>,
    /// The folder of the program's checkpoints; it is made
    #[arg(long, value_name = "FOLDER")]
    checkpoint_path: Option<PathBuf>,
    /// The store that whole checkpoints are brought to, and the newest from at the start
    #[arg(long, value_name = "URI", requires = "checkpoint_path")]
    checkpoint_uri: Option<String>,
    /// Checkpoints that the store keeps
    #[arg(long, value_name = "N", default_value_t = 3)]
    checkpoint_keep: u32,
    /// All workers see one folder of checkpoints, and the first of them brings them to the store
    #[arg(long)]
    checkpoint_shared: bool,
    /// Which workers bring their checkpoints to the store, where each has a folder of its own
    #[arg(long, value_enum, default_value_t, conflicts_with = "checkpoint_shared")]
    checkpoint_writers: WritersName,
    /// Names this start of all workers: the same for each of them, and never used again
    #[arg(long, value_name = "TEXT")]
    checkpoint_start: Option<String>,
    /// The port at which workers give each other what they restore, so that the store is asked once
    /// for all of them
    #[arg(long, value_name = "PORT", requires_all = ["checkpoint_uri", "token_file"])]
    checkpoint_peers: Option<u16>,
    /// The signal that asks for a checkpoint
    #[arg(long, value_enum, value_name = "SIGNAL")]
    checkpoint_signal: Option<SignalName>,
    /// How long the program may take for a checkpoint and its end
    #[arg(long, default_value = "2m", value_name = "TIME")]
    grace: Period,
    /// How much of its time an interruption may cost: the program is asked for checkpoints so often, by the
    /// file that TRAINYARD_CHECKPOINT_REQUEST_FILE names, and goes on after each
    #[arg(long, value_name = "TIME", requires_all = ["checkpoint_uri", "checkpoint_signal"])]
    checkpoint_interval: Option<Period>,
    /// Without progress for so long, the program is ended, and its stacks are asked for
    #[arg(long, value_name = "TIME")]
    progress_timeout: Option<Period>,
    /// Lines of output that are progress; groups `step` and `loss` are numbers
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    log_pattern: Option<String>,
    /// The file that the program writes to show progress [default: one in the temporary folder]
    #[arg(long, value_name = "FILE")]
    heartbeat_file: Option<PathBuf>,
    /// Start the program when every worker is ready, and wait so long for one that has no name in the network
    #[arg(long, value_name = "TIME", requires = "gang")]
    await_workers: Option<Period>,
    /// A file with a secret of the job's workers, by which those of an MPI program run commands for
    /// each other, and all give each other checkpoints
    #[arg(long, value_name = "FILE", requires = "gang")]
    token_file: Option<PathBuf>,
    /// Where to say in the end, in a line, how the program ended: a pod's /dev/termination-log
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,
    /// A variable whose value is kept out of that; may be repeated
    #[arg(long = "secret-variable", value_name = "NAME")]
    secret_variables: Vec<String>,
    /// Where to report how far it is
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Where to serve metrics; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", env = "TRAINYARD_AGENT_METRICS")]
    metrics: Option<SocketAddr>,
    /// Whose notices of interruption to look for
    #[arg(long, value_enum, default_value_t, env = "TRAINYARD_CLOUD")]
    cloud: CloudName,
    /// The metadata service that gives the notices [default: the clouds' own, 169.254.169.254:80]
    #[arg(long, value_name = "HOST:PORT")]
    metadata: Option<String>,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The two parts of `NAME=TEXT`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, text)) if !name.is_empty() && !text.is_empty() => {
            Ok((name.to_owned(), text.to_owned()))
        }
        _ => Err("expected a name, `=` and a text".to_owned()),
    }
}

/// What a shell leaves with that cannot run a program.
const CANNOT_WORK: u8 = 126;

#[derive(Clone, Copy, ValueEnum)]
enum SignalName {
    #[value(name = "SIGUSR1")]
    Usr1,
    #[value(name = "SIGUSR2")]
    Usr2,
    #[value(name = "SIGHUP")]
    Hup,
}

impl SignalName {
    fn name(self) -> &'static str {
        match self {
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Hup => "SIGHUP",
        }
    }

    fn number(self) -> Signal {
        match self {
            Self::Usr1 => Signal::USR1,
            Self::Usr2 => Signal::USR2,
            Self::Hup => Signal::HUP,
        }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum WritersName {
    /// Each saves a part of every checkpoint
    #[default]
    All,
    /// The first one saves for all
    First,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum CloudName {
    #[default]
    None,
    /// Whichever answers
    Auto,
    Aws,
    Gcp,
    Azure,
}

fn pattern(text: &str) -> Result<String, String> {
    wrong_log_pattern(text).map_or_else(|| Ok(text.to_owned()), Err)
}

impl Run {
    pub(super) fn run(mut self) -> miette::Result<ExitCode> {
        let log = self.termination_log.take();
        let secrets = termination::secrets(&std::mem::take(&mut self.secret_variables));
        let ended = match (self.end(), &log) {
            (Ok(ended), _) => ended,
            // Another attempt changes nothing about it, which a back end that sees only the code and
            // the line has to be told.
            (Err(error), Some(log)) => {
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                let message = causes.join(": ");
                let cause = Cause::NotStarted(CANNOT_WORK);
                eprintln!("trainyard: {message}");
                let ended = run::Ended {
                    cause,
                    rank: None,
                    message,
                    last_lines: Vec::new(),
                    machine_leaves: false,
                };
                termination::write(log, &ended, &secrets);
                return Ok(ExitCode::from(CANNOT_WORK));
            }
            (Err(error), None) => return Err(error),
        };
        if ended.cause != Cause::Finished {
            eprintln!("trainyard: {}", ended.message);
        }
        if let Some(log) = &log {
            termination::write(log, &ended, &secrets);
        }
        Ok(ExitCode::from(ended.cause.exit_code()))
    }

    fn end(self) -> miette::Result<run::Ended> {
        // Mpirun's files are there until all is over.
        let (settings, _files) = self.settings()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = runtime.into_diagnostic()?.block_on(run::run(settings));
        ended.into_diagnostic().wrap_err("the agent cannot work")
    }

    fn settings(self) -> miette::Result<(Settings, Option<Launch>)> {
        let gang = self.gang.as_deref().map(Gang::parse).transpose().map_err(failure)?;
        let mut processes = match &gang {
            Some(gang) => processes(gang, self.index)?,
            None => vec![run::Process { rank: 0, variables: Vec::new() }],
        };
        if let Some(path) = &self.checkpoint_path {
            let path = std::path::absolute(path).into_diagnostic()?;
            let made = std::fs::create_dir_all(&path).into_diagnostic();
            made.wrap_err_with(|| format!("cannot make `{}`", path.display()))?;
            for process in &mut processes {
                let name = OsString::from("TRAINYARD_CHECKPOINT_PATH");
                process.variables.push((name, path.clone().into()));
            }
        }
        if let Some(signal) = self.checkpoint_signal {
            for process in &mut processes {
                let name = OsString::from("TRAINYARD_CHECKPOINT_SIGNAL");
                process.variables.push((name, signal.name().into()));
            }
        }
        let store = self.store(gang.as_ref())?;
        let peers = self.peers(gang.as_ref())?;
        let digest = |name: &str| self.digests.iter().find(|(it, _)| it == name);
        let set = |(name, uri): &(String, String)| run::DataSet {
            name: name.clone(),
            variable: trainyard_plan::data_variable(name),
            uri: uri.clone(),
            sha256: digest(name).map(|(_, hex)| hex.clone()),
        };
        let spread = gang.as_ref().filter(|gang| gang.is_mpi_of_several());
        let launch = spread.map(|gang| Launch::of(gang, self.token_file.as_deref())).transpose()?;
        if let Some(launch) = &launch {
            for process in &mut processes {
                process.variables.splice(0..0, launch.variables.iter().cloned());
            }
        }
        let remote = match (&launch, spread) {
            (Some(launch), Some(gang)) => Some(launch.remote(gang, self.index, &mut processes)?),
            _ => None,
        };
        let data =
            run::Data { sets: self.data.iter().map(set).collect(), cache: self.data_cache.clone() };
        let log_pattern = match &self.log_pattern {
            Some(text) => Some(
                regex::RegexBuilder::new(text)
                    .size_limit(PATTERN_SIZE)
                    .build()
                    .into_diagnostic()?,
            ),
            None => None,
        };
        let temporary =
            || std::env::temp_dir().join(format!("trainyard-heartbeat-{}", std::process::id()));
        let settings = Settings {
            job: gang.as_ref().map(|gang| gang.job.clone()).unwrap_or_default(),
            worker: self.index,
            attempt: gang.as_ref().map_or(1, |gang| gang.attempt),
            command: self.command,
            processes,
            remote,
            data,
            checkpoint: self.checkpoint_signal.map(|signal| run::Checkpoint {
                signal: signal.number(),
                grace: self.grace.0,
                interval: self.checkpoint_interval.map(|interval| interval.0),
            }),
            store,
            peers,
            progress_timeout: self.progress_timeout.map(|timeout| timeout.0),
            log_pattern,
            heartbeat: self.heartbeat_file.unwrap_or_else(temporary),
            gathering: gang.as_ref().zip(self.await_workers).map(|(gang, within)| Gathering {
                hosts: gang.workers.iter().map(|worker| worker.host.clone()).collect(),
                port: self.metrics.map(|address| address.port()).filter(|port| *port != 0),
                within: within.0,
            }),
            report: self.report,
            metrics: self.metrics,
            cloud: match self.cloud {
                CloudName::None => None,
                CloudName::Auto => Some(Cloud::Any),
                CloudName::Aws => Some(Cloud::Aws),
                CloudName::Gcp => Some(Cloud::Gcp),
                CloudName::Azure => Some(Cloud::Azure),
            },
            metadata: self.metadata.as_deref().map_or(Ok(METADATA), address)?,
        };
        Ok((settings, launch))
    }
}

impl Run {
    /// What is kept of checkpoints, and where.
    fn store(&self, gang: Option<&Gang>) -> miette::Result<Option<trainyard_checkpoint::Settings>> {
        let (Some(path), Some(uri)) = (&self.checkpoint_path, &self.checkpoint_uri) else {
            return Ok(None);
        };
        let path = std::path::absolute(path).into_diagnostic()?;
        let workers = gang.map_or(1, |gang| u32::try_from(gang.workers.len()).unwrap_or(u32::MAX));
        let saves_alone = self.checkpoint_shared || self.checkpoint_writers == WritersName::First;
        let part = match (saves_alone, self.index) {
            (true, 0) => Some(Part::WHOLE),
            (true, _) => None,
            (false, index) => Some(Part { index, of: workers }),
        };
        let attempt = match (&self.checkpoint_start, gang) {
            (Some(start), _) => start.clone(),
            (None, Some(gang)) if workers > 1 && !self.checkpoint_shared => {
                return Err(miette!(
                    "--checkpoint-start is missing: several workers of `{}` need a name for this start, the same for each of them and never used again",
                    gang.job
                ));
            }
            (None, _) => "alone".to_owned(),
        };
        let mut settings = trainyard_checkpoint::Settings {
            keep: self.checkpoint_keep as usize,
            workers,
            part,
            attempt,
            path_is_shared: self.checkpoint_shared,
            ..trainyard_checkpoint::Settings::new(path, uri.clone())
        };
        if let Some(interval) = self.checkpoint_interval {
            // Looks are a part of what a checkpoint takes.
            settings.poll = settings.poll.min(interval.0 / 16);
        }
        Ok(Some(settings))
    }
}

impl Run {
    /// Who restores together: workers that have folders of their own.
    fn peers(&self, gang: Option<&Gang>) -> miette::Result<Option<run::Gang>> {
        let (Some(port), Some(token), Some(gang)) = (self.checkpoint_peers, &self.token_file, gang)
        else {
            return Ok(None);
        };
        if gang.workers.len() < 2 || self.checkpoint_shared {
            return Ok(None);
        }
        let token = Token::read(token).into_diagnostic()?;
        let workers = gang.workers.iter().map(|worker| (worker.host.clone(), port)).collect();
        let patience = trainyard_checkpoint::Patience::default();
        Ok(Some(run::Gang { token, own: self.index, workers, patience }))
    }
}

/// The processes of one worker. What a manifest may set itself is left as it is set.
fn processes(gang: &Gang, index: u32) -> miette::Result<Vec<run::Process>> {
    let processes = gang.processes(index).map_err(failure)?.into_iter().map(|process| {
        let defaults =
            process.defaults.into_iter().filter(|(name, _)| std::env::var_os(name).is_none());
        let all = defaults.chain(process.variables);
        let variables = all.map(|(name, value)| (name.into(), value.into())).collect();
        run::Process { rank: process.rank, variables }
    });
    Ok(processes.collect())
}

/// An address by number or name.
fn address(text: &str) -> miette::Result<SocketAddr> {
    let found = text.to_socket_addrs().into_diagnostic();
    let mut found = found.wrap_err_with(|| format!("`{text}` is no HOST:PORT"))?;
    found.next().ok_or_else(|| miette!("`{text}` has no address"))
}
