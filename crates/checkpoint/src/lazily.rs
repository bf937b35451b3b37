//! Work that is begun piece by piece, as earlier pieces end.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, Iter};

/// The pieces as a stream to buffer. Their types are hidden, since the compiler cannot see that futures
/// of closures over borrowed items may go to other threads.
pub(crate) fn lazily<'a, T: 'a>(
    work: impl Iterator<Item = BoxFuture<'a, T>> + Send + 'a,
) -> Iter<Box<dyn Iterator<Item = BoxFuture<'a, T>> + Send + 'a>> {
    stream::iter(Box::new(work) as Box<dyn Iterator<Item = BoxFuture<'a, T>> + Send + 'a>)
}
