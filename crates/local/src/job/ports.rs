//! Ports by which workers of this machine meet.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// So many different ports of loopback that nobody listens on just now. Another program may take one
/// before a worker does; the job then fails, and starts again with others.
pub(crate) fn free_ports(count: u32) -> io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[test]
fn all_differ() {
    let mut ports = free_ports(50).unwrap();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 50);
}
