//! When a program is asked for its next checkpoint, so that an interruption costs no more than the job's
//! interval. Pure.
//!
//! What an interruption costs is the time since the state that the newest durable checkpoint holds. Just
//! before a checkpoint becomes durable that is the time since the one before was asked for, and what this one
//! took from being asked for to being durable. So the next one is asked for an interval after the last, less
//! what one takes. If that is more than half of the interval, no pace keeps it, and the best is to ask as
//! soon as the last one may be durable.

use std::collections::VecDeque;
use std::time::Duration;

/// Checkpoints of whose durations the longest counts for the next one.
const RECENT: usize = 4;
/// Found, and not durable yet; older ones are overtaken.
const UNDER_WAY: usize = 16;
/// A checkpoint takes longer than the one before by this part of it, and by the time between two looks of
/// the agent.
const MARGIN: u32 = 4;
const LOOKS: Duration = Duration::from_secs(1);

/// What there is to say of the pace, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remark {
    /// The program was asked, and for an interval no checkpoint came.
    NoAnswer,
    /// A checkpoint takes so long that twice of it is more than the interval.
    TooSlow(Duration),
}

/// Times are since the Unix epoch.
#[derive(Debug)]
pub(super) struct Pace {
    /// None where the program alone decides.
    interval: Option<Duration>,
    /// When the first progress was seen: what comes before it, every start does anew.
    going: Option<Duration>,
    /// When the state was taken of the newest checkpoint that was found; the start, before there is one.
    state: Duration,
    /// The same of the newest that is durable.
    durable: Duration,
    /// When the program was asked first and last since it has answered.
    asked: Option<(Duration, Duration)>,
    /// When the newest one was begun that was found.
    newest: Option<Duration>,
    /// Of each found: when it was begun, and when its state was taken.
    under_way: VecDeque<(Duration, Duration)>,
    /// Of the last that became durable: the time from their state on.
    took: VecDeque<Duration>,
    has_said: [bool; 2],
}

impl Pace {
    /// Of a program that starts now, with what it goes on from.
    pub(super) fn new(interval: Option<Duration>, now: Duration) -> Self {
        Self {
            interval,
            going: None,
            state: now,
            durable: now,
            asked: None,
            newest: None,
            under_way: VecDeque::new(),
            took: VecDeque::new(),
            has_said: [false; 2],
        }
    }

    /// The program has shown progress; the same may be said again.
    pub(super) fn is_going(&mut self, now: Duration) {
        if self.going.is_none() {
            self.going = Some(now);
            if self.took.is_empty() {
                self.durable = now;
            }
        }
    }

    /// A complete checkpoint is there that was begun then; the same may be said again.
    pub(super) fn found(&mut self, begun: Duration) {
        if self.newest.is_some_and(|newest| begun <= newest) {
            return;
        }
        self.newest = Some(begun);
        // Its state is not older than the request, which the program may have found when it began.
        let answer = self.asked.filter(|(first, _)| *first <= begun);
        if answer.is_some() {
            self.asked = None;
        }
        let asked = answer.map_or(begun, |(first, _)| first);
        let state = asked.max(self.going.unwrap_or_default()).min(begun);
        self.state = self.state.max(state);
        self.under_way.push_back((begun, self.state));
        if self.under_way.len() > UNDER_WAY {
            self.under_way.pop_front();
        }
    }

    /// The newest durable one was begun at that time; the same may be said again.
    pub(super) fn is_durable(&mut self, begun: Duration, now: Duration) {
        let Some(at) = self.under_way.iter().rposition(|it| it.0 <= begun) else { return };
        let Some((_, state)) = self.under_way.drain(..=at).next_back() else { return };
        self.durable = state;
        self.took.push_back(now.saturating_sub(state));
        if self.took.len() > RECENT {
            self.took.pop_front();
        }
    }

    /// What is lost of the program's time if all of its disk goes now.
    pub(super) fn at_risk(&self, now: Duration) -> Duration {
        now.saturating_sub(self.durable)
    }

    /// Whether the program is to be asked now, which is then noted.
    pub(super) fn asks(&mut self, now: Duration) -> bool {
        let Some(interval) = self.interval else { return false };
        let gap = match self.cost() {
            // Nobody knows yet what one takes.
            None => interval / 2,
            Some(cost) => interval.saturating_sub(cost).max(cost),
        };
        let last = self.asked.map_or(self.state, |(_, last)| last.max(self.state));
        let is_due = now >= last.saturating_add(gap);
        if is_due {
            let first = self.asked.map_or(now, |(first, _)| first);
            self.asked = Some((first, now));
        }
        is_due
    }

    /// What people should know, if they were not told before.
    pub(super) fn remark(&mut self, now: Duration) -> Option<Remark> {
        let interval = self.interval?;
        let is_late = |(first, _): (Duration, Duration)| now.saturating_sub(first) > interval;
        let cost = self.cost().filter(|cost| cost.saturating_mul(2) > interval);
        let remarks = [
            self.asked.is_some_and(is_late).then_some(Remark::NoAnswer),
            cost.map(Remark::TooSlow),
        ];
        let (said, remark) =
            self.has_said.iter_mut().zip(remarks).find(|(said, it)| !**said && it.is_some())?;
        *said = true;
        remark
    }

