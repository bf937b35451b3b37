//! How many replicas requests ask for: the autoscalers of all services that go by them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use trainyard_control::autoscale::{Autoscaler, Replicas, Windows};
use trainyard_plan::Scaling;

use crate::figures::{Health, Loads};
use crate::key::ResourceKey;
use crate::queue::Queue;
use crate::status::News;
use crate::world::World;

/// How often demand is looked at. Requests that are held are seen at once.
const PERIOD: Duration = Duration::from_secs(1);
/// Samples come each second; a shorter window would hold none.
const SHORTEST_WINDOW: Duration = Duration::from_secs(3);
/// How often services that are gone are forgotten, in periods.
const FORGET_EVERY: u32 = 60;

/// The autoscalers. They start anew with the operator, and then wait for a whole window before they
/// take anything away.
#[derive(Debug)]
pub(crate) struct Scalers {
    known: Mutex<HashMap<ResourceKey, Scaled>>,
    loads: Arc<Loads>,
    windows: Windows,
}

#[derive(Debug)]
struct Scaled {
    scaling: Scaling,
    scaler: Autoscaler,
    ready: u32,
    wanted: u32,
    news: Option<News>,
}

/// What a service should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) wanted: u32,
    /// That this is new.
    pub(crate) news: Option<News>,
}

impl Scalers {
    /// Demand is averaged over `window`, and bursts are judged by a tenth of it.
    pub(crate) fn new(loads: Arc<Loads>, window: Duration) -> Self {
        let panic = (window / 10).max(SHORTEST_WINDOW);
        let windows = Windows { stable: window.max(panic), panic, ..Windows::default() };
        Self { known: Mutex::default(), loads, windows }
    }

    /// Tells of a service, and takes what it should have. `current` is what it has been given
    /// before; none for a new one, which starts once so that its first request does not meet a
    /// model that cannot load.
    pub(crate) fn follow(
        &self,
        key: &ResourceKey,
        scaling: &Scaling,
        ready: u32,
        current: Option<u32>,
    ) -> Followed {
        let mut known = self.lock();
        let scaled = known.entry(key.clone()).or_insert_with(|| Scaled {
            scaling: scaling.clone(),
            scaler: Autoscaler::new(self.windows),
            ready,
            wanted: current.unwrap_or(scaling.min.max(1)),
            news: None,
        });
        if scaled.scaling != *scaling {
            scaled.scaling = scaling.clone();
        }
        scaled.ready = ready;
        scaled.wanted = scaled.wanted.max(scaling.min).min(scaling.max);
        Followed { wanted: scaled.wanted, news: scaled.news.take() }
    }

    pub(crate) fn forget(&self, key: &ResourceKey) {
        self.lock().remove(key);
    }

    /// Another operator acts.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Decides anew, of all services or of those at zero only. Returns those whose count changed.
    fn look(&self, only_at_zero: bool) -> Vec<ResourceKey> {
        let (health, now) = (self.loads.health(), self.loads.now());
        let mut changed = Vec::new();
        for (key, scaled) in self.lock().iter_mut() {
            if only_at_zero && scaled.wanted > 0 {
                continue;
            }
            if let Some(sample) = self.loads.sample(key) {
                scaled.scaler.observe(sample);
            }
            let ready = scaled.ready.min(scaled.wanted);
            let have = Replicas { ready, starting: scaled.wanted.saturating_sub(ready) };
            let decision = scaled.scaler.decide(&scaled.scaling, have, now);
            let (mut wanted, mut reason) = (decision.replicas, decision.reason.as_str());
            if health != Health::Whole {
                // Requests at a gateway that is not heard count too.
                wanted = wanted.max(scaled.wanted);
            }
            if wanted == 0 && scaled.scaling.max > 0 && matches!(health, Health::Unreadable(_)) {
                // Nobody would tell that requests wait.
                (wanted, reason) = (1, "GatewayUnreadable");
            }
            if wanted == scaled.wanted {
                continue;
            }
            let note = format!("from {} to {wanted} replicas", scaled.wanted);
            scaled.news = Some(News { is_warning: false, reason: reason.to_owned(), note });
            scaled.wanted = wanted;
            changed.push(key.clone());
        }
        changed
    }

    fn followed(&self) -> Vec<ResourceKey> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceKey, Scaled>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at demand again and again, and wakes the services whose count changes.
pub(crate) async fn watch_demand(
    scalers: Arc<Scalers>,
    loads: Arc<Loads>,
    queue: Arc<Queue>,
    world: Arc<World>,
) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut count, mut was_unreadable) = (0u32, false);
    loop {
        let changed = tokio::select! {
            _ = ticks.tick() => {
                count = count.wrapping_add(1);
                loads.mark();
                let is_unreadable = matches!(loads.health(), Health::Unreadable(_));
                let mut changed = scalers.look(false);
                if is_unreadable != was_unreadable {
                    was_unreadable = is_unreadable;
                    // Their statuses say so.
                    changed.extend(scalers.followed());
                }
                changed
            }
            () = loads.held.notified() => scalers.look(true),
        };
        for key in changed {
            queue.add(key);
        }
        if count % FORGET_EVERY == FORGET_EVERY - 1 {
            let known: HashSet<String> =
                world.declared().iter().map(ResourceKey::to_string).collect();
            loads.keep(|name| known.contains(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALING: Scaling = Scaling {
        min: 0,
        max: 4,
        concurrency: Some(1.0),
        max_concurrency: None,
        rps: None,
        cpu: None,
        memory: None,
        gpu: None,
        scale_to_zero_after: Duration::from_secs(300),
    };

    fn key() -> ResourceKey {
        ResourceKey::service("default", "iris")
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_service_starts_once_and_an_old_one_keeps_what_it_has() {
        let scalers = Scalers::new(Arc::default(), Duration::from_secs(60));
        assert_eq!(scalers.follow(&key(), &SCALING, 0, None).wanted, 1);
        scalers.forget(&key());
        assert_eq!(scalers.follow(&key(), &SCALING, 0, Some(0)).wanted, 0);
        // Nothing is known of requests: nothing changes.
        assert!(scalers.look(false).is_empty());
        let narrower = Scaling { min: 2, ..SCALING };
        assert_eq!(scalers.follow(&key(), &narrower, 0, Some(0)).wanted, 2);
        scalers.clear();
        assert!(scalers.followed().is_empty());
    }
}
