//! A socket with its two buffers, and a timer that is cheap to move.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Room that is made for a head and a small body, and below which it is made anew. While parts of
/// a message are in use, making room means another allocation; so there is room for many messages.
const ROOM: usize = 8 << 10;
const LEAST_ROOM: usize = 1 << 10;
/// The same while a long body passes.
const ROOM_LONG: usize = 64 << 10;
const LEAST_ROOM_LONG: usize = 16 << 10;
/// A buffer that grew beyond this is given back once it is empty.
const KEEP: usize = 32 << 10;

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) input: BytesMut,
    pub(crate) output: BytesMut,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new() }
    }

    /// Reads what is there; 0 means that the other side has finished.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.fill(cx, LEAST_ROOM, ROOM)
    }

    /// As `poll_fill`, with more room.
    pub(crate) fn poll_fill_long(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.fill(cx, LEAST_ROOM_LONG, ROOM_LONG)
    }

    fn fill(&mut self, cx: &mut Context<'_>, least: usize, room: usize) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < least {
            self.input.reserve(room);
        }
        // Stateless until it is ready, so it may be made anew at each poll.
        pin!(self.stream.read_buf(&mut self.input)).poll(cx)
    }

    /// Writes all of `output`.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(pin!(self.stream.write(&self.output)).poll(cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written == self.output.len() {
                self.output.clear();
            } else {
                self.output.advance(written);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives long buffers back; to be called where the connection may rest.
    pub(crate) fn slim(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > KEEP {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Whether the other side has closed, or sent something that nobody asked for.
    pub(crate) fn is_stale(&self) -> bool {
        let mut byte = [0];
        let quiet = matches!(
            self.stream.try_read(&mut byte),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock
        );
        !quiet || !self.input.is_empty()
    }
}

/// Wakes its task at a moment that each poll names anew.
///
/// A later moment costs nothing: the timer fires at the earlier one, sees that it is not due, and
/// goes on. A connection that is busy thus sets its timer once in minutes, not at each request.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    pub(crate) fn new(due: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(due.into())) }
    }

    pub(crate) fn poll_due(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        if due < self.sleep.deadline().into_std() {
            self.sleep.as_mut().reset(due.into());
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due.into());
        }
    }
}
