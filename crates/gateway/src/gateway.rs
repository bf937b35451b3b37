//! The gateway as its owner sees it.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::load::ServiceLoad;
use crate::settings::Settings;
use crate::state::{EndpointState, Routing};
use crate::table::Table;

/// A proxy in front of services. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    routing: ArcSwap<Routing>,
    /// Endpoints that left the table, until they have drained.
    leaving: Mutex<HashMap<Arc<str>, Arc<EndpointState>>>,
    wanted: Mutex<BTreeSet<Arc<str>>>,
    wanted_changed: Notify,
    registry: Mutex<Registry>,
    idle: Mutex<HashMap<std::net::SocketAddr, Vec<http1::SendRequest<Incoming>>>>,
    connections: TaskTracker,
}

impl Gateway {
    /// Makes a gateway with an empty table.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            routing: ArcSwap::default(),
            leaving: Mutex::default(),
            wanted: Mutex::default(),
            wanted_changed: Notify::new(),
            registry: Mutex::new(Registry::default()),
            idle: Mutex::default(),
            connections: TaskTracker::new(),
        })
    }

    /// Replaces the table. Requests under way keep the endpoints that they have.
    pub fn update(&self, table: &Table) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.routing.load();
        let next = before.next(table, Instant::now());
        for (id, endpoint) in &before.endpoints {
            if !next.endpoints.contains_key(id) {
                leaving.insert(id.clone(), endpoint.clone());
            }
        }
        self.routing.store(Arc::new(next));
    }

    /// Serves one listener until `stop` is cancelled, then lets connections finish.
    ///
    /// Returns once all connections have ended, at latest after [`Settings::drain_timeout`]. The
    /// listener may be shared with another process and may come from an inherited descriptor.
    pub async fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let Ok((stream, _)) = accepted else { continue };
            let gateway = self.clone();
            let stop = stop.clone();
            tasks.spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let gateway = gateway.clone();
                    async move { Ok::<_, Infallible>(gateway.forward(request).await) }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                tokio::pin!(connection);
                let result = tokio::select! {
                    result = connection.as_mut() => result,
                    () = stop.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
            });
        }
        tasks.close();
        let _ = tokio::time::timeout(self.settings.drain_timeout, tasks.wait()).await;
        Ok(())
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
    ) -> Response<BoxBody<Bytes, hyper::Error>> {
        let routing = self.routing.load_full();
        let Some((name, service)) = routing.services.first_key_value() else {
            return refuse(StatusCode::NOT_FOUND, "no service");
        };
        service.meter.enter(Instant::now());
        let endpoint = routing.choices.get(name).and_then(|choices| choices.first());
        let Some(visit) = endpoint.and_then(|e| e.enter().map(|visit| (visit, e.address))) else {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "no endpoint");
        };
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let Ok(uri) = path.parse() else {
            return refuse(StatusCode::BAD_REQUEST, "bad path");
        };
        *request.uri_mut() = uri;
        let response = self.exchange(visit.1, request).await;
        service.meter.leave(Instant::now());
        match response {
            Ok(response) => response.map(BodyExt::boxed),
            Err(_error) => refuse(StatusCode::BAD_GATEWAY, "upstream"),
        }
    }

    async fn exchange(
        &self,
        address: std::net::SocketAddr,
        request: Request<Incoming>,
    ) -> io::Result<Response<Incoming>> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().get_mut(&address).and_then(Vec::pop);
        let mut sender = match kept.filter(|sender| sender.is_ready()) {
            Some(sender) => sender,
            None => {
                let stream = tokio::net::TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let (sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
                self.connections.spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "upstream connection ended");
                    }
                });
                sender
            }
        };
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        idle().entry(address).or_default().push(sender);
        Ok(response)
    }

    /// How busy a service is; `None` if the table has no such service.
    pub fn observe(&self, service: &str) -> Option<ServiceLoad> {
        let routing = self.routing.load();
        let service = routing.services.get(service)?;
        Some(service.meter.read(0, Instant::now()))
    }

    /// Waits until requests are held for services without an endpoint; returns these services.
    ///
    /// Each is returned once for any number of requests since the last call. Cancel-safe.
    pub async fn wanted(&self) -> BTreeSet<Arc<str>> {
        loop {
            let changed = self.wanted_changed.notified();
            let mut wanted =
                std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
            if !wanted.is_empty() {
                return std::mem::take(&mut wanted);
            }
            changed.await;
        }
    }

    /// Waits until no request is in flight at an endpoint that has left the table.
    ///
    /// True if so within `deadline`, also for an endpoint that was never known. An endpoint that
    /// is still in the table gives false at once: it would get new requests.
    pub async fn drained(&self, endpoint: &str, deadline: Duration) -> bool {
        if self.routing.load().endpoints.contains_key(endpoint) {
            return false;
        }
        let state = {
            let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            leaving.get(endpoint).cloned()
        };
        let Some(state) = state else { return true };
        let done = tokio::time::timeout(deadline, state.drained()).await.is_ok();
        if done {
            self.leaving.lock().unwrap_or_else(PoisonError::into_inner).remove(endpoint);
        }
        done
    }

    /// The registry that `/metrics` shows; the owner may register its own metrics too.
    pub fn with_registry<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn refuse(status: StatusCode, text: &'static str) -> Response<BoxBody<Bytes, hyper::Error>> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}
