//! A layer around every request: nobody waits for ever for a server that has taken a request and
//! does not answer.
//!
//! Reconciles have deadlines of their own; this is above all for watches and their lists, whose
//! client waits without end otherwise.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tower::{BoxError, Layer, Service};
use tower_http::timeout::TimeoutBody;

/// The API server answers a list within seconds, and begins a watch at once.
const HEAD: Duration = Duration::from_secs(30);
/// Between two pieces of an answer that is under way.
const PIECE: Duration = Duration::from_secs(30);
/// The API server sends each watch a bookmark about once a minute: two are missing.
const QUIET_WATCH: Duration = Duration::from_secs(150);

/// The server has not begun to answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", HEAD.as_secs())]
struct NoAnswer;

/// Makes [`Patient`] services.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience;

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Patient { inner }
    }
}

/// A service whose requests fail when nothing comes any more.
#[derive(Debug, Clone)]
pub(super) struct Patient<S> {
    inner: S,
}

impl<S, A, B> Service<Request<A>> for Patient<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<TimeoutBody<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let longest_pause = longest_pause(request.uri().query().unwrap_or_default());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = tokio::time::timeout(HEAD, answer).await.map_err(|_| NoAnswer)?;
            Ok(answer.map_err(Into::into)?.map(|body| TimeoutBody::new(longest_pause, body)))
        })
    }
}

/// How long an answer to a request with this query may pause.
fn longest_pause(query: &str) -> Duration {
    let asks = |what| query.split('&').any(|part| part == what);
    if asks("watch=true") {
        QUIET_WATCH
    } else if asks("follow=true") {
        // A log that nothing is written to.
        Duration::MAX
    } else {
        PIECE
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::StreamExt;
    use k8s_openapi::api::core::v1::Pod;
    use kube_client::{Api, Config};
    use kube_runtime::WatchStreamExt;
    use kube_runtime::watcher::{self, Event, watcher};
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::cluster::client::with_config;
    use crate::settings::RequestRate;

    /// What a server does with a request.
    #[derive(Clone, Copy)]
    enum Answer {
        Never,
        Half,
        List,
        /// The head of a watch, and nothing after it.
        Quiet,
    }

    /// Takes a request on each connection and answers the n-th as told. Holds all of them open.
    async fn serve(listener: TcpListener, answers: Vec<Answer>) {
        let mut held = Vec::new();
        for answer in answers {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            read_head(&mut connection).await;
            let list = json!({
                "apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"},
                "items": [{"metadata": {"name": "a", "resourceVersion": "5"}}],
            })
            .to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let sized = format!("{head}Content-Length: {}\r\n\r\n", list.len());
            let text = match answer {
                Answer::Never => String::new(),
                Answer::Half => sized + &list[..list.len() / 2],
                Answer::List => sized + &list,
                Answer::Quiet => format!("{head}Transfer-Encoding: chunked\r\n\r\n"),
            };
            connection.write_all(text.as_bytes()).await.expect("written");
            held.push(connection);
        }
        std::future::pending::<()>().await;
    }

    async fn read_head(connection: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.expect("a request"));
        }
    }

    /// What a watch of pods sees of such a server, until so many things have happened.
    async fn seen(answers: &[Answer], count: usize) -> Vec<&'static str> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let config = Config::new(format!("http://{address}").parse().expect("an address"));
        let client = with_config(config, RequestRate::default()).expect("a client").client;
        let server = tokio::spawn(serve(listener, answers.to_vec()));
        let events = watcher(Api::<Pod>::all(client), watcher::Config::default());
        let events = pin!(events.default_backoff());
        let events = events.take(count).map(|event| match event {
            Ok(Event::Init) => "begin",
            Ok(Event::InitApply(_)) => "object",
            Ok(Event::InitDone) => "listed",
            Ok(Event::Apply(_) | Event::Delete(_)) => "change",
            Err(watcher::Error::InitialListFailed(_)) => "no list",
            Err(watcher::Error::WatchStartFailed(_)) => "no watch",
            Err(_) => "cut",
        });
        // In virtual time, which runs on when nothing comes.
        let seen = tokio::time::timeout(Duration::from_secs(600), events.collect()).await;
        server.abort();
        seen.expect("the watch goes on")
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_not_answered_is_asked_for_again() {
        use Answer::{Half, List, Never, Quiet};
        let answers = [Never, Half, List, Quiet];
        let expected = ["begin", "no list", "begin", "no list", "begin", "object", "listed"];
        assert_eq!(seen(&answers, 7).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_dead_is_begun_again() {
        use Answer::{List, Never, Quiet};
        let answers = [List, Never, Quiet, Quiet];
        let expected = ["begin", "object", "listed", "no watch", "cut"];
        assert_eq!(seen(&answers, 5).await, expected);
    }

    #[test]
    fn streams_may_pause_longer() {
        assert_eq!(longest_pause("limit=50&watch=true"), QUIET_WATCH);
        assert_eq!(longest_pause("follow=true"), Duration::MAX);
        assert_eq!(longest_pause("watch=false&limit=5"), PIECE);
        assert_eq!(longest_pause(""), PIECE);
    }
}
