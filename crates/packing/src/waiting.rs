//! Pods that wait for room, by what they ask for.
//!
//! Where a pod finds no room, another with an equal request finds none either. So pods of a request
//! form a line of their own, and only the heads of the lines are looked at.

use std::collections::{BTreeMap, VecDeque};

use crate::request::Request;

/// Place in the order of all who wait; lower is earlier.
pub(crate) type Turn = i64;

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    lines: BTreeMap<Request, VecDeque<(Turn, usize)>>,
    count: usize,
    first: Turn,
    last: Turn,
}

impl Waiting {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Puts a pod behind all others.
    pub(crate) fn push_back(&mut self, request: Request, pod: usize) {
        self.last += 1;
        self.lines.entry(request).or_default().push_back((self.last, pod));
        self.count += 1;
    }

    /// Puts a pod before all others.
    pub(crate) fn push_front(&mut self, request: Request, pod: usize) {
        self.first -= 1;
        self.lines.entry(request).or_default().push_front((self.first, pod));
        self.count += 1;
    }

    /// The first pod of each request.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (Turn, Request)> {
        self.lines.iter().filter_map(|(request, line)| Some((line.front()?.0, *request)))
    }

    /// Takes the first pod of a request, and says whose turn is next among its equals.
    pub(crate) fn pop(&mut self, request: &Request) -> Option<(usize, Option<Turn>)> {
        let line = self.lines.get_mut(request)?;
        let (_, pod) = line.pop_front()?;
        self.count -= 1;
        let next = line.front().map(|(turn, _)| *turn);
        if next.is_none() {
            self.lines.remove(request);
        }
        Some((pod, next))
    }
}

#[test]
fn turns_are_kept() {
    use crate::request::{GpuRequest, ModelSet};
    let request = |cpu_milli| Request {
        cpu_milli,
        memory_mib: 0,
        gpu: GpuRequest::None,
        models: ModelSet::ANY,
    };
    let (a, b) = (request(1), request(2));
    let mut waiting = Waiting::default();
    waiting.push_back(b, 0);
    waiting.push_back(a, 1);
    waiting.push_back(b, 2);
    waiting.push_front(a, 3);
    assert_eq!(waiting.heads().collect::<Vec<_>>(), [(-1, a), (1, b)]);
    assert_eq!(waiting.pop(&a), Some((3, Some(2))));
    assert_eq!(waiting.pop(&b), Some((0, Some(3))));
    assert_eq!((waiting.pop(&b), waiting.pop(&b)), (Some((2, None)), None));
    assert_eq!((waiting.count(), waiting.heads().count()), (1, 1));
}
