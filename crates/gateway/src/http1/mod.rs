//! HTTP/1.1 over a socket, for both sides of the gateway.
//!
//! hyper hands each message from the task of one connection to that of another; on one thread that
//! costs more than the rest of a proxy's work. Here one task owns the client's socket and, for the
//! time of a request, a replica's. Messages are always parsed and written anew, never relayed as
//! bytes, so that both sides agree where each one ends.

mod body;
mod head;
pub(crate) mod spare;
mod wire;

pub(crate) use body::{Decoder, Framing, Step, write_chunk, write_last_chunk};
pub(crate) use head::{
    BadHead, RequestHead, ResponseHead, read_request, read_response, write_headers,
};
pub(crate) use wire::{Timer, Wire};
