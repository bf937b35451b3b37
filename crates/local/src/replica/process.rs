//! A running replica's process: our child, or one that an earlier supervisor left.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{
    PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, test_kill_process_group,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::exit::Exit;
use super::identity::Identity;

/// The kernel ends a process that was killed as soon as it can run.
const KILLED: Duration = Duration::from_secs(5);

/// A process that leads a group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) identity: Identity,
    handle: Handle,
}

#[derive(Debug)]
enum Handle {
    /// Dropping it does not end the process; the runtime then collects its status.
    Child(tokio::process::Child),
    /// Readable once the process has ended.
    Adopted(AsyncFd<OwnedFd>),
}

impl Process {
    /// A child that was just started.
    pub(super) fn child(child: tokio::process::Child) -> io::Result<Self> {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let identity = pid
            .and_then(Identity::of)
            .ok_or_else(|| io::Error::other("the process ended before it was seen"))?;
        Ok(Self { identity, handle: Handle::Child(child) })
    }

    /// The process that an earlier supervisor left, if it still runs.
    pub(crate) fn adopt(identity: Identity) -> io::Result<Self> {
        let ended = || io::Error::from(io::ErrorKind::NotFound);
        let pid = identity.pid().ok_or_else(ended)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
        // Only now is it certain that the descriptor means that process, not a later one.
        if !identity.is_alive() {
            return Err(ended());
        }
        // SAFETY: an `OwnedFd` gives the same descriptor each time, and keeps it open until it is
        // dropped, which the `AsyncFd` that owns it does after it has let go of it.
        let descriptor =
            unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?;
        Ok(Self { identity, handle: Handle::Adopted(descriptor) })
    }

    /// Waits for its end. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> Exit {
        match &mut self.handle {
            Handle::Child(child) => child.wait().await.map_or(Exit::Unknown, Exit::from),
            Handle::Adopted(descriptor) => {
                // An error means that it cannot be watched any longer; its end is the safe guess,
                // since what follows is the end of its group.
                let _ = descriptor.readable().await;
                Exit::Unknown
            }
        }
    }

    /// Asks the whole group to end: a wrapping shell passes no signal on.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks the whole group to end at once, as a Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Ends the whole group.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Waits for the end of what was killed. Only a process that waits for a disk in the kernel
    /// outlasts that, and nobody can end it.
    pub(crate) async fn wait_killed(&mut self) {
        if tokio::time::timeout(KILLED, self.wait()).await.is_err() {
            tracing::warn!(pid = self.identity.pid, "a process was killed and does not end");
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.identity.pid() {
            let _ = kill_process_group(group, signal);
        }
    }

    /// Waits until the group that its end has left is gone too, and ends what is there after
    /// `grace`.
    pub(super) async fn clear_group(&self, grace: Duration) {
        clear_group(&self.identity, grace).await;
    }
}

/// Asks a process that nobody watches to end, with its group if it leads one, and ends it after
/// `grace`.
pub(crate) async fn end(identity: &Identity, grace: Duration) {
    let leads_group = identity.leads_group();
    for (next, patience) in [(Signal::TERM, grace), (Signal::KILL, KILLED)] {
        if !identity.is_alive() {
            break;
        }
        if signal(identity, leads_group, next).is_err() {
            return;
        }
        wait_while(patience, || identity.is_alive()).await;
    }
    if leads_group {
        clear_group(identity, Duration::ZERO).await;
    }
}

/// Kills a process that nobody watches, with its group if it leads one, and does not wait.
pub(crate) fn kill(identity: &Identity) {
    // Whoever is gone meanwhile needs no signal.
    let _ = signal(identity, identity.leads_group(), Signal::KILL);
}

fn signal(identity: &Identity, group: bool, signal: Signal) -> rustix::io::Result<()> {
    let pid = identity.pid().ok_or(rustix::io::Errno::SRCH)?;
    if group { kill_process_group(pid, signal) } else { kill_process(pid, signal) }
}

/// Looks until something is not so any more, for `patience` at most.
async fn wait_while(patience: Duration, is_so: impl Fn() -> bool) {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    let deadline = tokio::time::Instant::now() + patience;
    while is_so() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn clear_group(identity: &Identity, grace: Duration) {
    let Some(group) = identity.pid() else { return };
    wait_while(grace, || has_members(identity)).await;
    if has_members(identity) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Whether anybody is left in the group. While somebody is, its number is not used again.
fn has_members(identity: &Identity) -> bool {
    let Some(group) = identity.pid() else { return false };
    if test_kill_process_group(group).is_err() {
        return false;
    }
    // A zombie leader that somebody else has to collect is no member that could be ended.
    identity.is_alive() || rest_of_group(identity.pid)
}

/// Whether a process other than the leader belongs to the group.
fn rest_of_group(group: i32) -> bool {
    let Ok(listing) = std::fs::read_dir("/proc") else { return false };
    listing.flatten().any(|entry| {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { return false };
        let Some((head, rest)) = stat.rsplit_once(')') else { return false };
        let leads = head.split_once(' ').is_some_and(|(pid, _)| pid.parse() == Ok(group));
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next();
        let of_group = fields.nth(1).is_some_and(|field| field.parse() == Ok(group));
        of_group && !leads && !matches!(state, Some("Z" | "X"))
    })
}
