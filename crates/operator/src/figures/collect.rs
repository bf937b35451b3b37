//! The operator's side: a connection to each gateway.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::{Api, Client};
use kube_runtime::reflector::store;
use kube_runtime::watcher::{Config, Event, watcher};
use kube_runtime::{WatchStreamExt, reflector};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use trainyard_control::autoscale::Sample;
use trainyard_control::rollout::Evidence;

use super::report::Report;
use super::serve::PATH;
use super::tally::{Health, Tally};
use crate::backoff;
use crate::key::ResourceKey;
use crate::names::{GATEWAY_REPORT, REPORT_PORT_NAME};

/// For a connection inside a cluster, and for the first word over it.
const CONNECT: Duration = Duration::from_secs(3);
/// A gateway speaks each second.
const SILENCE: Duration = Duration::from_secs(5);
/// Longest line: ten thousand services under load have about 2 MB.
const LONGEST_LINE: usize = 64 << 20;

/// What gateways count, as far as they have said it.
#[derive(Debug)]
pub(crate) struct Loads {
    tally: Mutex<Tally>,
    start: Instant,
    /// Requests are held somewhere.
    pub(crate) held: Notify,
}

impl Default for Loads {
    fn default() -> Self {
        Self { tally: Mutex::default(), start: Instant::now(), held: Notify::new() }
    }
}

impl Loads {
    /// The time of its samples.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The load of a service; none if no gateway speaks.
    pub(crate) fn sample(&self, key: &ResourceKey) -> Option<Sample> {
        self.lock().sample(&key.to_string(), self.now())
    }

    pub(crate) fn evidence(&self, key: &ResourceKey, revision: &str) -> Evidence {
        self.lock().evidence(&key.to_string(), revision, self.now())
    }

    /// Forgets how revisions answered that are none of these.
    pub(crate) fn keep_revisions(&self, key: &ResourceKey, revisions: &[String]) {
        let is_known = |name: &str| revisions.iter().any(|known| known == name);
        self.lock().keep_revisions(&key.to_string(), is_known);
    }

    pub(crate) fn health(&self) -> Health {
        self.lock().health(self.now())
    }

    /// What is due from time to time: percentiles need readings of the past.
    pub(crate) fn mark(&self) {
        self.lock().mark(self.now());
    }

    /// Forgets services that there are no more.
    pub(crate) fn keep(&self, is_known: impl Fn(&str) -> bool) {
        self.lock().keep(is_known);
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens to every gateway of a namespace, for ever.
pub(crate) async fn collect(client: Client, namespace: String, loads: Arc<Loads>) {
    let api: Api<EndpointSlice> = Api::namespaced(client, &namespace);
    let selector = format!("kubernetes.io/service-name={GATEWAY_REPORT}");
    let (reader, writer) = store();
    let events = watcher(api, Config::default().labels(&selector)).default_backoff();
    let mut events = std::pin::pin!(reflector(writer, events));
    let mut tasks = JoinSet::new();
    let mut listening: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => {}
            Ok(Event::Init | Event::InitApply(_)) => continue,
            Err(error) => {
                tracing::warn!(%error, "the watch of the gateways was interrupted");
                continue;
            }
        }
        while tasks.try_join_next().is_some() {}
        let there: HashSet<SocketAddr> =
            reader.state().iter().flat_map(|slice| addresses(slice)).collect();
        loads.lock().known(&there, loads.now());
        listening.retain(|address, task| {
            let stays = there.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for address in there {
            listening.entry(address).or_insert_with(|| tasks.spawn(listen(address, loads.clone())));
        }
    }
}

/// Gateways that answer, also those that are about to end: they still have requests.
fn addresses(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let ports = slice.ports.iter().flatten();
    let port = ports
        .filter(|port| port.name.as_deref() == Some(REPORT_PORT_NAME))
        .find_map(|port| u16::try_from(port.port?).ok());
    let Some(port) = port else { return Vec::new() };
    let serving = slice.endpoints.iter().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let serving = conditions.and_then(|it| it.serving.or(it.ready));
        serving != Some(false)
    });
    let addresses = serving.filter_map(|it| it.addresses.first()?.parse::<IpAddr>().ok());
    addresses.map(|address| SocketAddr::new(address, port)).collect()
}

/// Listens to one gateway, for ever.
async fn listen(address: SocketAddr, loads: Arc<Loads>) {
    let mut failures = 0u32;
    loop {
        let error = match hear(address, &loads).await {
            Ok(()) => {
                failures = 0;
                "it ended the connection".to_owned()
            }
            Err(error) => error,
        };
        tracing::debug!(%address, error, "a gateway is not heard");
        loads.lock().lost(address, error);
        failures = failures.saturating_add(1);
        // A pod that has just become ready may need a moment; one that does not answer is not
        // asked more often than it would speak.
        let delay = backoff::delay(failures, backoff::jitter()).min(Duration::from_secs(5));
        tokio::time::sleep(delay).await;
    }
}

/// Hears one gateway until its connection ends. An error if it said nothing at all, or nonsense.
async fn hear(address: SocketAddr, loads: &Loads) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let connect = timeout(CONNECT, TcpStream::connect(address)).await;
    let stream = connect.map_err(|_| "no connection in time".to_owned())?.map_err(|e| text(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
    let request = hyper::Request::get(PATH)
        .header(hyper::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|e| text(&e))?;
    let read = async {
        let answer = timeout(CONNECT, sender.send_request(request)).await;
        let answer = answer.map_err(|_| "no answer in time".to_owned())?.map_err(|e| text(&e))?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let mut body = answer.into_body();
        let mut line = Vec::new();
        loop {
            let frame = timeout(SILENCE, body.frame()).await;
            let Some(frame) = frame.map_err(|_| "it fell silent".to_owned())? else {
                return Ok(());
            };
            let Ok(data) = frame.map_err(|e| text(&e))?.into_data() else { continue };
            for part in data.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.len() > LONGEST_LINE {
                    return Err(format!("a line of more than {LONGEST_LINE} bytes"));
                }
                if line.last() != Some(&b'\n') {
                    continue;
                }
                let report: Report = serde_json::from_slice(&line).map_err(|e| text(&e))?;
                line.clear();
                let is_held = loads.lock().hear(address, report, loads.now());
                if is_held {
                    loads.held.notify_one();
                }
            }
        }
    };
    tokio::select! {
        read = read => read,
        // Its end is the end of the body, which the reader sees.
        ended = connection => ended.map_err(|e| text(&e)),
    }
}
