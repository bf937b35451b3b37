//! `trainyard events`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use miette::{IntoDiagnostic, miette};
use trainyard_local::history::{Event, EventQuery, History, Severity};

use super::supervisor::State;
use super::time::ago;

/// Show what happened, also to services that are down
#[derive(Args)]
pub(crate) struct Events {
    /// Of this service only
    name: Option<String>,
    /// Go on as more happens
    #[arg(short, long)]
    follow: bool,
    /// Print a JSON object for each event
    #[arg(long)]
    json: bool,
    /// At most so many of the newest
    #[arg(short = 'n', long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    state: State,
}

/// New events are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(300);

impl Events {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let path = self.state.open()?.database();
        let history = History::open(&path)
            .into_diagnostic()?
            .ok_or_else(|| miette!("nothing ever ran with this state folder"))?;
        let mut query =
            EventQuery { service: self.name.clone(), after_ms: None, limit: Some(self.limit) };
        loop {
            for event in history.events(&query).into_diagnostic()? {
                query.after_ms = query.after_ms.max(Some(event.last_ms));
                if let Err(error) = self.print(&event) {
                    // Whoever read it has seen enough.
                    if error.kind() == io::ErrorKind::BrokenPipe {
                        return Ok(ExitCode::SUCCESS);
                    }
                    return Err(error).into_diagnostic();
                }
            }
            if !self.follow {
                return Ok(ExitCode::SUCCESS);
            }
            query.limit = None;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn print(&self, event: &Event) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            return writeln!(out, "{}", serde_json::to_string(event)?);
        }
        let mark = match event.severity {
            Severity::Normal => ' ',
            Severity::Warning => '!',
        };
        let times =
            if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
        let Event { object, reason, message, last_ms, .. } = event;
        writeln!(out, "{:>5} {mark} {object}  {reason}: {message}{times}", ago(*last_ms))
    }
}
