//! Requests that wait for a replica, first come, first served.
//!
//! Only the head of the queue tries for a replica. Whoever leaves the head, served or not, wakes
//! the next, so a free replica serves one request after the other rather than a herd at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicUsize,
    places: Mutex<VecDeque<Arc<Notify>>>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Stands in line behind all others; `None` if `max` wait already.
    pub(crate) fn join(&self, max: usize) -> Option<Place<'_>> {
        let mut places = self.lock();
        if places.len() >= max {
            return None;
        }
        let turn = Arc::new(Notify::new());
        places.push_back(turn.clone());
        self.waiting.store(places.len(), Ordering::SeqCst);
        Some(Place { queue: self, turn })
    }

    /// Tells the head that a replica may be free. Costs one load while nobody waits.
    pub(crate) fn wake(&self) {
        if self.len() > 0
            && let Some(head) = self.lock().front()
        {
            head.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        // The guarded code cannot panic half way, so a poisoned lock holds a sound queue.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line; left when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    queue: &'a Queue,
    turn: Arc<Notify>,
}

impl Place<'_> {
    pub(crate) fn is_head(&self) -> bool {
        self.queue.lock().front().is_some_and(|head| Arc::ptr_eq(head, &self.turn))
    }

    /// Waits until it is worth while to look again. Cancel-safe.
    pub(crate) async fn turn(&self) {
        self.turn.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.queue.lock();
        let was_head = places.front().is_some_and(|head| Arc::ptr_eq(head, &self.turn));
        places.retain(|place| !Arc::ptr_eq(place, &self.turn));
        self.queue.waiting.store(places.len(), Ordering::SeqCst);
        if was_head && let Some(next) = places.front() {
            next.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_come_first_served_and_bounded() {
        let queue = Queue::default();
        let first = queue.join(2).unwrap();
        let second = queue.join(2).unwrap();
        assert!(queue.join(2).is_none());
        assert!(first.is_head() && !second.is_head());
        queue.wake();
        first.turn().await;
        drop(first);
        second.turn().await;
        assert!(second.is_head());
        assert_eq!(queue.len(), 1);
    }

    #[tokio::test]
    async fn who_gives_up_in_the_middle_wakes_nobody() {
        let queue = Queue::default();
        let first = queue.join(9).unwrap();
        let second = queue.join(9).unwrap();
        let third = queue.join(9).unwrap();
        drop(second);
        let woken = tokio::time::timeout(std::time::Duration::from_millis(1), third.turn()).await;
        assert!(woken.is_err());
        drop(first);
        third.turn().await;
    }
}
