//! Standard output, whose reader may have seen enough.

use std::io::{ErrorKind, Write};

use crate::failure::failure;

/// Prints an answer. A reader that is gone, such as `head`, is no failure.
pub(crate) fn print(bytes: &[u8]) -> miette::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(failure),
    }
}

/// Prints an answer and ends its last line.
pub(crate) fn print_line(text: &str) -> miette::Result<()> {
    print(format!("{text}\n").as_bytes())
}
