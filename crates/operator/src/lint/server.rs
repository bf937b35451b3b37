//! HTTPS for the API server, with a certificate that may change at any time.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, body::Body};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::timeout::TimeoutLayer;
use trainyard_rules::alone::Alone;

use super::review::{Mode, review};
use crate::metrics::Metrics;

/// The largest object that etcd takes is 1.5 MiB; a change brings two of them.
const LARGEST_REVIEW: usize = 4 << 20;
/// Connections at once: API servers keep a few open.
const MOST_CONNECTIONS: usize = 64;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// A request with its body and the answer. An API server waits 30 s for a webhook at most.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// The API server waits no longer for an answer.
const DRAIN: Duration = Duration::from_secs(5);

/// The certificate that is served with; none until there is one.
#[derive(Default)]
pub(super) struct Certificate(ArcSwapOption<CertifiedKey>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Why a certificate cannot be served with.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("the certificate or its key is not PEM")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("the key does not fit")]
    Key(#[from] rustls::Error),
}

impl Certificate {
    /// Serves with this one from now on.
    pub(super) fn set(&self, certificate: &str, key: &str) -> Result<(), CertificateError> {
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let key = CertifiedKey::from_der(chain, key, &provider())?;
        self.0.store(Some(Arc::new(key)));
        Ok(())
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// What requests are answered from.
#[derive(Clone)]
pub(super) struct State {
    pub(super) linter: Arc<ArcSwap<Alone>>,
    pub(super) metrics: Arc<Metrics>,
}

/// Answers until it is told to stop, and then what is asked already.
pub(super) async fn serve(
    listener: TcpListener,
    certificate: Arc<Certificate>,
    state: State,
    stop: CancellationToken,
) {
    let config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth().with_cert_resolver(certificate));
    let mut config = match config {
        Ok(config) => config,
        Err(error) => return tracing::error!(%error, "the lint webhook cannot use TLS"),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let router = router(state);
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(MOST_CONNECTIONS)));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly no file descriptor is left; some may be, a moment later.
                tracing::warn!(%error, "the lint webhook cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, router, watcher) = (acceptor.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let Ok(Ok(stream)) = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let router = router.clone();
                async move {
                    let answer = router.oneshot(request.map(Body::new)).await;
                    Ok::<_, Infallible>(answer.unwrap_or_else(|never| match never {}))
                }
            });
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
            builder.http2().timer(TokioTimer::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "a connection to the lint webhook broke");
            }
        });
    }
    let _ = timeout(DRAIN, graceful.shutdown()).await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Option<tokio::sync::OwnedSemaphorePermit>)> {
    // Never closed.
    let place = places.clone().acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

fn router(state: State) -> Router {
    Router::new()
        .route("/lint/audit", post(|state, body| answer(Mode::Audit, state, body)))
        .route("/lint/enforce", post(|state, body| answer(Mode::Enforce, state, body)))
        .layer(DefaultBodyLimit::max(LARGEST_REVIEW))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, ANSWERED_WITHIN))
        .with_state(state)
}

async fn answer(mode: Mode, Shared(state): Shared<State>, body: Bytes) -> Response {
    let linter = state.linter.load_full();
    // Some milliseconds of work for a large object.
    let reviewed = tokio::task::spawn_blocking(move || review(&body, mode, &linter)).await;
    let reviewed = match reviewed {
        Ok(reviewed) => reviewed,
        Err(error) => {
            tracing::error!(%error, "a review broke; the API server lets the object through");
            return (StatusCode::INTERNAL_SERVER_ERROR, "the review broke\n").into_response();
        }
    };
    match reviewed {
        Ok((review, outcome)) => {
            state.metrics.reviewed(mode.name(), outcome.name());
            ([(header::CONTENT_TYPE, "application/json")], review.to_string()).into_response()
        }
        Err(error) => {
            let text = format!("the body is no AdmissionReview: {error}\n");
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use trainyard_rules::Profile;

    use super::*;

    async fn status(body: Body) -> StatusCode {
        let linter = Arc::new(ArcSwap::from_pointee(Alone::new(Profile::Generic, None)));
        let state = State { linter, metrics: Arc::default() };
        let request = Request::post("/lint/audit").body(body).expect("a request");
        router(state).oneshot(request).await.unwrap_or_else(|never| match never {}).status()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_not_waited_for() {
        let endless = futures_util::stream::pending::<Result<Bytes, Infallible>>();
        assert_eq!(status(Body::from_stream(endless)).await, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn bodies_that_are_no_review_are_refused() {
        assert_eq!(status(Body::from("{")).await, StatusCode::BAD_REQUEST);
        let large = Body::from(vec![b' '; LARGEST_REVIEW + 1]);
        assert_eq!(status(large).await, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
