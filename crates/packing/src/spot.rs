//! What a job costs that runs on spot machines, by the rules it goes by when they are taken.
//!
//! The setting and the rules are those of Wu et al., "Can't Be Late: Optimizing Spot Instance
//! Savings under Deadlines", NSDI 2024: a job has an amount of work and a deadline; at each moment
//! it is idle, on a spot machine (where there is one), or on an on-demand machine; each start on
//! another machine costs the changeover, in which no work is done.

use serde::{Deserialize, Serialize};

/// Whether there is a spot machine, over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// Seconds between two points.
    pub gap: u32,
    /// Whether there is one, at each point.
    pub is_there: Vec<bool>,
}

/// A spot trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpotTraceError {
    /// It is not the JSON of a trace.
    #[error(
        "{file} is no trace of spot machines: write {{\"metadata\": {{\"gap_seconds\": 600}}, \"data\": [0, 1, …]}}"
    )]
    Json {
        /// Name of the file.
        file: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// It has too few points, or no time between them.
    #[error(
        "{file} has {points} points {gap} s apart; a trace has two at least, 1 to 86400 s apart"
    )]
    Empty {
        /// Name of the file.
        file: String,
        /// How many points there are.
        points: usize,
        /// Seconds between them.
        gap: f64,
    },
}

#[derive(Deserialize)]
struct TraceFile {
    metadata: Metadata,
    data: Vec<f64>,
}

#[derive(Deserialize)]
struct Metadata {
    gap_seconds: f64,
}

impl Availability {
    /// Reads a trace of skypilot-org/spot-traces. A point counts where at least `machines` machines
    /// were to be had.
    pub fn read(file: &str, text: &[u8], machines: u32) -> Result<Self, SpotTraceError> {
        let trace: TraceFile = serde_json::from_slice(text)
            .map_err(|source| SpotTraceError::Json { file: file.to_owned(), source })?;
        let gap = trace.metadata.gap_seconds;
        if trace.data.len() < 2 || !(1.0..=86_400.0).contains(&gap) {
            let points = trace.data.len();
            return Err(SpotTraceError::Empty { file: file.to_owned(), points, gap });
        }
        let is_there = trace.data.iter().map(|count| *count >= f64::from(machines)).collect();
        Ok(Self { gap: gap.round() as u32, is_there })
    }

    /// The part of the time when there is a machine.
    pub fn part(&self) -> f64 {
        let there = self.is_there.iter().filter(|it| **it).count();
        there as f64 / self.is_there.len().max(1) as f64
    }
}

/// The rules that a job goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpotPolicy {
    /// Never a spot machine.
    OnDemand,
    /// Only spot machines; waits for one, deadline or not.
    SpotOnly,
    /// A spot machine where there is one, else an on-demand machine at once.
    FallBack,
    /// Waits for spot machines until only an on-demand machine can meet the deadline.
    Greedy,
    /// Greedy within each of many slices of the time, each with its part of the work.
    TimeSliced,
    /// On demand only while the work lags behind an even pace.
    UniformProgress,
}

/// Slices of [`SpotPolicy::TimeSliced`].
const SLICES: f64 = 8.0;

impl SpotPolicy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::OnDemand,
        Self::SpotOnly,
        Self::FallBack,
        Self::Greedy,
        Self::TimeSliced,
        Self::UniformProgress,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::SpotOnly => "spot-only",
            Self::FallBack => "fall-back",
            Self::Greedy => "greedy",
            Self::TimeSliced => "time-sliced",
            Self::UniformProgress => "uniform-progress",
        }
    }
}

/// The job. Times in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpotJob {
    /// Time that it takes on one machine without interruption.
    pub work: f64,
    /// Time until it must be done.
    pub deadline: f64,
    /// Time that is lost at each start on another machine.
    pub changeover: f64,
    /// Price of a spot machine as a part of an on-demand machine's.
    pub spot_price: f64,
}

