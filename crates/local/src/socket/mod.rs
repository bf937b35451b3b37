//! How commands talk to a supervisor: one line of JSON each way over a Unix socket.

mod client;
mod path;
mod protocol;
mod server;

pub use client::{Client, ClientError};
pub use protocol::{Applied, PROTOCOL, Reply, Request};
pub(crate) use server::{Asked, bind, serve};
