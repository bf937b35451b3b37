//! Work on all cores.

use std::num::NonZero;
use std::thread;

/// What a function makes of runs of items, in the order of the items: one run for each core, and
/// none shorter than `least`, so that a thread is worth its start.
pub(crate) fn map_runs<T: Sync, R: Send>(
    items: &[T],
    least: usize,
    function: impl Fn(&[T]) -> R + Sync,
) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let runs = cores.min(items.len() / least.max(1)).max(1);
    map_each(items.chunks(items.len().div_ceil(runs).max(1)), function)
}

fn map_each<'t, T: Sync + 't, R: Send>(
    mut runs: impl Iterator<Item = &'t [T]>,
    function: impl Fn(&[T]) -> R + Sync,
) -> Vec<R> {
    let Some(first) = runs.next() else { return Vec::new() };
    thread::scope(|scope| {
        let function = &function;
        let others: Vec<_> = runs.map(|run| scope.spawn(move || function(run))).collect();
        let mut results = vec![function(first)];
        results.extend(others.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        results
    })
}

/// Results of two functions, at one time if that is worth a thread.
pub(crate) fn both<A: Send, B: Send>(
    is_worth_a_thread: bool,
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    if !is_worth_a_thread {
        return (first(), second());
    }
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        match first.join() {
            Ok(first) => (first, second),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..1000).collect();
        for length in [1, 7, 999, 1000, 1001] {
            let runs = map_each(items.chunks(length), <[u32]>::to_vec);
            assert_eq!(runs.len(), 1000_usize.div_ceil(length));
            assert_eq!(runs.concat(), items);
        }
        assert_eq!(map_runs(&items, 1, <[u32]>::to_vec).concat(), items);
        assert_eq!(map_runs(&items, 501, <[u32]>::len), [1000]);
        assert_eq!(both(true, || 1, || 'a'), (1, 'a'));
        assert_eq!(both(false, || 1, || 'a'), (1, 'a'));
        assert!(map_runs(&[], 0, <[u32]>::len).is_empty());
    }
}
