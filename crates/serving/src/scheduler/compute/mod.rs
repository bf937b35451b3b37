//! Threads that run models, shared fairly by all schedulers.

mod fair;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fair::Fair;
pub(crate) use fair::Id;

/// Threads that run models, shared fairly by all schedulers. Cheap to clone.
///
/// When the last clone is dropped, the threads end after what they are running.
#[derive(Clone)]
pub struct Compute {
    pool: Arc<Pool>,
}

/// What a free compute thread can do for one model.
pub(crate) enum Offer {
    /// Nothing, until the model is woken.
    Nothing,
    /// Nothing before this moment.
    Later(Instant),
    Run(Turn),
}

/// One execution.
pub(crate) struct Turn {
    pub(crate) run: Box<dyn FnOnce() + Send>,
    /// How long it will take, as far as known.
    pub(crate) expected: Duration,
    /// Whether another thread could run more of the same model at once.
    pub(crate) more: bool,
}

/// A model that wants compute time.
pub(crate) trait Source: Send + Sync {
    /// What it has to run now. Called again after each run, and by several threads at once.
    fn offer(&self, now: Instant) -> Offer;
}

struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    fair: Fair,
    sources: HashMap<Id, Arc<dyn Source>>,
    next_id: Id,
    stopping: bool,
}

impl Compute {
    /// Starts `threads` compute threads (at least one).
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared { state: Mutex::new(State::default()), wake: Condvar::new() });
        let threads = (0..threads.max(1))
            .map(|number| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("compute-{number}"))
                    .spawn(move || shared.work())
                    .expect("the system has room for the threads of one process")
            })
            .collect();
        Self { pool: Arc::new(Pool { shared, threads }) }
    }

    /// Lets a model take part.
    pub(crate) fn add(&self, source: Arc<dyn Source>) -> Id {
        let mut state = self.pool.shared.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.fair.add(id);
        state.sources.insert(id, source);
        id
    }

    pub(crate) fn remove(&self, id: Id) {
        let mut state = self.pool.shared.lock();
        state.fair.remove(id);
        let source = state.sources.remove(&id);
        drop(state);
        // Outside the lock, since it may free a model.
        drop(source);
    }

    /// Tells that the model may have something to run.
    pub(crate) fn wake(&self, id: Id) {
        self.pool.shared.lock().fair.mark_ready(id);
        self.pool.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of one thread.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.stopping {
                return;
            }
            let Some(id) = state.fair.next(now) else {
                state = self.sleep(state, now);
                continue;
            };
            let Some(source) = state.sources.get(&id).map(Arc::clone) else { continue };
            drop(state);
            let offer = source.offer(now);
            state = self.lock();
            match offer {
                Offer::Nothing => {}
                Offer::Later(at) => state.fair.set_timer(id, at),
                Offer::Run(turn) => {
                    let charge = state.fair.start(id, turn.expected);
                    if turn.more {
                        state.fair.mark_ready(id);
                        self.wake.notify_one();
                    }
                    drop(state);
                    let started = Instant::now();
                    (turn.run)();
                    let took = started.elapsed();
                    state = self.lock();
                    state.fair.end(id, charge, took);
                    state.fair.mark_ready(id);
                }
            }
            drop(state);
            // Outside the lock, since it may be the last to hold the model.
            drop(source);
            state = self.lock();
        }
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, now: Instant) -> MutexGuard<'a, State> {
        match state.fair.next_timer() {
            None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(at) => {
                let (state, _) = self
                    .wake
                    .wait_timeout(state, at.saturating_duration_since(now))
                    .unwrap_or_else(PoisonError::into_inner);
                state
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Has a number of runs left, each of which takes some time.
    struct Sleeper {
        name: &'static str,
        took: Duration,
        left: Mutex<u32>,
        log: mpsc::Sender<(&'static str, Duration)>,
    }

    impl Source for Sleeper {
        fn offer(&self, _: Instant) -> Offer {
            let mut left = self.left.lock().expect("no panic");
            if *left == 0 {
                return Offer::Nothing;
            }
            *left -= 1;
            let (name, took, log) = (self.name, self.took, self.log.clone());
            let run = Box::new(move || {
                let started = Instant::now();
                std::thread::sleep(took);
                log.send((name, started.elapsed())).expect("the test listens");
            });
            Offer::Run(Turn { run, expected: took, more: *left > 0 })
        }
    }

    #[test]
    fn a_slow_model_does_not_starve_a_fast_one() {
        let ms = Duration::from_millis(1);
        let (log, runs) = mpsc::channel();
        let compute = Compute::new(1);
        let ids = [("slow", 10, 20), ("fast", 1, 40)].map(|(name, took, runs)| {
            let log = log.clone();
            let left = Mutex::new(runs);
            compute.add(Arc::new(Sleeper { name, took: ms * took, left, log }))
        });
        for id in ids {
            compute.wake(id);
        }
        let (mut slow, mut longest, mut fast) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let mut n_fast = 0;
        while n_fast < 40 {
            let (name, took) = runs.recv_timeout(ms * 10_000).expect("goes on");
            if name == "slow" {
                (slow, longest) = (slow + took, longest.max(took));
            } else {
                (fast, n_fast) = (fast + took, n_fast + 1);
            }
        }
        // By turns it would be ten times as much.
        assert!(slow <= fast * 2 + longest * 2, "slow had {slow:?}, fast {fast:?}");
    }

    #[test]
    fn later_is_not_forgotten() {
        /// Wants to be asked once more.
        struct Once {
            asked: Mutex<u32>,
            done: mpsc::Sender<()>,
        }
        impl Source for Once {
            fn offer(&self, now: Instant) -> Offer {
                let mut asked = self.asked.lock().expect("no panic");
                *asked += 1;
                match *asked {
                    1 => Offer::Later(now + Duration::from_millis(5)),
                    2 => {
                        let done = self.done.clone();
                        let run = Box::new(move || done.send(()).expect("the test listens"));
                        Offer::Run(Turn { run, expected: Duration::ZERO, more: false })
                    }
                    _ => Offer::Nothing,
                }
            }
        }
        let (done, ran) = mpsc::channel();
        let compute = Compute::new(2);
        let id = compute.add(Arc::new(Once { asked: Mutex::new(0), done }));
        compute.wake(id);
        ran.recv_timeout(Duration::from_secs(10)).expect("it was asked again");
        compute.remove(id);
    }
}
