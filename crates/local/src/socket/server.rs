//! The supervisor's end.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::path::ShortPath;
use super::protocol::{Hello, PROTOCOL, Reply, Request};
use crate::status::Status;

/// A request that waits for the supervisor's answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// A request is a line of paths and names.
const LONGEST_REQUEST: u64 = 1 << 20;
/// A client that connects and says nothing.
const HELLO: Duration = Duration::from_secs(10);

/// Makes the socket, in place of one that a supervisor left which was killed. The caller holds the
/// lock of the state folder.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let short = ShortPath::of(path)?;
    let listener = UnixListener::bind(&short.path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `stop` is cancelled; then answers that are under way are finished.
pub(crate) async fn serve(
    listener: UnixListener,
    asked: mpsc::Sender<Asked>,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                clients.spawn(client(stream, asked.clone(), status.clone(), stop.clone()));
            }
            // Out of descriptors: wait for some to be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
    Ok(())
}

async fn client(
    stream: UnixStream,
    asked: mpsc::Sender<Asked>,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(LONGEST_REQUEST));
    match tokio::time::timeout(HELLO, reader.read_line(&mut line)).await {
        Ok(Ok(1..)) => {}
        _ => return,
    }
    let reply = match read_request(&line) {
        Ok(Request::Watch) => return watch_status(reader, writer, status, stop).await,
        Ok(request) => answer(request, &asked).await,
        Err(reply) => reply,
    };
    let _ = send(&mut writer, &reply).await;
}

fn read_request(line: &str) -> Result<Request, Reply> {
    let refuse = |problem: String| Reply::Failed { problems: vec![problem] };
    let hello: Hello = serde_json::from_str(line)
        .map_err(|error| refuse(format!("the request is not understood: {error}")))?;
    // Handing over is how an old supervisor makes room for a new program, so that one request has
    // to be understood by every version.
    let is_handover = hello.request.get("ask").is_some_and(|ask| ask == "handover");
    if hello.protocol != PROTOCOL && !is_handover {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        return Err(Reply::Unfit { protocol: PROTOCOL, version });
    }
    serde_json::from_value(hello.request)
        .map_err(|error| refuse(format!("the request is not understood: {error}")))
}

async fn answer(request: Request, asked: &mpsc::Sender<Asked>) -> Reply {
    let (reply, answered) = oneshot::channel();
    let gone = || Reply::Failed { problems: vec!["the supervisor is ending".to_owned()] };
    if asked.send(Asked { request, reply }).await.is_err() {
        return gone();
    }
    answered.await.unwrap_or_else(|_| gone())
}

async fn watch_status(
    mut reader: impl tokio::io::AsyncRead + Unpin,
    mut writer: impl tokio::io::AsyncWrite + Unpin,
    mut status: watch::Receiver<Status>,
    stop: CancellationToken,
) {
    loop {
        let now = status.borrow_and_update().clone();
        if send(&mut writer, &Reply::Status(Box::new(now))).await.is_err() {
            return;
        }
        let mut byte = [0];
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            // The client has gone.
            _ = reader.read(&mut byte) => return,
            () = stop.cancelled() => return,
        }
    }
}

async fn send(writer: &mut (impl tokio::io::AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(io::Error::other)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
