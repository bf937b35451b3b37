//! `trainyard agent rsh`: what launchers take for a remote shell.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use miette::{Context, IntoDiagnostic, miette};
use trainyard_agent::run::{Token, call};
use trainyard_plan::{Address, GANG, Gang};

use super::mpi::TOKEN_FILE;
use crate::failure::failure;

/// Run a command on another worker of this job, by its agent, and leave with its exit code; mpirun
/// starts its daemons by it
#[derive(Args)]
pub(super) struct Rsh {
    /// All workers, as JSON
    #[arg(long, env = GANG, hide_env_values = true, value_name = "JSON")]
    gang: String,
    /// A file with the secret of the job's workers
    #[arg(long, env = TOKEN_FILE, value_name = "FILE")]
    token_file: PathBuf,
    /// The worker, as its host is called in the gang, with or without its domain
    #[arg(value_name = "HOST")]
    host: String,
    /// The command line, whose words are put together again as by ssh
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

impl Rsh {
    pub(super) fn run(self) -> miette::Result<ExitCode> {
        let gang = Gang::parse(&self.gang).map_err(failure)?;
        let token = Token::read(&self.token_file).into_diagnostic()?;
        let worker = find(&gang, &self.host).ok_or_else(|| {
            miette!("the job `{}` has no worker `{}` in {GANG}", gang.job, self.host)
        })?;
        let command = self.command.join(" ");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let called = call((&worker.host, worker.port), &token, command);
        let called = runtime.into_diagnostic()?.block_on(called).into_diagnostic();
        let called = called.wrap_err_with(|| format!("cannot run a command on `{}`", self.host))?;
        Ok(ExitCode::from(called.code))
    }
}

/// The worker of that name. Launchers leave out domains, and may put a user before it.
fn find<'a>(gang: &'a Gang, host: &str) -> Option<&'a Address> {
    let host = host.rsplit('@').next().unwrap_or(host);
    let exact = gang.workers.iter().find(|worker| worker.host == host);
    exact.or_else(|| {
        let is_number = |host: &str| host.parse::<std::net::IpAddr>().is_ok();
        let mut named = gang.workers.iter().filter(|worker| {
            !is_number(&worker.host) && worker.host.split('.').next() == host.split('.').next()
        });
        // One that could be two workers is none.
        named.next().filter(|_| named.next().is_none())
    })
}

#[test]
fn workers_by_name() {
    let of = |hosts: &[&str], host: &str| {
        let workers = hosts.iter().map(|host| serde_json::json!({"host": host, "port": 1}));
        let gang = serde_json::json!({
            "job": "a", "attempt": 1, "framework": "mpi", "launcher": "agent", "processes": 1,
            "workers": workers.collect::<Vec<_>>(),
        });
        let gang = Gang::parse(&gang.to_string()).unwrap();
        find(&gang, host).map(|worker| worker.host.clone()).unwrap_or_default()
    };
    let hosts = ["a-1-0.a-workers", "a-1-1.a-workers", "10.0.0.1", "10.0.0.2"];
    assert_eq!(of(&hosts, "a-1-1.a-workers"), hosts[1]);
    assert_eq!(of(&hosts, "a-1-1"), hosts[1]);
    assert_eq!(of(&hosts, "me@a-1-0"), hosts[0]);
    assert_eq!(of(&hosts, "a-1-1.a-workers.team.svc.cluster.local"), hosts[1]);
    assert_eq!(of(&hosts, "10.0.0.2"), hosts[3]);
    assert_eq!(of(&hosts, "10.0.0.3"), "");
    assert_eq!(of(&hosts, "a-1"), "");
    assert_eq!(of(&["a.x", "a.y"], "a"), "");
}
