//! What the scheduler adds to a run of the engine, and what batching gains.
//!
//! `cargo bench -p trainyard-serving --bench scheduler`. The engine is a stand-in of known cost, so
//! that all the rest is the scheduler's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use trainyard_serving::engine::{EngineError, Session};
use trainyard_serving::scheduler::{
    Batching, Compute, Job, Metrics, QueuePolicy, Scheduler, SchedulerOptions, SingleRun,
};
use trainyard_serving::signature::{Signature, TensorSpec};
use trainyard_serving::{DataType, Tensor};

/// Returns its input after spinning for a fixed time and a time per row.
struct Spin {
    signature: Signature,
    fixed: Duration,
    per_row: Duration,
}

impl Session for Spin {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Option<&Tensor>], _: &[usize]) -> Result<Vec<Tensor>, EngineError> {
        let started = Instant::now();
        let Some(Some(input)) = inputs.first() else {
            return Err(EngineError::Input("no input".to_owned()));
        };
        let rows = u32::try_from(input.shape().first().copied().unwrap_or(1)).unwrap_or(u32::MAX);
        let cost = self.fixed + self.per_row * rows;
        while !cost.is_zero() && started.elapsed() < cost {
            std::hint::spin_loop();
        }
        Ok(vec![(*input).clone()])
    }
}

fn session(fixed: Duration, per_row: Duration) -> Arc<dyn Session> {
    let spec = TensorSpec {
        name: "x".to_owned(),
        data_type: DataType::Fp32,
        dims: vec![None, Some(4)],
        optional: false,
        labels: Vec::new(),
    };
    let signature = Signature { inputs: vec![spec.clone()], outputs: vec![spec] };
    Arc::new(Spin { signature, fixed, per_row })
}

fn options(batching: Option<Batching>, single: Option<Duration>) -> SchedulerOptions {
    SchedulerOptions {
        max_batch_size: 64,
        batching,
        instances: 2,
        queue: QueuePolicy::default(),
        priority_levels: 0,
        default_priority: 0,
        priority_queues: std::collections::BTreeMap::new(),
        single_run: single.map(|time| SingleRun { time, elements: 4 }),
    }
}

fn scheduler(session: &Arc<dyn Session>, options: SchedulerOptions) -> Arc<Scheduler> {
    let (compute, metrics) = (Compute::new(2), Metrics::new());
    Arc::new(Scheduler::new(Arc::from("m"), 1, Arc::clone(session), options, compute, &metrics))
}

/// One row of four floats, as of an iris.
fn job() -> Job {
    let shape = [1, 4].into_iter().collect();
    let input = Tensor::from_vec(DataType::Fp32, shape, vec![5.1f32, 3.5, 1.4, 0.2])
        .expect("four elements");
    let (inputs, outputs) = (vec![Some(input)], vec![0]);
    Job { inputs, outputs, rows: 1, priority: 0, queue_timeout: None, deadline: None }
}

/// Runs `clients` loops of `each` requests; returns the time of all and every latency.
fn drive(
    runtime: &Runtime,
    scheduler: &Arc<Scheduler>,
    clients: usize,
    each: usize,
) -> (Duration, Vec<Duration>) {
    runtime.block_on(async {
        let started = Instant::now();
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                let scheduler = Arc::clone(scheduler);
                tokio::spawn(async move {
                    let mut latencies = Vec::with_capacity(each);
                    for _ in 0..each {
                        let sent = Instant::now();
                        scheduler.run(job()).await.expect("answered");
                        latencies.push(sent.elapsed());
                        // As a server does between two requests.
                        tokio::task::yield_now().await;
                    }
                    latencies
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for client in clients {
            latencies.extend(client.await.expect("no panic"));
        }
        latencies.sort_unstable();
        (started.elapsed(), latencies)
    })
}

fn report(what: &str, clients: usize, each: usize, cost: Duration, scheduler: &Arc<Scheduler>) {
    let runtime =
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("can be made");
    drive(&runtime, scheduler, clients, each / 10);
    let before = scheduler.statistics();
    let (took, latencies) = drive(&runtime, scheduler, clients, each);
    let after = scheduler.statistics();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies.get(index).copied().unwrap_or_default().saturating_sub(cost)
    };
    let requests = after.inference_count - before.inference_count;
    let executions = after.execution_count - before.execution_count;
    println!(
        "{what:<44} {:>9.0} requests/s, batch {:>4.1}, added p50 {:>8.2?} p99 {:>8.2?}",
        latencies.len() as f64 / took.as_secs_f64(),
        requests as f64 / executions.max(1) as f64,
        at(0.5),
        at(0.99),
    );
}

fn main() {
    let us = Duration::from_micros;
    let (free, waits) = (session(Duration::ZERO, Duration::ZERO), Batching::default());

    // Without a runtime's noise: the cost of one inline request beyond the run itself.
    let rounds = 200_000;
    let jobs: Vec<Job> = (0..rounds).map(|_| job()).collect();
    let started = Instant::now();
    for job in jobs {
        let inputs = [job.inputs.first().and_then(Option::as_ref)];
        std::hint::black_box(free.run(&inputs, &job.outputs).expect("runs"));
    }
    let raw = started.elapsed() / rounds;
    let runtime = Builder::new_current_thread().enable_all().build().expect("can be made");
    let inline = scheduler(&free, options(Some(waits.clone()), Some(us(1))));
    let jobs: Vec<Job> = (0..rounds).map(|_| job()).collect();
    let took = runtime.block_on(async {
        let started = Instant::now();
        for job in jobs {
            std::hint::black_box(inline.run(job).await.expect("answered"));
        }
        started.elapsed() / rounds
    });
    println!(
        "inline, one thread: {:?} a request beyond the run's {raw:?}",
        took.saturating_sub(raw)
    );

    report("inline, free engine, 32 clients", 32, 10_000, Duration::ZERO, &inline);

    // An explicit number of instances holds on the fast path too: with fewer than cores, requests
    // that find them taken go through the queue.
    let small = session(us(10), Duration::ZERO);
    for instances in [1, 2] {
        let options = SchedulerOptions { instances, ..options(Some(waits.clone()), Some(us(10))) };
        let what = format!("inline, 10 µs engine, {instances} instances, 32 clients");
        report(&what, 32, 5_000, us(10), &scheduler(&small, options));
    }

    // Slower than the fast path's limit, so that each request changes threads twice.
    let slow = session(us(150), Duration::ZERO);
    let queued = scheduler(&slow, options(None, None));
    report("queued, 150 µs engine, 1 client", 1, 5_000, us(150), &queued);

    let ordered = Batching { preserve_ordering: true, ..Batching::default() };
    let queued = scheduler(&free, options(Some(ordered), None));
    report("queued, free engine, batching, 32 clients", 32, 5_000, Duration::ZERO, &queued);

    // 200 µs to read the weights, 2 µs of work for each row.
    let weights = session(us(200), us(2));
    let single = scheduler(&weights, options(None, Some(us(202))));
    report("200 + 2n µs engine, unbatched, 64 clients", 64, 100, us(202), &single);
    let batched = scheduler(&weights, options(Some(waits), Some(us(202))));
    report("200 + 2n µs engine, batched, 64 clients", 64, 1000, us(202), &batched);
}
