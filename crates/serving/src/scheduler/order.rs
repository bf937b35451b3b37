//! Holds answers back until all that arrived before them have left.

use std::collections::BTreeMap;

/// Answers by sequence of arrival; `None` while one is still due.
pub(crate) struct Order<A> {
    due: BTreeMap<u64, Option<A>>,
}

impl<A> Order<A> {
    pub(crate) fn new() -> Self {
        Self { due: BTreeMap::new() }
    }

    /// A request that arrived.
    pub(crate) fn expect(&mut self, sequence: u64) {
        self.due.insert(sequence, None);
    }

    /// One that was answered; returns the answers that may leave, in order.
    pub(crate) fn answer(&mut self, sequence: u64, answer: A) -> Vec<A> {
        self.due.insert(sequence, Some(answer));
        self.release()
    }

    /// One that will have no answer; returns the answers that may leave, in order.
    pub(crate) fn forget(&mut self, sequence: u64) -> Vec<A> {
        self.due.remove(&sequence);
        self.release()
    }

    fn release(&mut self) -> Vec<A> {
        let mut leaving = Vec::new();
        while let Some(first) = self.due.first_entry() {
            if first.get().is_none() {
                break;
            }
            leaving.extend(first.remove());
        }
        leaving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_order_of_arrival() {
        let mut order = Order::new();
        (0..5).for_each(|sequence| order.expect(sequence));
        assert!(order.answer(2, "c").is_empty());
        assert!(order.answer(1, "b").is_empty());
        assert_eq!(order.answer(0, "a"), ["a", "b", "c"]);
        assert!(order.answer(4, "e").is_empty());
        assert_eq!(order.forget(3), ["e"]);
        assert!(order.due.is_empty());
    }
}
