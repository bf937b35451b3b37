//! Header maps that were read and done with, kept for the next heads that this thread reads.
//!
//! A map allocates twice, and a request that is passed on has two of them: on a proxy's path that
//! is more than all else that is allocated.

use std::cell::RefCell;

use http::HeaderMap;

/// So many are kept by a thread. More than one at a time are used only while requests wait.
const KEPT: usize = 64;
/// A map with room for more is not kept.
const LARGEST: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map.
pub(super) fn take() -> HeaderMap {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps the room of a map whose headers nobody needs any more.
pub(crate) fn put(mut headers: HeaderMap) {
    let room = headers.capacity();
    if room == 0 || room > LARGEST {
        return;
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < KEPT {
            headers.clear();
            spare.push(headers);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_kept_map_is_empty_and_has_room() {
        let mut headers = HeaderMap::with_capacity(8);
        headers.append("a", HeaderValue::from_static("1"));
        headers.append("a", HeaderValue::from_static("2"));
        let room = headers.capacity();
        put(headers);
        let again = take();
        assert_eq!((again.len(), again.capacity()), (0, room));
        assert_eq!(take().capacity(), 0);
    }

    #[test]
    fn large_maps_and_too_many_are_let_go() {
        put(HeaderMap::with_capacity(1_000));
        assert_eq!(take().capacity(), 0);
        (0..2 * KEPT).for_each(|_| put(HeaderMap::with_capacity(8)));
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
    }
}
