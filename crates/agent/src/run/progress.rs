//! Whether a program gets on, how fast, and how much of its time was of use. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use super::report::{Kept, Seen};

/// Reports that the speed is computed from.
const RECENT: usize = 64;
/// ... and how old they may be, but for two.
const WINDOW: Duration = Duration::from_secs(60);

/// What a program says: both are optional, and saying nothing is a sign of life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub(super) struct Beat {
    #[serde(default)]
    pub(super) step: Option<u64>,
    #[serde(default)]
    pub(super) loss: Option<f64>,
}

impl Beat {
    /// The content of a heartbeat file. What is not understood, as while it is being written, is a
    /// sign of life all the same.
    pub(super) fn parse(text: &str) -> Self {
        serde_json::from_str(text.trim()).unwrap_or_default()
    }

    /// What a line says, if it matches.
    pub(super) fn of_line(pattern: &regex::Regex, line: &str) -> Option<Self> {
        let found = pattern.captures(line)?;
        let group = |name: &str| found.name(name).map(|group| group.as_str());
        Some(Self {
            step: group("step").and_then(|text| text.parse().ok()),
            loss: group("loss").and_then(|text| text.parse().ok()),
        })
    }
}

/// Reports so far. Times are since the Unix epoch.
#[derive(Debug)]
pub(super) struct Progress {
    started: Duration,
    last: Option<Duration>,
    step: Option<u64>,
    loss: Option<f64>,
    recent: VecDeque<(Duration, u64)>,
    kept: Kept,
}

impl Progress {
    /// Of a program that starts now; `kept` is what attempts before it had reached.
    pub(super) fn new(now: Duration, kept: Option<Kept>) -> Self {
        let since_ms = millis(now);
        let kept = kept.unwrap_or(Kept { since_ms, productive_ms: 0, best_step: None });
        Self { started: now, last: None, step: None, loss: None, recent: VecDeque::new(), kept }
    }

    pub(super) fn beat(&mut self, now: Duration, beat: Beat) {
        let before = self.last.replace(now);
        self.loss = beat.loss.or(self.loss);
        let Some(step) = beat.step else { return };
        if self.step.is_some_and(|before| step < before) {
            // It has gone back, and is no faster for that.
            self.recent.clear();
        }
        self.step = Some(step);
        self.recent.push_back((now, step));
        let is_old = |at: Duration| now.saturating_sub(at) > WINDOW;
        while self.recent.len() > RECENT
            || self.recent.len() > 2 && self.recent.front().is_some_and(|(at, _)| is_old(*at))
        {
            self.recent.pop_front();
        }
        // Steps that another attempt had done already are lost time.
        if self.kept.best_step.is_none_or(|best| step > best) {
            self.kept.best_step = Some(step);
            let took = before.map_or(Duration::ZERO, |before| now.saturating_sub(before));
            self.kept.productive_ms = self.kept.productive_ms.saturating_add(millis(took));
        }
    }

    /// How long nothing has been seen of progress.
    pub(super) fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last.unwrap_or(self.started))
    }

    pub(super) fn kept(&self) -> Kept {
        self.kept
    }

    /// As it is reported; none before the first sign of life.
    pub(super) fn seen(&self, now: Duration) -> Option<Seen> {
        let last = self.last?;
        let since = millis(now).saturating_sub(self.kept.since_ms).max(1);
        let goodput = self.kept.best_step.map(|_| self.kept.productive_ms as f64 / since as f64);
        Some(Seen {
            step: self.step,
            loss: self.loss.filter(|loss| loss.is_finite()),
            steps_per_second: self.steps_per_second(),
            goodput: goodput.map(|goodput| goodput.clamp(0.0, 1.0)),
            at_ms: millis(last),
        })
    }

    fn steps_per_second(&self) -> Option<f64> {
        let ((begin, first), (end, last)) = (self.recent.front()?, self.recent.back()?);
        let took = end.saturating_sub(*begin).as_secs_f64();
        (took > 0.0).then(|| last.saturating_sub(*first) as f64 / took)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn step(step: u64) -> Beat {
        Beat { step: Some(step), loss: None }
    }

    #[test]
    fn speed_and_goodput() {
        let mut progress = Progress::new(at(100), None);
        assert_eq!(progress.seen(at(100)), None);
        assert_eq!(progress.silent_for(at(103)), at(3));
        for second in 0..=20 {
            progress.beat(at(110 + second), step(second * 5));
        }
        let seen = progress.seen(at(140)).expect("it has said something");
        assert_eq!((seen.step, seen.steps_per_second), (Some(100), Some(5.0)));
        // 20 of 40 seconds.
        assert_eq!(seen.goodput, Some(0.5));
        assert_eq!(progress.silent_for(at(140)), at(10));
    }

    #[test]
    fn what_is_done_again_is_lost_time() {
        let mut first = Progress::new(at(0), None);
        for second in 0..=10 {
            first.beat(at(second), step(second));
        }
        // The second attempt begins at step 5, and is at 15 after ten seconds.
        let mut second = Progress::new(at(10), Some(first.kept()));
        for turn in 0..=10 {
            second.beat(at(10 + turn), step(5 + turn));
        }
        let goodput = second.seen(at(20)).and_then(|seen| seen.goodput);
        assert_eq!(goodput, Some(0.75));
    }

    #[test]
    fn going_back_is_no_negative_speed() {
        let mut progress = Progress::new(at(0), None);
        progress.beat(at(1), step(100));
        progress.beat(at(2), step(3));
        progress.beat(at(3), step(4));
        assert_eq!(progress.seen(at(3)).and_then(|seen| seen.steps_per_second), Some(1.0));
        progress.beat(at(4), Beat { step: None, loss: Some(f64::NAN) });
        assert_eq!(progress.seen(at(4)).and_then(|seen| seen.loss), None);
    }

    #[test]
    fn beats_are_read() {
        let beat = |step, loss| Beat { step, loss };
        assert_eq!(
            Beat::parse("{\"step\": 3, \"loss\": 0.5, \"more\": []}\n"),
            beat(Some(3), Some(0.5))
        );
        assert_eq!(Beat::parse("{\"step\": 3"), beat(None, None));
        assert_eq!(Beat::parse(""), beat(None, None));
        let pattern = regex::Regex::new(r"step (?P<step>\d+).*loss=(?P<loss>\S+)").unwrap();
        let of = |line| Beat::of_line(&pattern, line);
        assert_eq!(of("step 7 of 9, loss=1.5e-3"), Some(beat(Some(7), Some(0.0015))));
        assert_eq!(of("step 99999999999999999999 loss=x"), Some(beat(None, None)));
        assert_eq!(of("epoch 3"), None);
    }
}
