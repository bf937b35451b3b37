//! Where a replica listens: a port that we choose, or one that it reports.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde::Deserialize;

#[derive(Deserialize)]
struct Report {
    address: SocketAddr,
}

/// Reads an address file: `{"address": "HOST:PORT"}`, or `HOST:PORT` alone.
///
/// `None` for a file that is not whole yet, or never will be.
pub(crate) fn parse(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let reported = match serde_json::from_str::<Report>(text) {
        Ok(report) => report.address,
        Err(_) => text.parse().ok()?,
    };
    if reported.port() == 0 {
        return None;
    }
    // Who listens on every address is reached on this machine's own.
    match reported.ip().is_unspecified() {
        true => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, reported.port()))),
        false => Some(reported),
    }
}

/// A port of loopback that nobody listens on just now. Another program may take it before the
/// replica does; the replica then fails, and starts again with another one.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                parse(text).map(|address| address.to_string()).as_deref(),
                expected,
                "{text}"
            );
        };
        check(r#"{"address": "127.0.0.1:4000"}"#, Some("127.0.0.1:4000"));
        check(r#"{"address": "127.0.0.1:4000", "pid": 3}"#, Some("127.0.0.1:4000"));
        check("127.0.0.1:4000\n", Some("127.0.0.1:4000"));
        check("0.0.0.0:4000", Some("127.0.0.1:4000"));
        check("[::]:4000", Some("127.0.0.1:4000"));
        check("127.0.0.1:0", None);
        check(r#"{"address": "127.0.0."#, None);
        check("", None);
    }
}
