//! What other workers ask of this one, and what becomes known of them.

use std::time::Duration;

use super::super::course::Happened;
use super::super::remote::{Ask, Following, LeaderSays, PeerSays};
use super::Agent;

impl Agent<'_> {
    pub(super) fn on_ask(&mut self, ask: Ask) {
        // Whoever asked may be gone.
        match ask {
            Ask::Run { started, .. } if !self.course.is_running() => {
                let _ = started.send(Err("the worker is about to end".to_owned()));
            }
            Ask::Run { command, started } => {
                let heartbeat = &self.settings.heartbeat;
                let run = self.processes.run_command(&command, &self.variables, heartbeat);
                let _ = started.send(run.map_err(|error| error.to_string()));
            }
            Ask::Follow { following } => {
                let leader = self.leader.take().ok_or_else(|| "it is led already".to_owned());
                let leaving = self.leaving.subscribe();
                let _ = following.send(leader.map(|leader| Following { leader, leaving }));
            }
        }
    }

    pub(super) fn on_leader(&mut self, says: LeaderSays) {
        let (why, happened) = match says {
            LeaderSays::Ended(ended) => {
                let happened = Happened::LeaderEnded(ended.cause);
                ((ended.message, ended.last_lines), happened)
            }
            LeaderSays::Gone => {
                (("the first worker is gone".to_owned(), Vec::new()), Happened::PeerGone)
            }
        };
        self.end_by(why, happened);
    }

    pub(super) fn on_peer(&mut self, says: PeerSays) {
        match says {
            PeerSays::Leaves => self.decide(Happened::PeerLeaves),
            PeerSays::Gone { host } => {
                let why = (format!("the worker `{host}` is gone"), Vec::new());
                self.end_by(why, Happened::PeerGone);
            }
        }
    }

    pub(super) fn on_nobody(&mut self, within: Duration) {
        self.leader = None;
        let message = format!("the first worker did not come in {} s", within.as_secs());
        self.end_by((message, Vec::new()), Happened::PeerGone);
    }

    fn end_by(&mut self, why: (String, Vec<String>), happened: Happened) {
        if self.course.is_running() {
            self.why = Some(why);
        }
        self.decide(happened);
    }
}
