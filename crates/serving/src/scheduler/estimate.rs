//! Running averages of how long things take, readable without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::verify::SingleRun;

/// An exponentially weighted average of durations; the newest sample counts one eighth.
///
/// A sample counts for at most twice the average, so that one run during which the thread lost its
/// core does not change what is known about a model, while a run of slow ones does.
#[derive(Debug, Default)]
pub(crate) struct Average {
    /// 0: no sample yet.
    nanoseconds: AtomicU64,
}

impl Average {
    pub(crate) fn starting_at(first: Option<Duration>) -> Self {
        let average = Self::default();
        if let Some(first) = first {
            average.nanoseconds.store(nanoseconds(first), Ordering::Relaxed);
        }
        average
    }

    /// Two threads may read the same old value, and one sample is lost: nobody is harmed.
    pub(crate) fn add(&self, sample: Duration) {
        let old = self.nanoseconds.load(Ordering::Relaxed);
        let sample = nanoseconds(sample);
        let new = if old == 0 {
            sample
        } else {
            let sample = sample.min(old.saturating_mul(2));
            // Rounded up, so that a small average can still grow.
            (old.saturating_mul(7).saturating_add(sample)).div_ceil(8)
        };
        self.nanoseconds.store(new, Ordering::Relaxed);
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        match self.nanoseconds.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }
}

/// How long a request takes alone, by its size.
#[derive(Debug, Default)]
pub(crate) struct RunTime {
    run: Average,
    /// Elements of inputs of a usual request, averaged like the time (one a nanosecond).
    size: Average,
}

impl RunTime {
    pub(crate) fn starting_at(first: Option<SingleRun>) -> Self {
        Self {
            run: Average::starting_at(first.map(|first| first.time)),
            size: Average::starting_at(first.map(|first| as_duration(first.elements))),
        }
    }

    pub(crate) fn add(&self, size: usize, took: Duration) {
        self.run.add(took);
        self.size.add(as_duration(size));
    }

    /// At least the average, and in proportion for requests that are larger than usual.
    pub(crate) fn expect(&self, size: usize) -> Option<Duration> {
        let run = self.run.duration()?;
        let usual = self.size.duration().unwrap_or_else(|| as_duration(size)).as_nanos().max(1);
        let size = as_duration(size).as_nanos().max(usual);
        let scaled = run.as_nanos().saturating_mul(size) / usual;
        Some(Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX)))
    }
}

fn as_duration(size: usize) -> Duration {
    Duration::from_nanos(u64::try_from(size).unwrap_or(u64::MAX))
}

/// Never 0, which means "no sample".
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn follows_slowly_and_forgives_an_outlier() {
        let average = Average::default();
        assert_eq!(average.duration(), None);
        average.add(US * 16);
        assert_eq!(average.duration(), Some(US * 16));
        average.add(US * 4000);
        assert_eq!(average.duration(), Some(US * 18));
        for _ in 0..60 {
            average.add(US * 4000);
        }
        assert!(average.duration() > Some(US * 3000), "{average:?}");
        for _ in 0..60 {
            average.add(US * 16);
        }
        assert!(average.duration() < Some(US * 20), "{average:?}");
    }

    #[test]
    fn larger_requests_are_expected_to_take_longer() {
        let times = RunTime::default();
        assert_eq!(times.expect(4), None);
        times.add(4, US * 10);
        assert_eq!(times.expect(1), Some(US * 10));
        assert_eq!(times.expect(4), Some(US * 10));
        assert_eq!(times.expect(400), Some(US * 1000));
        let measured = RunTime::starting_at(Some(SingleRun { time: US, elements: 7 }));
        assert_eq!((measured.expect(7), measured.expect(14)), (Some(US), Some(US * 2)));
    }
}
