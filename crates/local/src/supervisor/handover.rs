//! Handing over to a new supervisor: the listening socket and the lock go through a Unix socket
//! that is the new one's standard input; all else is in the history.
//!
//! 1. The old one lets go of its replicas, which go on, and starts the new one.
//! 2. The new one takes the descriptors, adopts the replicas, serves, and says so.
//! 3. The old one stops accepting, finishes what is in flight, and closes the channel.
//! 4. The new one, which until then has ended no replica, may do so now.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::state_dir::StateDir;

/// Adopting takes milliseconds; a program that cannot even say so is not the one to hand over to.
const READY: Duration = Duration::from_secs(20);

/// The new supervisor's end of the channel.
pub(super) struct Channel(tokio::net::UnixStream);

impl Channel {
    /// Says that everything is taken over and served.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        self.0.write_all(b"ready").await
    }

    /// Waits until the old supervisor has no request in flight.
    pub(super) async fn drained(&mut self) {
        // Its end is what counts, however it comes.
        let _ = self.0.read(&mut [0]).await;
    }
}

/// What a supervisor was started with by the one before.
pub struct Inherited(UnixStream);

/// What was handed over.
pub(super) struct Handed {
    pub(super) listener: TcpListener,
    pub(super) lock: File,
    pub(super) channel: Channel,
}

impl Inherited {
    /// Standard input, which the old supervisor has made the channel.
    pub fn from_stdin() -> io::Result<Self> {
        Ok(Self(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?)))
    }

    pub(super) async fn receive(self) -> io::Result<Handed> {
        let stream = self.0;
        let received = tokio::task::spawn_blocking(move || {
            stream.set_read_timeout(Some(READY))?;
            let descriptors = receive_two(&stream)?;
            Ok::<_, io::Error>((stream, descriptors))
        });
        let (stream, (listener, lock)) = received.await.map_err(io::Error::other)??;
        stream.set_read_timeout(None)?;
        stream.set_nonblocking(true)?;
        Ok(Handed {
            listener: TcpListener::from(listener),
            lock: File::from(lock),
            channel: Channel(tokio::net::UnixStream::from_std(stream)?),
        })
    }
}

fn receive_two(stream: &UnixStream) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
    let mut descriptors = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    match (descriptors.next(), descriptors.next()) {
        (Some(listener), Some(lock)) => Ok((listener, lock)),
        _ => Err(io::Error::other("no socket was handed over")),
    }
}

/// The old supervisor's end: closing it says that nothing is in flight here any more.
pub(super) struct Handing {
    _channel: tokio::net::UnixStream,
}

/// Starts the new supervisor and waits until it serves. On an error it is ended, and nothing has
/// changed hands.
pub(super) async fn hand_over(
    exe: &Path,
    state: &StateDir,
    env: &[(String, OsString)],
    listener: &TcpListener,
    lock: &File,
    access_log: bool,
) -> io::Result<Handing> {
    let (ours, theirs) = UnixStream::pair()?;
    let log = File::options().create(true).append(true).open(state.supervisor_log())?;
    let mut child = Command::new(exe)
        .args(["up", "--take-over", "--state-dir"])
        .arg(state.root())
        .args(access_log.then_some("--access-log"))
        // What this one was told, or has found for its replicas, holds for the next one too.
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C at our terminal is ours to pass on.
        .process_group(0)
        .spawn()?;
    match send_and_wait(ours, listener, lock).await {
        Ok(channel) => {
            // It lives longer than we do; until we end, its status is collected by nobody.
            std::thread::spawn(move || child.wait());
            Ok(Handing { _channel: channel })
        }
        Err(error) => {
            end(&mut child);
            Err(error)
        }
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

async fn send_and_wait(
    ours: UnixStream,
    listener: &TcpListener,
    lock: &File,
) -> io::Result<tokio::net::UnixStream> {
    let descriptors = [listener.as_fd(), lock.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("two descriptors do not fit their own space"));
    }
    sendmsg(&ours, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    (&ours).flush()?;
    ours.set_nonblocking(true)?;
    let mut channel = tokio::net::UnixStream::from_std(ours)?;
    let mut word = [0; 5];
    match tokio::time::timeout(READY, channel.read_exact(&mut word)).await {
        Ok(Ok(_)) if &word == b"ready" => Ok(channel),
        Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        Ok(_) => Err(io::Error::other("the new supervisor ended; see its log")),
        Err(_) => {
            Err(io::Error::other(format!("the new supervisor does not serve within {READY:?}")))
        }
    }
}
