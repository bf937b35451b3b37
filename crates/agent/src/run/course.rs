//! Decides how a worker ends. Pure: it is told what happens, and says what to do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The exit code of an agent whose program hung. Programs leave with low codes, shells with those
/// from 126 on.
pub const EXIT_HUNG: u8 = 98;
/// The exit code of an agent that was told to end: what a shell says of SIGTERM.
pub const EXIT_INTERRUPTED: u8 = 143;

/// Where nobody waits for a checkpoint, a program gets so long to end.
const SHORT: Duration = Duration::from_secs(10);
/// Writing stacks takes milliseconds; a process in the kernel's hands takes for ever.
const STACKS: Duration = Duration::from_secs(5);
/// What is kept of the grace for the end itself, after the time for the checkpoint.
const RESERVE: Duration = Duration::from_secs(10);

/// Why a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "number")]
pub enum Cause {
    /// All its processes left with code 0.
    Finished,
    /// One of them left with this code.
    Exited(i32),
    /// This signal ended one of them.
    Signalled(i32),
    /// The kernel ended one of them for memory.
    OutOfMemory,
    /// There was no progress.
    Hung,
    /// The agent was told to end.
    Interrupted,
    /// The program could not be started; the code is a shell's for the same.
    NotStarted(u8),
}

impl Cause {
    /// What the agent leaves with.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Exited(code) => u8::try_from(code).ok().filter(|code| *code != 0).unwrap_or(1),
            Self::Signalled(signal) => u8::try_from(signal).map_or(1, |it| it.saturating_add(128)),
            Self::OutOfMemory => 137,
            Self::Hung => EXIT_HUNG,
            Self::Interrupted => EXIT_INTERRUPTED,
            Self::NotStarted(code) => code,
        }
    }
}

/// How one process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) rank: u32,
    pub(super) cause: Cause,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// The agent is told to end; `catches` says that the program takes the checkpoint's signal.
    AskedToEnd {
        catches: bool,
    },
    /// The agent is told to end without a checkpoint.
    AskedToEndNow,
    /// The program was asked for a checkpoint, since its machine may go, and may leave when it has saved.
    AskedToSave,
    Hung,
    ProcessEnded {
        exit: Exit,
        left: usize,
    },
    /// Another worker was told to end, which its processes' absence will show here.
    PeerLeaves,
    /// The agent of another worker is not there any more.
    PeerGone,
    /// The first worker, which this one follows, has ended.
    LeaderEnded(Cause),
    TimePassed,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Nothing,
    /// Ask for a checkpoint.
    Save,
    /// Ask all processes to end.
    Terminate,
    /// Ask for the stacks of all processes.
    Abort,
    Kill,
}

/// How far an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Saving { until: Duration },
    Terminating { until: Duration },
    Aborting { until: Duration },
    Killed,
}

/// The life of one worker's program. Times are since any fixed start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    /// How long a program may take for a checkpoint and its end; none if it is asked for none.
    grace: Option<Duration>,
    stage: Stage,
    /// Why it ends, once that is known.
    first: Option<Exit>,
    cause: Option<Cause>,
    /// Whether the program has lost processes of another worker, by no fault of its own.
    is_incomplete: bool,
    /// Whether it may leave though it has not finished.
    may_leave: bool,
}

impl Course {
    pub(super) fn new(grace: Option<Duration>) -> Self {
        Self {
            grace,
            stage: Stage::Running,
            first: None,
            cause: None,
            is_incomplete: false,
            may_leave: false,
        }
    }

    /// When something is to be decided though nothing happens.
    pub(super) fn next_at(&self) -> Option<Duration> {
        match self.stage {
            Stage::Running | Stage::Killed => None,
            Stage::Saving { until } | Stage::Terminating { until } | Stage::Aborting { until } => {
                Some(until)
            }
        }
    }

    /// Whether the program is left to its work.
    pub(super) fn is_running(&self) -> bool {
        self.stage == Stage::Running
    }

    /// Why it ended, once no process is left, and which one was the first to fail.
    pub(super) fn cause(&self) -> (Cause, Option<u32>) {
        let rank = self.first.map(|exit| exit.rank);
        // One that leaves because it was asked to save says the same as one that has finished.
        let end = if self.may_leave { Cause::Interrupted } else { Cause::Finished };
        (self.cause.unwrap_or(end), rank)
    }