    /// What the next checkpoint is expected to take, from the request until it is durable.
    fn cost(&self) -> Option<Duration> {
        let longest = *self.took.iter().max()?;
        Some(longest.saturating_add(longest / MARGIN).saturating_add(LOOKS))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(1_000_000 + ms)
    }

    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    #[test]
    fn the_next_is_durable_when_the_interval_is_over() {
        let mut pace = Pace::new(MINUTE, at(0));
        assert!(!pace.asks(at(29_999)));
        assert!(pace.asks(at(30_000)));
        assert!(!pace.asks(at(30_500)));
        pace.found(at(31_000));
        pace.found(at(31_000));
        pace.is_durable(at(31_000), at(38_000));
        pace.is_durable(at(31_000), at(39_000));
        assert_eq!(pace.at_risk(at(38_000)), Duration::from_secs(8));
        // It took 8 s, and the next may take 11.
        assert!(!pace.asks(at(78_999)));
        assert!(pace.asks(at(79_000)));
        assert_eq!(pace.remark(at(79_000)), None);
    }

    #[test]
    fn a_program_that_saves_by_itself_is_not_asked() {
        let mut pace = Pace::new(MINUTE, at(0));
        for round in 0..10 {
            let begun = at(20_000 * (round + 1));
            assert!(!pace.asks(begun));
            pace.found(begun);
            pace.is_durable(begun, begun + Duration::from_secs(3));
        }
        // Nor is one asked whose job has no interval.
        let mut pace = Pace::new(None, at(0));
        assert!(!pace.asks(at(86_400_000)));
        assert_eq!(pace.remark(at(86_400_000)), None);
    }

    #[test]
    fn a_slow_start_says_nothing_of_checkpoints() {
        let mut pace = Pace::new(MINUTE, at(0));
        assert!(pace.asks(at(30_000)));
        pace.is_going(at(50_000));
        assert_eq!(pace.at_risk(at(51_000)), Duration::from_secs(1));
        pace.found(at(51_000));
        pace.is_durable(at(51_000), at(58_000));
        // It took 8 s, and not 28.
        assert!(!pace.asks(at(98_999)));
        assert!(pace.asks(at(99_000)));
    }

    #[test]
    fn what_was_begun_before_the_request_is_no_answer() {
        let mut pace = Pace::new(MINUTE, at(0));
        assert!(pace.asks(at(30_000)));
        pace.found(at(29_000));
        assert_eq!(pace.remark(at(90_001)), Some(Remark::NoAnswer));
        let mut pace = Pace::new(MINUTE, at(0));
        assert!(pace.asks(at(30_000)));
        pace.found(at(30_000));
        assert_eq!(pace.remark(at(90_001)), None);
    }

    #[test]
    fn what_cannot_be_kept_is_said_once() {
        let mut pace = Pace::new(MINUTE, at(0));
        assert!(pace.asks(at(30_000)));
        pace.found(at(31_000));
        pace.is_durable(at(31_000), at(70_000));
        let slow = Remark::TooSlow(Duration::from_secs(51));
        assert_eq!(pace.remark(at(70_000)), Some(slow));
        assert_eq!(pace.remark(at(70_500)), None);
        // No sooner than the last one may be durable.
        assert!(!pace.asks(at(80_000)));
        assert!(pace.asks(at(81_000)));
        assert_eq!(pace.remark(at(141_000)), None);
        assert_eq!(pace.remark(at(141_001)), Some(Remark::NoAnswer));
        assert_eq!(pace.remark(at(190_000)), None);
    }

    proptest! {
        /// Steps, writing and uploads that vary by a quarter, and take less than a third of the interval.
        #[test]
        fn no_more_is_at_risk_than_an_interval(
            interval in 10_000u64..600_000,
            parts in (0u64..60, 0u64..120, 1u64..120),
            noise in prop::collection::vec(0u64..250, 64),
            own in prop::option::of(1u64..400),
        ) {
            let (step, write, upload) = parts;
            let of = |part: u64| interval * part / 1000;
            let mut noise = noise.into_iter().cycle();
            let mut vary = |time: u64| time - time * noise.next().unwrap_or(0) / 1000;
            let mut pace = Pace::new(Some(Duration::from_millis(interval)), at(0));
            // When the state was taken, when it is complete, and durable.
            let mut current: Option<(u64, u64, u64)> = None;
            let mut wanted: Option<u64> = None;
            let (mut durable, mut own_at) = (0, own.map(of));
            let mut count = 0;
            for now in (0..interval * 20).step_by(500) {
                if own_at.is_some_and(|it| it <= now) && current.is_none() {
                    wanted.get_or_insert(now);
                    own_at = own.map(|it| now + of(it).max(500));
                }
                if current.is_none() && wanted.is_some_and(|it| it <= now) {
                    let complete = now + vary(of(write));
                    current = Some((now, complete, complete + vary(of(upload))));
                    wanted = None;
                }
                if let Some((state, complete, saved)) = current {
                    if complete <= now {
                        pace.found(at(state));
                    }
                    if saved <= now {
                        pace.is_durable(at(state), at(now));
                        (durable, current) = (state, None);
                        count += 1;
                    }
                }
                if pace.asks(at(now)) {
                    let answers = now + vary(of(step));
                    wanted = Some(wanted.map_or(answers, |it| it.min(answers)));
                }
                prop_assert!(pace.at_risk(at(now)) >= Duration::from_millis(now - durable));
                prop_assert!(now - durable <= interval, "{} of {interval} ms at {now}", now - durable);
            }
            prop_assert!(count >= 19, "{count}");
        }
    }
}