/// What became of the job.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SpotOutcome {
    /// What was paid, as a part of what the work costs on demand without interruption.
    pub cost: f64,
    /// When it was done, in seconds; `None` where the trace ended before.
    pub finished: Option<f64>,
    /// Starts on another machine.
    pub changeovers: u32,
    /// Part of the paid time that was on spot machines.
    pub spot_part: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Machine {
    Idle,
    Spot,
    OnDemand,
}

/// The job at one moment.
struct State {
    now: f64,
    done: f64,
    machine: Machine,
    /// The rest of the changeover.
    starting: f64,
}

impl SpotJob {
    /// Runs the job from point `start` of a trace on.
    ///
    /// The machine of one point is kept until the next, as in the paper's simulator.
    pub fn run(
        &self,
        policy: SpotPolicy,
        availability: &Availability,
        start: usize,
    ) -> SpotOutcome {
        let gap = f64::from(availability.gap);
        let mut state = State { now: 0.0, done: 0.0, machine: Machine::Idle, starting: 0.0 };
        let (mut on_spot, mut on_demand, mut changeovers) = (0.0, 0.0, 0);
        let outcome = |finished, on_spot: f64, on_demand: f64, changeovers| SpotOutcome {
            cost: (on_spot * self.spot_price + on_demand) / self.work,
            finished,
            changeovers,
            spot_part: if on_spot > 0.0 { on_spot / (on_spot + on_demand) } else { 0.0 },
        };
        for at in start.. {
            // An on-demand machine is always to be had; without the trace, a spot machine is not.
            let is_there = match availability.is_there.get(at) {
                Some(is_there) => *is_there,
                None if policy == SpotPolicy::SpotOnly => break,
                None => false,
            };
            if state.machine == Machine::Spot && !is_there {
                state.machine = Machine::Idle;
            }
            let next = self.choose(policy, &state, is_there, gap);
            if next != state.machine {
                if next != Machine::Idle {
                    changeovers += 1;
                    state.starting = self.changeover;
                }
                state.machine = next;
            }
            if next != Machine::Idle {
                let lost = state.starting.min(gap);
                let left = self.work - state.done;
                let used = (lost + left).min(gap);
                match next {
                    Machine::Spot => on_spot += used,
                    _ => on_demand += used,
                }
                if lost + left <= gap {
                    return outcome(Some(state.now + used), on_spot, on_demand, changeovers);
                }
                state.starting -= lost;
                state.done += gap - lost;
            }
            state.now += gap;
        }
        outcome(None, on_spot, on_demand, changeovers)
    }

