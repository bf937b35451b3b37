//! The side of the clients: connections, and which HTTP version each speaks.

mod body;
mod h1;
mod h2;
mod rewind;
mod serve;

pub(crate) use body::FrontBody;
pub(crate) use serve::serve;