    pub(super) fn decide(&mut self, happened: Happened, now: Duration) -> Order {
        match (happened, self.stage) {
            (Happened::AskedToEnd { catches }, Stage::Running) => {
                self.cause = Some(Cause::Interrupted);
                let Some(grace) = self.grace else { return self.terminate(now, SHORT) };
                if !catches {
                    return self.terminate(now, grace);
                }
                let reserve = RESERVE.min(grace / 4);
                let until = now.saturating_add(grace.saturating_sub(reserve));
                self.stage = Stage::Saving { until };
                Order::Save
            }
            (Happened::AskedToSave, Stage::Running) => {
                self.may_leave = true;
                Order::Save
            }
            (Happened::AskedToEndNow, Stage::Running | Stage::Saving { .. }) => {
                self.cause.get_or_insert(Cause::Interrupted);
                self.terminate(now, SHORT)
            }
            (Happened::Hung, Stage::Running) => {
                self.cause = Some(Cause::Hung);
                self.stage = Stage::Aborting { until: now.saturating_add(STACKS) };
                Order::Abort
            }
            (Happened::ProcessEnded { exit, left }, stage) => {
                let has_failed = exit.cause != Cause::Finished;
                if has_failed && stage == Stage::Running {
                    self.first = Some(exit);
                    let is_excused = self.is_incomplete || self.may_leave;
                    self.cause = Some(if is_excused { Cause::Interrupted } else { exit.cause });
                    // The others wait for it in vain.
                    return if left > 0 { self.terminate(now, SHORT) } else { Order::Nothing };
                }
                Order::Nothing
            }
            (Happened::PeerLeaves, _) => {
                self.is_incomplete = true;
                Order::Nothing
            }
            (Happened::PeerGone, Stage::Running) => {
                let is_known = self.is_incomplete;
                self.cause = Some(if is_known { Cause::Interrupted } else { Cause::Exited(1) });
                self.terminate(now, SHORT)
            }
            (Happened::LeaderEnded(cause), Stage::Running) => {
                self.cause = Some(cause);
                self.terminate(now, SHORT)
            }
            (Happened::TimePassed, Stage::Saving { until }) if now >= until => {
                let grace = self.grace.unwrap_or_default();
                self.terminate(now, RESERVE.min(grace / 4))
            }
            (Happened::TimePassed, Stage::Terminating { until } | Stage::Aborting { until })
                if now >= until =>
            {
                self.stage = Stage::Killed;
                Order::Kill
            }
            _ => Order::Nothing,
        }
    }