    fn choose(&self, policy: SpotPolicy, state: &State, is_there: bool, gap: f64) -> Machine {
        let spot_or = |other| if is_there { Machine::Spot } else { other };
        // The machine is kept until the next point: one more point may be too late. Two changeovers
        // are reserved, one for each machine that may still be started.
        let is_urgent = |work: f64, until: f64| {
            until - state.now - gap < work - state.done + 2.0 * self.changeover
        };
        match policy {
            SpotPolicy::OnDemand => Machine::OnDemand,
            SpotPolicy::SpotOnly => spot_or(Machine::Idle),
            SpotPolicy::FallBack => spot_or(Machine::OnDemand),
            // A running spot machine is kept (it does the same work), and nothing else is started.
            _ if is_urgent(self.work, self.deadline) => match state.machine {
                Machine::Spot => Machine::Spot,
                _ => Machine::OnDemand,
            },
            SpotPolicy::Greedy => spot_or(Machine::Idle),
            SpotPolicy::TimeSliced => {
                let slice = (state.now / self.deadline * SLICES).floor() + 1.0;
                let until = self.deadline * slice / SLICES;
                let work = self.work * slice / SLICES;
                if state.done >= work {
                    // The slice's work is done; a spot machine may go on with the next.
                    spot_or(Machine::Idle)
                } else if is_urgent(work, until) {
                    match state.machine {
                        Machine::Idle => Machine::OnDemand,
                        machine => machine,
                    }
                } else {
                    spot_or(Machine::Idle)
                }
            }
            SpotPolicy::UniformProgress => {
                let even = |time: f64| self.work * time / self.deadline;
                let keeps_on = state.machine == Machine::OnDemand
                    && state.done < even(state.now + 2.0 * self.changeover);
                match is_there {
                    true => Machine::Spot,
                    false if keeps_on || state.done < even(state.now) => Machine::OnDemand,
                    false => Machine::Idle,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trace(text: &str) -> Availability {
        Availability { gap: 100, is_there: text.chars().map(|it| it == '1').collect() }
    }

    const JOB: SpotJob =
        SpotJob { work: 400.0, deadline: 800.0, changeover: 50.0, spot_price: 0.25 };

    #[test]
    fn rules() {
        #[track_caller]
        fn check(policy: SpotPolicy, text: &str, finished: Option<f64>, cost: f64, changes: u32) {
            let outcome = JOB.run(policy, &trace(text), 0);
            assert_eq!((outcome.finished, outcome.changeovers), (finished, changes));
            assert!((outcome.cost - cost).abs() < 1e-9, "{outcome:?}");
        }
        use SpotPolicy::{FallBack, Greedy, OnDemand, SpotOnly, UniformProgress};
        // 450 s of on-demand time for 400 s of work.
        check(OnDemand, "11111111", Some(450.0), 450.0 / 400.0, 1);
        check(SpotOnly, "11111111", Some(450.0), 450.0 * 0.25 / 400.0, 1);
        check(SpotOnly, "1010", None, 200.0 * 0.25 / 400.0, 2);
        check(FallBack, "11000000", Some(500.0), (200.0 * 0.25 + 300.0) / 400.0, 2);
        // 400 s of work and two changeovers before 800: at 200 it is just not urgent for 100 s more.
        check(Greedy, "00000000", Some(750.0), 450.0 / 400.0, 1);
        check(Greedy, "00011111", Some(750.0), 450.0 / 400.0, 1);
        // Behind the even pace at 100, on demand until two changeovers ahead of it at 400, and from
        // 500 on for the deadline.
        check(UniformProgress, "00000000", Some(700.0), 500.0 / 400.0, 2);
        check(UniformProgress, "00111111", Some(600.0), (100.0 + 400.0 * 0.25) / 400.0, 2);
    }

    #[test]
    fn traces_are_read() {
        let text = br#"{"metadata": {"gap_seconds": 600}, "data": [0, 4, 16], "prices": []}"#;
        let read = |machines| Availability::read("t", text, machines).expect("right").is_there;
        assert_eq!(read(1), [false, true, true]);
        assert_eq!(read(5), [false, false, true]);
        for wrong in [
            "",
            "[]",
            r#"{"metadata": {}, "data": [1, 1]}"#,
            r#"{"metadata": {"gap_seconds": 0}, "data": [1, 1]}"#,
            r#"{"metadata": {"gap_seconds": 600}, "data": []}"#,
            r#"{"metadata": {"gap_seconds": 1e300}, "data": [1, 0]}"#,
        ] {
            let error = Availability::read("t", wrong.as_bytes(), 1).expect_err("wrong");
            assert!(error.to_string().starts_with("t "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn deadlines_are_kept(
            points in prop::collection::vec(any::<bool>(), 1..200),
            work in 100.0f64..4000.0,
            slack in 0.0f64..2.0,
            changeover in 0.0f64..100.0,
        ) {
            let availability = Availability { gap: 100, is_there: points };
            // Room for the points' grain and for three starts.
            let deadline = work * (1.0 + slack) + 3.0 * changeover + 300.0;
            let job = SpotJob { work, deadline, changeover, spot_price: 0.3 };
            use SpotPolicy::{Greedy, OnDemand, TimeSliced, UniformProgress};
            for policy in [OnDemand, Greedy, TimeSliced, UniformProgress] {
                let outcome = job.run(policy, &availability, 0);
                let finished = outcome.finished.expect("on-demand machines do not end");
                prop_assert!(finished <= deadline, "{policy:?} {finished} {deadline}");
                prop_assert!(outcome.cost > 0.0);
            }
        }
    }
}
