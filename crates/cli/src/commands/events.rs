//! `trainyard events`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use miette::{IntoDiagnostic, miette};
use trainyard_local::history::{Event, EventQuery, History, Severity};

use super::supervisor::State;
use super::time::ago;
use crate::print::print_line;

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
                print_line(&self.line(&event)?)?;
            }
            if !self.follow {
                return Ok(ExitCode::SUCCESS);
            }
            query.limit = None;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn line(&self, event: &Event) -> miette::Result<String> {
        if self.json {
            return serde_json::to_string(event).into_diagnostic();
        }
        let mark = match event.severity {
            Severity::Normal => ' ',
            Severity::Warning => '!',
        };
        let times =
            if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
        let Event { object, reason, message, last_ms, .. } = event;
        Ok(format!("{:>5} {mark} {object}  {reason}: {message}{times}", ago(*last_ms)))
    }
}
