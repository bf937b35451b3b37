//! How a process ended, in words.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use trainyard_control::restart::Ending;

/// What is known of a process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
    /// It was another supervisor's child, and only a parent is told more.
    Unknown,
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl Exit {
    /// The ending that the restart policy knows. `out_of_memory`: the kernel ended a process for
    /// its memory meanwhile.
    pub(crate) fn ending(self, out_of_memory: bool) -> Ending {
        const KILL: i32 = 9;
        match self {
            Self::Signal(KILL) | Self::Unknown if out_of_memory => Ending::OutOfMemory,
            Self::Code(code) => Ending::Exited(code),
            Self::Signal(signal) => Ending::Signalled(signal),
            // A shell's way to say "killed by what I do not know".
            Self::Unknown => Ending::Exited(128),
        }
    }
}

/// The event's text.
pub(crate) fn describe(ending: Ending, exit: Option<Exit>) -> String {
    match ending {
        Ending::OutOfMemory => "the kernel ended it because memory ran out".to_owned(),
        Ending::Exited(_) if exit == Some(Exit::Unknown) => {
            "it ended; why is not known, since an earlier supervisor had started it".to_owned()
        }
        Ending::Exited(code) => format!("it ended with exit code {code}"),
        Ending::Signalled(signal) => format!("signal {signal}{} ended it", name(signal)),
        Ending::NeverReady => "it did not become ready in time".to_owned(),
        Ending::Unresponsive => "it no longer answers its liveness probe".to_owned(),
        Ending::NotStarted => "it could not be started".to_owned(),
    }
}

/// An exit by itself.
pub(crate) fn describe_exit(exit: Exit) -> String {
    describe(exit.ending(false), Some(exit))
}

/// Names of the signals that end programs in practice (`signal(7)`; these numbers are the same on
/// x86 and ARM).
fn name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let check = |exit: Exit, out_of_memory: bool, ending: Ending, text: &str| {
            assert_eq!(exit.ending(out_of_memory), ending);
            assert_eq!(describe(ending, Some(exit)), text);
        };
        check(Exit::Code(3), false, Ending::Exited(3), "it ended with exit code 3");
        check(Exit::Code(1), true, Ending::Exited(1), "it ended with exit code 1");
        check(Exit::Signal(9), false, Ending::Signalled(9), "signal 9 (SIGKILL) ended it");
        let memory = "the kernel ended it because memory ran out";
        check(Exit::Signal(9), true, Ending::OutOfMemory, memory);
        check(Exit::Unknown, true, Ending::OutOfMemory, memory);
        check(Exit::Signal(64), false, Ending::Signalled(64), "signal 64 ended it");
    }
}
