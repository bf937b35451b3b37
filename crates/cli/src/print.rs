//! Standard output, whose reader may have seen enough.
//!
//! Rust ignores SIGPIPE, and must where sockets are served; so each command prints through here,
//! where `println!` would panic.

use std::io::{ErrorKind, Write};

use crate::failure::failure;

/// Prints an answer. Where its reader is gone, such as `head`, the process ends: nothing is left
/// to do for anybody.
pub(crate) fn print(bytes: &[u8]) -> miette::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(failure),
    }
}

/// Prints an answer and ends its last line.
pub(crate) fn print_line(text: &str) -> miette::Result<()> {
    print(format!("{text}\n").as_bytes())
}
