//! What replicas print.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::io::{AsyncBufRead, AsyncBufReadExt};
use futures_util::stream::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube_client::Api;
use kube_client::api::LogParams;
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{Config, Error, Event, watcher};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use trainyard_plan::kubernetes::WORKER_CONTAINER;

use super::{Console, ConsoleError};

/// Which logs, and how much of them.
#[derive(Debug, Clone)]
pub struct LogRequest {
    pub service: String,
    /// Of this replica only.
    pub replica: Option<String>,
    pub containers: Containers,
    /// Go on as more is printed, also by replicas that start later.
    pub follow: bool,
    /// Of the container that ran before the present one.
    pub previous: bool,
    /// At most so many of each container's last lines; all for `None`.
    pub tail: Option<i64>,
    /// Only what was printed in the last so many seconds.
    pub since_seconds: Option<i64>,
    pub timestamps: bool,
}

/// Which containers of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Containers {
    /// The server.
    Main,
    Named(String),
    All,
}

/// One line of a log, or something about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Printed {
        replica: String,
        container: String,
        bytes: Vec<u8>,
    },
    /// Why there is no log, for people.
    Note(String),
}

/// The container that serves.
const MAIN: &str = "server";
/// Lines that wait to be printed; when it is full, reading waits.
const WAITING: usize = 256;
/// A longer line is cut into several: a program that never ends its line must not fill the memory.
const LONGEST_LINE: usize = 256 << 10;

impl Console {
    /// The replicas and containers whose logs a request is for, in the order of their creation.
    /// That there is no service of that name is an error; that it has no replica is not.
    pub async fn sources(
        &self,
        request: &LogRequest,
    ) -> Result<Vec<(String, String)>, ConsoleError> {
        let mut pods = self.pods(Some(&request.service)).await?;
        if pods.is_empty() {
            self.service(&request.service).await?;
        }
        pods.sort_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created, pod.metadata.name.clone())
        });
        let sources = pods.iter().flat_map(|pod| {
            let name = pod.metadata.name.clone().unwrap_or_default();
            wanted(pod, request).into_iter().map(move |container| (name.clone(), container.name))
        });
        Ok(sources.collect())
    }

    /// Gives every line to `take`, until it returns false, or to the end of the logs.
    pub async fn logs(
        &self,
        request: &LogRequest,
        mut take: impl FnMut(Line) -> bool,
    ) -> Result<(), ConsoleError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.home());
        // Full: the readers wait, and the API server with them.
        let (tx, mut rx) = mpsc::channel(WAITING);
        if !request.follow {
            let sources = self.sources(request).await?;
            let read = async {
                for (pod, container) in sources {
                    read(&pods, pod, container, params(request, true), &tx).await?;
                }
                drop(tx);
                Ok::<(), ConsoleError>(())
            };
            let taken = async {
                while let Some(line) = rx.recv().await {
                    if !take(line) {
                        return;
                    }
                }
            };
            let (read, taken) = (pin!(read), pin!(taken));
            return match futures_util::future::select(read, taken).await {
                futures_util::future::Either::Left((read, taken)) => {
                    read?;
                    taken.await;
                    Ok(())
                }
                futures_util::future::Either::Right(_) => Ok(()),
            };
        }
        // That it is there at all is told at once.
        self.sources(request).await?;
        let config = Config::default().labels(&self.selector(Some(&request.service)));
        let mut events = pin!(watcher(pods.clone(), config).default_backoff());
        let mut readers: JoinSet<Result<(), ConsoleError>> = JoinSet::new();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut is_first = true;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => {
                        for container in wanted(&pod, request) {
                            let Some(run) = container.run.filter(|run| seen.insert(run.clone())) else {
                                continue;
                            };
                            tracing::debug!(run, "a container's log is followed");
                            let params = LogParams {
                                container: Some(container.name.clone()), ..params(request, is_first)
                            };
                            let name = pod.metadata.name.clone().unwrap_or_default();
                            let (pods, tx) = (pods.clone(), tx.clone());
                            readers.spawn(async move {
                                read(&pods, name, container.name, params, &tx).await
                            });
                        }
                    }
                    Some(Ok(Event::InitDone)) => is_first = false,
                    Some(Err(Error::InitialListFailed(error) | Error::WatchStartFailed(error))) => {
                        let error = ConsoleError::of("watch the replicas' pods", error);
                        if matches!(error, ConsoleError::Forbidden { .. }) {
                            return Err(error);
                        }
                    }
                    Some(Ok(Event::Init | Event::Delete(_)) | Err(_)) => {}
                    None => return Ok(()),
                },
                Some(line) = rx.recv() => if !take(line) {
                    return Ok(());
                },
                Some(ended) = readers.join_next() => if let Ok(Err(error)) = ended {
                    return Err(error);
                },
            }
        }
    }
}

fn params(request: &LogRequest, is_first: bool) -> LogParams {
    LogParams {
        follow: request.follow,
        previous: request.previous,
        // Of what starts later, nothing is old.
        tail_lines: request.tail.filter(|_| is_first),
        since_seconds: request.since_seconds.filter(|_| is_first),
        timestamps: request.timestamps,
        ..LogParams::default()
    }
}

