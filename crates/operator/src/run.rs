//! The operator from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube_client::Client;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::announce::Announcer;
use crate::cluster::{CallError, Calls, Chain, CountedClient, custom_apis, known_resources};
use crate::election::Candidate;
use crate::elsewhere::{self, Elsewhere};
use crate::endpoints;
use crate::feed::{Feed, Sync};
use crate::figures::{Loads, collect};
use crate::jobs;
use crate::key::{Declared, ResourceKey};
use crate::lint;
use crate::metrics::Metrics;
use crate::pools;
use crate::queue::{Ended, Queue};
use crate::queues::{self, Queues};
use crate::reconcile::{Ctx, Looks, reconcile};
use crate::rollout::Contents;
use crate::scale::{Scalers, watch_demand};
use crate::settings::{Scope, Settings};
use crate::world::World;

/// Of what Trainyard declares.
const API_VERSION: &str = "trainyard.dev/v1alpha1";
/// How long reconciles may take to end once the operator is told to stop. A pod has 30 s, and the
/// Lease is to be given back after them.
const DRAIN: Duration = Duration::from_secs(15);

/// Why an operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("cannot listen on {address} for {what}")]
    Listen { what: &'static str, address: std::net::SocketAddr, source: std::io::Error },
}

/// Runs an operator until `stop` is cancelled: watches, and reconciles while it leads.
///
/// On its way out it finishes what it has begun and gives its Lease back, so that another operator
/// goes on at once.
pub async fn run(
    mut settings: Settings,
    client: CountedClient,
    stop: CancellationToken,
) -> Result<(), OperatorError> {
    let listener = listen("metrics and health", settings.address).await?;
    let lint_listener = match &settings.lint {
        Some(webhook) => Some(listen("the lint webhook", webhook.address).await?),
        None => None,
    };

    let CountedClient { client, counts } = client;
    let (world, queue) = (Arc::new(World::default()), Arc::new(Queue::default()));
    let (metrics, sync) = (Arc::new(Metrics::default()), Arc::new(Sync::default()));
    let registry = metrics.registry(queue.clone(), world.clone(), counts, settings.workers);

    let mut tasks = JoinSet::new();
    let ended = CancellationToken::new();
    tasks.spawn(endpoints::answer(listener, registry, sync.clone(), ended.clone()));
    if let (Some(webhook), Some(listener)) = (&settings.lint, lint_listener) {
        let (metrics, stop) = (metrics.clone(), ended.clone());
        lint::start(webhook, listener, client.clone(), metrics, stop, &mut tasks);
    }
    let feed = Feed {
        client: client.clone(),
        world: world.clone(),
        queue: queue.clone(),
        metrics: metrics.clone(),
        sync: sync.clone(),
    };
    let apis = tokio::select! {
        apis = custom_apis(&client) => apis,
        () = stop.cancelled() => return Ok(()),
    };
    settings.cluster.objects.apis.extend(apis);
    let known = tokio::select! {
        known = known_resources(&client, API_VERSION) => known,
        () = stop.cancelled() => return Ok(()),
    };
    let has_jobs = known.contains(Declared::TrainingJob.plural());
    if !has_jobs {
        tracing::warn!("the cluster does not know TrainingJobs; `trainyard install` defines them");
    }
    feed.start(&settings.scope, &settings.cluster.objects.apis, has_jobs, &mut tasks);
    // Pools are of the whole cluster: an operator of some namespaces may not read them.
    if settings.scope == Scope::Cluster {
        let gpu_pools = settings.cluster.gpu_pools.clone();
        let is_served = tokio::select! {
            is_served = pools::is_served(&client, &known, &gpu_pools) => is_served,
            () = stop.cancelled() => return Ok(()),
        };
        if is_served {
            let wakes = (world.clone(), queue.clone());
            let following =
                pools::follow(client.clone(), gpu_pools, wakes, metrics.clone(), sync.clone());
            tasks.spawn(following);
        } else {
            tracing::warn!("the cluster does not know GpuPools; `trainyard install` defines them");
        }
    }
    let job_queues = Queues::default();
    if settings.scope == Scope::Cluster && known.contains("queues") {
        job_queues.set_served();
        let following =
            queues::follow(client.clone(), job_queues.clone(), metrics.clone(), sync.clone());
        tasks.spawn(following);
    }
    let others = Elsewhere::default();
    if has_jobs {
        let found = tokio::select! {
            found = elsewhere::discover(&client, &settings.scope) => found,
            () = stop.cancelled() => return Ok(()),
        };
        let heard = elsewhere::Feed {
            client: client.clone(),
            elsewhere: others.clone(),
            world: world.clone(),
            queue: queue.clone(),
            metrics: metrics.clone(),
            sync: sync.clone(),
        };
        elsewhere::follow(&heard, found, &settings.scope, &mut tasks);
    }
    let calls = Calls::new(client.clone());
    let instance = settings.election.identity.clone();
    let (announcer, announcing) = Announcer::new(calls.clone(), instance, metrics.clone());
    tasks.spawn(announcing);

    // Of those who wait for the Lease too: who takes over knows the load at once.
    let loads = Arc::new(Loads::default());
    let scalers = Arc::new(Scalers::new(loads.clone(), settings.scaling_window));
    if let Some(gateway) = &settings.cluster.objects.gateway {
        let namespace = gateway.namespace.clone();
        tasks.spawn(collect(client.clone(), namespace, loads.clone()));
        let (queue, world) = (queue.clone(), world.clone());
        tasks.spawn(watch_demand(scalers.clone(), loads.clone(), queue, world));
    }

    let ctx = Arc::new(Ctx {
        world,
        calls,
        cluster: settings.cluster.clone(),
        announcer,
        metrics,
        looks: Looks::default(),
        loads,
        scalers,
        contents: Contents::default(),
        queues: job_queues,
        elsewhere: others,
    });
    let acting = Acting { ctx, queue, sync, workers: settings.workers };
    elect_and_act(&settings, client, &acting, &stop).await;
    ended.cancel();
    tasks.shutdown().await;
    Ok(())
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, OperatorError> {
    let failed = |source| OperatorError::Listen { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    tracing::info!(address = %listener.local_addr().map_err(failed)?, "serves {what}");
    Ok(listener)
}

/// Acts whenever this operator leads, until it is told to stop.
async fn elect_and_act(
    settings: &Settings,
    client: Client,
    acting: &Acting,
    stop: &CancellationToken,
) {
    let lease = &settings.election.lease;
    let metrics = &acting.ctx.metrics;
    metrics.leads(lease, false);
    let (mut candidate, mut leads) = Candidate::new(client, settings.election.clone());
    let mut watched = leads.clone();
    let acts = async {
        loop {
            // The candidate lives as long as this.
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            metrics.leads(lease, true);
            acting.act(&mut leads, stop).await;
            metrics.leads(lease, false);
            if stop.is_cancelled() {
                return;
            }
        }
    };
    // Told to stop while somebody else leads: there is nothing to end.
    let idle = async {
        stop.cancelled().await;
        let _ = watched.wait_for(|leads| !*leads).await;
    };
    tokio::select! {
        // Renewing goes on while reconciles end: nobody else may begin before they have.
        () = candidate.campaign() => {}
        () = acts => {}
        () = idle => {}
    }
    candidate.release().await;
}

/// What acts, while this operator leads.
struct Acting {
    ctx: Arc<Ctx>,
    queue: Arc<Queue>,
    sync: Arc<Sync>,
    workers: usize,
}

impl Acting {
    /// Reconciles until the Lease is lost, when everything stops at once, or until the operator is
    /// told to stop, when everything ends in order.
    async fn act(&self, leads: &mut watch::Receiver<bool>, stop: &CancellationToken) {
        let mut running = JoinSet::new();
        let is_lost = tokio::select! {
            _ = leads.wait_for(|leads| !*leads) => true,
            () = stop.cancelled() => false,
            () = self.give_out(&mut running) => true,
            () = self.keep_pools() => true,
            () = self.admit() => true,
        };
        if is_lost {
            running.shutdown().await;
            self.queue.clear();
            return;
        }
        let ending = async { while running.join_next().await.is_some() {} };
        tokio::select! {
            ended = timeout(DRAIN, ending) => {
                if ended.is_err() {
                    tracing::warn!("reconciles did not end in time and are broken off");
                }
            }
            _ = leads.wait_for(|leads| !*leads) => {}
        }
        running.shutdown().await;
    }

    /// Makes the cluster as its GPU pools say, for ever.
    async fn keep_pools(&self) {
        self.sync.reached().await;
        let cluster = &self.ctx.cluster;
        pools::act(pools::Acting {
            pools: &cluster.gpu_pools,
            calls: &self.ctx.calls,
            announcer: &self.ctx.announcer,
            config: &cluster.plugin_config,
            manages_nodes: cluster.manage_gpu_nodes,
        })
        .await;
    }

    /// Says which jobs of queues may start, for ever.
    async fn admit(&self) {
        self.sync.reached().await;
        let Ctx { queues, calls, .. } = &*self.ctx;
        queues::act(queues::Acting { queues, calls, work: &self.queue }).await;
    }

    /// Gives services to workers, for ever.
    async fn give_out(&self, running: &mut JoinSet<()>) {
        self.sync.reached().await;
        self.queue.clear();
        self.ctx.scalers.clear();
        let mut known = self.ctx.world.declared();
        // Their pods may have what others wait for.
        known.extend(self.ctx.world.left_jobs());
        let jobs = known.iter().filter(|key| key.kind == Declared::TrainingJob);
        self.ctx.queues.reset(jobs.cloned());
        for key in known {
            self.queue.add(key);
        }
        let workers = Arc::new(Semaphore::new(self.workers.max(1)));
        loop {
            let Ok(permit) = workers.clone().acquire_owned().await else {
                return;
            };
            let key = self.queue.next().await;
            while running.try_join_next().is_some() {}
            let (ctx, queue) = (self.ctx.clone(), self.queue.clone());
            running.spawn(async move {
                let _permit = permit;
                let ended = reconcile_once(&ctx, &key).await;
                queue.done(&key, ended);
            });
        }
    }
}

/// One reconcile, in a span of its own, with its figures.
async fn reconcile_once(ctx: &Ctx, key: &ResourceKey) -> Ended {
    let (kind, namespace, name) = (key.kind.kind(), &*key.namespace, &*key.name);
    let span = tracing::info_span!("reconcile", kind, namespace, name);
    let started = Instant::now();
    let result = async {
        match key.kind {
            Declared::ModelService => reconcile(ctx, key).await,
            Declared::TrainingJob => jobs::reconcile(ctx, key).await,
        }
    };
    let result = result.instrument(span.clone()).await;
    let (label, ended) = match result {
        Ok(Ended::LookAgain(delay)) => ("requeue_after", Ended::LookAgain(delay)),
        Ok(ended) => ("success", ended),
        Err(error) => {
            let not_before = error.not_before();
            span.in_scope(|| complain(&error));
            ("error", Ended::Failed { not_before })
        }
    };
    ctx.metrics.reconciled(label, started.elapsed());
    ended
}

fn complain(error: &CallError) {
    let shown = Chain(error);
    match error {
        CallError::Rejected { .. } => tracing::error!(error = %shown, "the API server refuses"),
        CallError::Conflict { .. } | CallError::Gone { .. } => {
            tracing::debug!(error = %shown, "tries again");
        }
        CallError::Passing { .. } => tracing::warn!(error = %shown, "tries again"),
    }
}