    fn terminate(&mut self, now: Duration, patience: Duration) -> Order {
        self.stage = Stage::Terminating { until: now.saturating_add(patience) };
        Order::Terminate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Option<Duration> = Some(Duration::from_secs(120));
    const END: Happened = Happened::AskedToEnd { catches: true };

    fn ended(rank: u32, cause: Cause, left: usize) -> Happened {
        Happened::ProcessEnded { exit: Exit { rank, cause }, left }
    }

    #[track_caller]
    fn check(
        grace: Option<Duration>,
        steps: &[(u64, Happened, Order)],
        expected: (Cause, Option<u32>),
    ) {
        let mut course = Course::new(grace);
        for (second, happened, order) in steps {
            let got = course.decide(*happened, Duration::from_secs(*second));
            assert_eq!(got, *order, "second {second}, {happened:?}");
        }
        assert_eq!(course.cause(), expected);
    }

    use Happened::{AskedToEndNow, Hung, TimePassed};
    use Order::{Abort, Kill, Nothing, Save, Terminate};

    #[test]
    fn all_finish() {
        check(
            GRACE,
            &[
                (1, ended(1, Cause::Finished, 1), Nothing),
                (2, TimePassed, Nothing),
                (3, ended(0, Cause::Finished, 0), Nothing),
            ],
            (Cause::Finished, None),
        );
    }

    #[test]
    fn one_fails_and_the_others_are_ended() {
        check(
            GRACE,
            &[
                (1, ended(1, Cause::Exited(3), 1), Terminate),
                (2, END, Nothing),
                (10, TimePassed, Nothing),
                (11, TimePassed, Kill),
                (11, ended(0, Cause::Signalled(9), 0), Nothing),
            ],
            (Cause::Exited(3), Some(1)),
        );
    }

    #[test]
    fn a_checkpoint_has_most_of_the_grace() {
        check(
            GRACE,
            &[
                (0, END, Save),
                (1, END, Nothing),
                (109, TimePassed, Nothing),
                (110, TimePassed, Terminate),
                (119, TimePassed, Nothing),
                (120, TimePassed, Kill),
            ],
            (Cause::Interrupted, None),
        );
        // One that was asked to end has not finished, whatever it says.
        check(
            GRACE,
            &[(0, END, Save), (9, ended(0, Cause::Finished, 0), Nothing)],
            (Cause::Interrupted, None),
        );
    }

    #[test]
    fn who_leaves_after_a_notice_has_not_finished() {
        use Happened::AskedToSave;
        let interrupted = |rank| (Cause::Interrupted, rank);
        let finished = ended(0, Cause::Finished, 0);
        check(GRACE, &[(0, AskedToSave, Save), (9, finished, Nothing)], interrupted(None));
        let failed = ended(1, Cause::Exited(3), 1);
        check(GRACE, &[(0, AskedToSave, Save), (9, failed, Terminate)], interrupted(Some(1)));
        // And is asked again when it is told to end.
        check(GRACE, &[(0, AskedToSave, Save), (60, END, Save)], interrupted(None));
        check(GRACE, &[(0, AskedToSave, Save), (60, Hung, Abort)], (Cause::Hung, None));
    }

    #[test]
    fn who_takes_no_signal_is_asked_to_end_at_once() {
        let end = Happened::AskedToEnd { catches: false };
        check(
            GRACE,
            &[(0, end, Terminate), (119, TimePassed, Nothing), (120, TimePassed, Kill)],
            (Cause::Interrupted, None),
        );
        check(None, &[(0, end, Terminate), (10, TimePassed, Kill)], (Cause::Interrupted, None));
    }

    #[test]
    fn a_second_word_hurries() {
        check(
            GRACE,
            &[(0, END, Save), (5, AskedToEndNow, Terminate), (15, TimePassed, Kill)],
            (Cause::Interrupted, None),
        );
        check(GRACE, &[(0, AskedToEndNow, Terminate)], (Cause::Interrupted, None));
    }

    #[test]
    fn one_that_hangs_shows_its_stacks() {
        check(
            GRACE,
            &[
                (0, Hung, Abort),
                (0, ended(0, Cause::Signalled(6), 1), Nothing),
                (1, END, Nothing),
                (5, TimePassed, Kill),
            ],
            (Cause::Hung, None),
        );
    }

    #[test]
    fn a_worker_that_was_told_to_end_is_no_failure_of_the_others() {
        use Happened::{LeaderEnded, PeerGone, PeerLeaves};
        let failed = ended(0, Cause::Exited(1), 0);
        let interrupted = (Cause::Interrupted, Some(0));
        check(GRACE, &[(1, PeerLeaves, Nothing), (9, failed, Nothing)], interrupted);
        let interrupted = (Cause::Interrupted, None);
        check(GRACE, &[(1, PeerLeaves, Nothing), (9, PeerGone, Terminate)], interrupted);
        // One that vanishes says by itself whether it had failed.
        let steps = [(1, PeerGone, Terminate), (2, failed, Nothing), (3, PeerGone, Nothing)];
        check(GRACE, &steps, (Cause::Exited(1), None));
        // All may have done their part, and one of them leave first.
        let finished = ended(0, Cause::Finished, 0);
        check(GRACE, &[(1, PeerLeaves, Nothing), (2, finished, Nothing)], (Cause::Finished, None));
        let steps = [(1, LeaderEnded(Cause::Finished), Terminate), (11, TimePassed, Kill)];
        check(GRACE, &steps, (Cause::Finished, None));
        check(GRACE, &[(1, LeaderEnded(Cause::Hung), Terminate)], (Cause::Hung, None));
        let steps = [(1, END, Save), (2, LeaderEnded(Cause::Exited(1)), Nothing)];
        check(GRACE, &steps, interrupted);
    }

    #[test]
    fn codes() {
        let codes = [
            Cause::Finished,
            Cause::Exited(3),
            Cause::Exited(256),
            Cause::Signalled(11),
            Cause::OutOfMemory,
            Cause::Hung,
            Cause::Interrupted,
            Cause::NotStarted(127),
        ]
        .map(Cause::exit_code);
        assert_eq!(codes, [0, 3, 1, 139, 137, 98, 143, 127]);
    }
}
