//! The program's processes: started, collected, signalled.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, prlimit, set_child_subreaper, wait,
};

use tokio::sync::oneshot;

use super::course::{Cause, Exit};
use super::output::{Pipe, Tail, lock};
use super::progress::{Beat, Progress};
use super::remote::{Line, Started, read_line};
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
    /// Whom the exit codes of other workers' commands are told, by their process.
    commands: BTreeMap<i32, oneshot::Sender<u8>>,
    tails: Vec<(u32, Tail)>,
    pipes: Vec<JoinHandle<()>>,
    /// Whether we have killed what was left, so that a SIGKILL says nothing.
    killed: bool,
    /// Processes that the kernel has ended for memory, before the start.
    out_of_memory: u64,
    /// Whether this worker has no program of its own.
    is_led: bool,
}

struct Running {
    rank: u32,
    pid: i32,
}

/// The shell for command lines that do more than to start a program.
const SHELL: &str = "/bin/sh";

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
            commands: BTreeMap::new(),
            tails: Vec::new(),
            pipes: Vec::new(),
            killed: false,
            out_of_memory: out_of_memory(),
            is_led: settings.is_led(),
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

    /// Whether anything runs that was started here, for this worker or another.
    pub(super) fn has_any(&self) -> bool {
        !Tree::look().below(own()).is_empty()
    }

    /// Runs a command line of another worker, with the variables of the job's processes here.
    pub(super) fn run_command(
        &mut self,
        line: &str,
        variables: &[(OsString, OsString)],
        heartbeat: &Path,
    ) -> io::Result<Started> {
        let known = |name: &str| {
            let own = variables.iter().rev().find(|(known, _)| known == name);
            let value = own.map(|(_, value)| value.clone()).or_else(|| std::env::var_os(name));
            value.map(|value| value.to_string_lossy().into_owned())
        };
        let (set, words) = match read_line(line, &known) {
            Line::Program { variables, words } => (variables, words),
            Line::ForShell => (Vec::new(), [SHELL, "-c", line].map(str::to_owned).to_vec()),
        };
        let empty = || io::Error::new(io::ErrorKind::NotFound, "the command is empty");
        let (program, args) = words.split_first().ok_or_else(empty)?;
        let of_program = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot start `{program}`: {error}"))
        };
        let mut child = Command::new(program)
            .args(args)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env(HEARTBEAT, heartbeat)
            .envs(set)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(of_program)?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let (tell, ended) = oneshot::channel();
        self.commands.insert(pid, tell);
        let lost = || io::Error::other("a pipe is missing");
        let out = child.stdout.take().ok_or_else(lost)?;
        let err = child.stderr.take().ok_or_else(lost)?;
        Ok(Started { out, err, ended })
    }

    /// Where processes begin that this worker has to speak to: the program's, and those below a
    /// launcher's daemons, which keep signals that are not meant for them to themselves.
    fn roots(&self, tree: &Tree) -> Vec<i32> {
        let mut roots: Vec<i32> = self.running.iter().map(|running| running.pid).collect();
        if self.is_led {
            // A daemon that has detached itself from its command is our child all the same.
            let daemons = tree.children(own());
            roots.extend(daemons.iter().flat_map(|daemon| tree.children(*daemon)).copied());
        }
        roots
    }

    /// Collects every child that has ended, whoever started it; gives those that are the program's.
    pub(super) fn collect(&mut self) -> Vec<Exit> {
        let mut exits = Vec::new();
        // No child at all is an error, and ends the loop as well.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_pid();
            if let Some(ended) = self.commands.remove(&pid) {
                // Who has asked for it may be gone.
                let _ = ended.send(self.cause(status).exit_code());
            }
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
        self.roots(&tree).into_iter().any(|root| !tree.handling(root, signal).is_empty())
    }

    /// Sends a signal to those that handle it.
    pub(super) fn tell(&self, signal: Signal) {
        let tree = Tree::look();
        for root in self.roots(&tree) {
            for pid in tree.handling(root, signal) {
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
        if self.is_led {
            Tree::look().children(own()).iter().for_each(|pid| tree::send(*pid, Signal::TERM));
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