/// A container whose log is asked for.
struct Wanted {
    name: String,
    /// The container itself, which is another after each restart; none before it has started.
    run: Option<String>,
}

fn wanted(pod: &Pod, request: &LogRequest) -> Vec<Wanted> {
    let name = pod.metadata.name.as_deref();
    if request.replica.as_deref().is_some_and(|only| name != Some(only)) {
        return Vec::new();
    }
    let spec = pod.spec.iter().flat_map(|spec| {
        spec.init_containers.iter().flatten().chain(&spec.containers).map(|it| it.name.as_str())
    });
    let status = pod.status.as_ref();
    let run = |name: &str| {
        let all = status.into_iter().flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten())
        });
        let found = all.into_iter().find(|container| container.name == name)?;
        let state = found.state.as_ref()?;
        let has_started = state.running.is_some() || state.terminated.is_some();
        found.container_id.clone().filter(|_| has_started)
    };
    let is_wanted = |container: &str| match &request.containers {
        Containers::Main => [MAIN, WORKER_CONTAINER].contains(&container),
        Containers::Named(name) => container == name,
        Containers::All => true,
    };
    let names = spec.filter(|container| is_wanted(container));
    names.map(|name| Wanted { name: name.to_owned(), run: run(name) }).collect()
}

/// Reads one log to its end. That a container has no log is a note.
async fn read(
    pods: &Api<Pod>,
    pod: String,
    container: String,
    params: LogParams,
    tx: &mpsc::Sender<Line>,
) -> Result<(), ConsoleError> {
    let params = LogParams { container: Some(container.clone()), ..params };
    let what = format!("read the log of `{pod}`");
    let mut log = match pods.log_stream(&pod, &params).await {
        Ok(log) => pin!(log),
        Err(error) => match ConsoleError::of(&what, error) {
            // It waits to start, has no log any more, or is gone.
            ConsoleError::Refused { message, .. } => {
                let _ = tx.send(Line::Note(format!("{pod}: {message}"))).await;
                return Ok(());
            }
            ConsoleError::NotInstalled => return Ok(()),
            error => return Err(error),
        },
    };
    while let Some(bytes) = line(&mut log).await {
        let line = Line::Printed { replica: pod.clone(), container: container.clone(), bytes };
        if tx.send(line).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The next line with its end; none at the end of the log, or of its connection.
async fn line(log: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let chunk = log.fill_buf().await.ok()?;
        if chunk.is_empty() {
            // What the last line lacks is its end.
            return (!line.is_empty()).then(|| [line, b"\n".to_vec()].concat());
        }
        let room = LONGEST_LINE.saturating_sub(line.len());
        let end = chunk.iter().position(|byte| *byte == b'\n').map(|at| at.saturating_add(1));
        let take = end.unwrap_or(chunk.len()).min(room);
        line.extend_from_slice(chunk.get(..take).unwrap_or_default());
        log.consume_unpin(take);
        if line.last() == Some(&b'\n') {
            return Some(line);
        }
        if line.len() >= LONGEST_LINE {
            line.push(b'\n');
            return Some(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn lines_are_whole_and_bounded() {
        let long = "x".repeat(LONGEST_LINE + 5);
        let text = format!("one\n\n{long}\ntwo");
        let mut log = futures_util::io::BufReader::new(text.as_bytes());
        let mut lines = Vec::new();
        while let Some(bytes) = line(&mut log).await {
            lines.push(bytes.len());
        }
        assert_eq!(lines, [4, 1, LONGEST_LINE + 1, 6, 4]);
    }

    #[test]
    fn containers_of_a_replica() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "iris-1"},
            "spec": {"initContainers": [{"name": "fetch-model"}], "containers": [{"name": "server"}, {"name": "proxy"}]},
            "status": {"containerStatuses": [
                {"name": "server", "image": "", "imageID": "", "ready": true, "restartCount": 0, "containerID": "c1",
                 "state": {"running": {}}},
                {"name": "proxy", "image": "", "imageID": "", "ready": true, "restartCount": 0, "containerID": "c2",
                 "state": {"waiting": {}}},
            ]},
        }))
        .unwrap();
        let of = |containers, replica: Option<&str>| {
            let request = LogRequest {
                service: "iris".into(),
                replica: replica.map(str::to_owned),
                containers,
                follow: false,
                previous: false,
                tail: None,
                since_seconds: None,
                timestamps: false,
            };
            let found = wanted(&pod, &request).into_iter();
            found.map(|it| (it.name, it.run.unwrap_or_default())).collect::<Vec<_>>()
        };
        let pair = |name: &str, run: &str| (name.to_owned(), run.to_owned());
        assert_eq!(of(Containers::Main, None), [pair("server", "c1")]);
        assert_eq!(of(Containers::Named("fetch-model".into()), None), [pair("fetch-model", "")]);
        assert_eq!(of(Containers::All, Some("iris-1")).len(), 3);
        assert_eq!(of(Containers::All, Some("iris-2")), []);
    }
}
