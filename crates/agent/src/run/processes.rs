//! The program's processes: started, collected, signalled.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, prlimit, set_child_subreaper, wait,
};

use super::course::{Cause, Exit};
use super::output::{Pipe, Tail, lock};
use super::progress::{Beat, Progress};
use super::tree::{self, Tree};
use super::{Process, Settings};

/// What is left of a program that has ended gets so long to end too.
const LEFT_OVER: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Names of the variables that every process gets.
const HEARTBEAT: &str = "TRAINYARD_HEARTBEAT_FILE";

/// Processes of one worker.
pub(super) struct Processes {
    running: Vec<Running>,
    tails: Vec<(u32, Tail)>,
    pipes: Vec<JoinHandle<()>>,
    /// Whether we have killed what was left, so that a SIGKILL says nothing.
    killed: bool,
    /// Processes that the kernel has ended for memory, before the start.
    out_of_memory: u64,
}

struct Running {
    rank: u32,
    pid: i32,
}

/// The time since the Unix epoch.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Processes {
    /// Starts all of them; those that were started are ended again if one cannot be.
    pub(super) fn start(
        settings: &Settings,
        command: &[OsString],
        more: &[(OsString, OsString)],
        progress: &Arc<Mutex<Progress>>,
    ) -> Result<Self, (Exit, String)> {
        // Whoever loses its parent becomes our child, to be collected and ended here; the first
        // process of a container has that by itself.
        let _ = set_child_subreaper(Some(rustix::process::getpid()));
        let mut processes = Self {
            running: Vec::new(),
            tails: Vec::new(),
            pipes: Vec::new(),
            killed: false,
            out_of_memory: out_of_memory(),
        };
        for process in &settings.processes {
            if let Err(error) = processes.spawn(settings, command, process, more, progress) {
                let program = command.first().cloned().unwrap_or_default();
                let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
                processes.kill();
                let exit = Exit { rank: process.rank, cause: Cause::NotStarted(code) };
                return Err((exit, format!("cannot start `{}`: {error}", program.display())));
            }
        }
        Ok(processes)
    }

    fn spawn(
        &mut self,
        settings: &Settings,
        command: &[OsString],
        process: &Process,
        more: &[(OsString, OsString)],
        progress: &Arc<Mutex<Progress>>,
    ) -> io::Result<()> {
        let empty = || io::Error::new(io::ErrorKind::NotFound, "the command is empty");
        let (program, args) = command.split_first().ok_or_else(empty)?;
        let variables = process.variables.iter().chain(more);
        let mut child = Command::new(program)
            .args(args)
            .envs(variables.map(|(name, value)| (name, value)))
            .env(HEARTBEAT, &settings.heartbeat)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at a terminal is ours to pass on.
            .process_group(0)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let tail = Tail::default();
        let several = settings.processes.len() > 1;
        let pipe = || {
            let progress = progress.clone();
            Pipe {
                prefix: several.then(|| format!("[{}] ", process.rank)),
                pattern: settings.log_pattern.clone(),
                tail: tail.clone(),
                beat: move |beat: Beat| lock(&progress).beat(now(), beat),
            }
        };
        if let Some(out) = child.stdout.take() {
            let pipe = pipe();
            self.pipes.push(std::thread::spawn(move || pipe.copy(out, io::stdout())));
        }
        if let Some(out) = child.stderr.take() {
            let pipe = pipe();
            self.pipes.push(std::thread::spawn(move || pipe.copy(out, io::stderr())));
        }
        self.running.push(Running { rank: process.rank, pid });
        self.tails.push((process.rank, tail));
        Ok(())
    }

    pub(super) fn left(&self) -> usize {
        self.running.len()
    }

    /// Collects every child that has ended, whoever started it; gives those that are the program's.
    pub(super) fn collect(&mut self) -> Vec<Exit> {
        let mut exits = Vec::new();
        // No child at all is an error, and ends the loop as well.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_pid();
            let Some(at) = self.running.iter().position(|running| running.pid == pid) else {
                continue;
            };
            let rank = self.running.remove(at).rank;
            exits.push(Exit { rank, cause: self.cause(status) });
        }
        exits
    }

    fn cause(&self, status: WaitStatus) -> Cause {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => Cause::Finished,
            (Some(code), _) => Cause::Exited(code),
            (None, Some(9)) if !self.killed && out_of_memory() > self.out_of_memory => {
                Cause::OutOfMemory
            }
            (None, Some(signal)) => Cause::Signalled(signal),
            (None, None) => Cause::Exited(1),
        }
    }

    /// Whether some process of the program handles a signal.
    pub(super) fn handle(&self, signal: Signal) -> bool {
        let tree = Tree::look();
        self.running.iter().any(|running| !tree.handling(running.pid, signal).is_empty())
    }

    /// Sends a signal to those that handle it.
    pub(super) fn tell(&self, signal: Signal) {
        let tree = Tree::look();
        for running in &self.running {
            for pid in tree.handling(running.pid, signal) {
                tree::send(pid, signal);
            }
        }
    }

    /// Asks the processes to end.
    ///
    /// What they have started is theirs to end: a data loader that is ended before its program would
    /// only make that fail in the middle of its checkpoint.
    pub(super) fn terminate(&self) {
        for running in &self.running {
            tree::send(running.pid, Signal::TERM);
        }
    }

    /// Ends all with the signal at which Python, Go and others print their stacks.
    pub(super) fn abort(&self) {
        let no_dump = Rlimit { current: Some(0), maximum: Some(0) };
        for pid in Tree::look().below(own()) {
            // The stacks are wanted, and not gigabytes of memory on the disk.
            let _ = prlimit(Pid::from_raw(pid), Resource::Core, no_dump);
            tree::send(pid, Signal::ABORT);
        }
    }

    /// Kills everything below this process.
    pub(super) fn kill(&mut self) {
        self.killed = true;
        for pid in Tree::look().below(own()) {
            tree::send(pid, Signal::KILL);
        }
    }

    /// Ends what the program has left behind, and waits for the rest of its output.
    pub(super) async fn clear(&mut self) {
        let begun = std::time::Instant::now();
        let mut asked = false;
        loop {
            self.collect();
            let left = Tree::look().below(own());
            if left.is_empty() {
                break;
            }
            if !asked {
                asked = true;
                left.iter().for_each(|pid| tree::send(*pid, Signal::TERM));
            } else if begun.elapsed() > LEFT_OVER {
                left.iter().for_each(|pid| tree::send(*pid, Signal::KILL));
            }
            // Only a process that waits for a disk in the kernel outlasts that, and nobody can end it.
            if begun.elapsed() > LEFT_OVER * 3 {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // Pipes end with the last process that holds them.
        while self.pipes.iter().any(|pipe| !pipe.is_finished()) && begun.elapsed() < LEFT_OVER * 4 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The last lines of one process; of the first, if none is named.
    pub(super) fn last_lines(&self, rank: Option<u32>) -> Vec<String> {
        let tail = self.tails.iter().find(|(of, _)| rank.is_none_or(|rank| *of == rank));
        tail.map(|(_, tail)| lock(tail).iter().cloned().collect()).unwrap_or_default()
    }
}

fn own() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

/// How many processes the kernel has ended for memory: of our cgroup, or of the machine where
/// that does not tell.
fn out_of_memory() -> u64 {
    let count = |text: &str| {
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
        count.trim().parse().ok()
    };
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let group = read("/proc/self/cgroup")
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned)))
        .and_then(|group| read(&format!("/sys/fs/cgroup{group}/memory.events")));
    group
        .and_then(|text| count(&text))
        .or_else(|| read("/proc/vmstat").and_then(|text| count(&text)))
        .unwrap_or(0)
}
