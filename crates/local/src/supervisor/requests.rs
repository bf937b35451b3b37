//! What people ask for over the socket.

use tokio::sync::oneshot;

use super::actor::Actor;
use crate::fleet::Phase;
use crate::history::{Override, Severity};
use crate::socket::{Asked, Reply, Request};
use crate::target::Members;

impl Actor {
    pub(super) async fn answer(&mut self, asked: Asked) {
        let Asked { request, reply } = asked;
        if self.stopping && !matches!(request, Request::Status | Request::Down { .. }) {
            let problems = vec!["the supervisor is ending".to_owned()];
            let _ = reply.send(Reply::Failed { problems });
            return;
        }
        let result = match request {
            // The server answers a watch by itself.
            Request::Status | Request::Watch => {
                self.publish();
                let _ = reply.send(Reply::Status(Box::new(self.status_now())));
                return;
            }
            Request::Apply { targets } => return self.resolve(targets, true, Some(reply)),
            Request::Down { services, hurry, forget } => {
                return self.down(services, hurry, forget, reply).await;
            }
            Request::Handover { exe } => {
                self.handover = Some((exe, reply));
                return;
            }
            Request::Scale { service, min, max } => self.scale(&service, min, max).await,
            Request::Rollback { service, to } => self.roll_back(&service, to.as_deref()).await,
            Request::Restart { service } => self.restart(&service).await,
        };
        let _ = reply.send(match result {
            Ok(message) => Reply::Done { message },
            Err(problem) => Reply::Failed { problems: vec![problem] },
        });
    }

    async fn down(
        &mut self,
        names: Vec<String>,
        hurry: bool,
        forget: bool,
        reply: oneshot::Sender<Reply>,
    ) {
        if names.is_empty() {
            // The answer says that it has begun; who waits for the end waits for the socket's.
            if hurry {
                self.hurry.cancel();
            }
            self.stop.cancel();
            let _ = reply.send(Reply::Done { message: "everything ends".to_owned() });
            return;
        }
        let unknown: Vec<String> = names
            .iter()
            .filter(|name| !self.services.contains_key(*name) && !self.jobs.contains_key(*name))
            .map(|name| self.no_service(name))
            .collect();
        if !unknown.is_empty() {
            let _ = reply.send(Reply::Failed { problems: unknown });
            return;
        }
        self.downs.push((names.clone(), reply));
        for name in names {
            self.leave(&name).await;
            self.stop_job(&name, forget).await;
        }
        self.forget_folders().await;
    }

    /// Watches no folder any more whose services a person has all taken down.
    async fn forget_folders(&mut self) {
        let stay = |members: &Members| {
            let mut services = self.services.values().filter(|service| !service.leaving);
            services.any(|service| members.contains_key(service.declared.origin.path()))
        };
        self.folders.keep(stay);
        self.writer.folders(self.folders.saved()).await;
    }

    async fn scale(&mut self, name: &str, min: u32, max: u32) -> Result<String, String> {
        let Some(running) = self.running(name) else { return Err(self.no_service(name)) };
        if min > max {
            return Err(format!("the least number of replicas, {min}, is above the most, {max}"));
        }
        let message = if max == 0 {
            // Nobody can be held for ever: a request starts it again.
            let max = running.plan.scaling.max.max(1);
            running.scale = Some(Override { min: 0, max });
            running.wanted = 0;
            format!("`{name}` goes to zero; the next request starts it")
        } else {
            running.scale = Some(Override { min, max });
            running.wanted = running.wanted.clamp(min, max);
            match min == max {
                true => format!("`{name}` gets {min} replicas"),
                false => format!("`{name}` gets from {min} to {max} replicas"),
            }
        };
        self.note(Severity::Normal, Some(name), name, "Scaled", &message).await;
        self.steer(name).await;
        Ok(message)
    }

    /// Replaces every replica by a new one of its revision, one after the other.
    async fn restart(&mut self, name: &str) -> Result<String, String> {
        let Some(running) = self.running(name) else { return Err(self.no_service(name)) };
        let mut count = 0;
        for held in running.replicas.values_mut() {
            if held.replica.phase != Phase::Draining {
                held.replica.outdated = true;
                count += 1;
            }
        }
        let message = format!("{count} replicas of `{name}` are replaced, one after the other");
        self.note(Severity::Normal, Some(name), name, "Restart", &message).await;
        self.steer(name).await;
        Ok(message)
    }

    fn no_service(&self, name: &str) -> String {
        if self.jobs.contains_key(name) {
            return format!("`{name}` is a training job: `trainyard down {name}` ends it");
        }
        let known: Vec<String> = self.services.keys().map(|name| format!("`{name}`")).collect();
        match known.is_empty() {
            true => format!("`{name}` does not run; nothing does"),
            false => format!("`{name}` does not run; these do: {}", known.join(", ")),
        }
    }
}
