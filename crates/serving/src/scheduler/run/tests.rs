//! The scheduler around sessions that can be held up.

use futures_util::future::maybe_done;
use futures_util::poll;
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::super::fixtures::{BAD, Fake, elements, ints, job, job_of, options};
use super::super::options::{Batching, QueuePolicy};
use super::super::verify::SingleRun;
use super::*;

const MS: Duration = Duration::from_millis(1);

/// A scheduler and what its tests look at.
struct Setup {
    scheduler: Arc<Scheduler>,
    fake: Arc<Fake>,
    metrics: Metrics,
}

fn setup(fake: Fake, options: SchedulerOptions) -> Setup {
    let compute = Compute::new(4);
    let (fake, metrics) = (Arc::new(fake), Metrics::new());
    let session = Arc::clone(&fake) as Arc<dyn Session>;
    let model = Arc::from("m");
    let scheduler = Arc::new(Scheduler::new(model, 1, session, options, compute, &metrics));
    Setup { scheduler, fake, metrics }
}

fn batching(max_delay: Duration) -> SchedulerOptions {
    let batching = Batching { max_delay, ..Batching::default() };
    SchedulerOptions { batching: Some(batching), ..options(4) }
}

fn quick() -> Option<SingleRun> {
    Some(SingleRun { time: Duration::from_micros(5), elements: 1 })
}

type Task = tokio::task::JoinHandle<Answer>;

impl Setup {
    fn spawn(&self, job: Job) -> Task {
        let scheduler = Arc::clone(&self.scheduler);
        tokio::spawn(async move { scheduler.run(job).await })
    }

    /// Starts a job and waits until it is in the queue.
    async fn queue(&self, job: Job) -> Task {
        let before = self.waiting();
        let task = self.spawn(job);
        self.until(|| self.waiting() > before).await;
        task
    }

    /// Keeps the only instance busy until `let_go`.
    fn hold(&self) -> Task {
        let task = self.spawn(job(&[0]));
        self.fake.wait_inside(1);
        task
    }

    fn waiting(&self) -> usize {
        self.scheduler.inner.lock().queue.len()
    }

    /// Waits for what another thread brings about.
    #[track_caller]
    fn until(&self, condition: impl Fn() -> bool) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let begun = Instant::now();
            while !condition() {
                assert!(begun.elapsed() < MS * 10_000, "did not come about: {at}");
                tokio::task::yield_now().await;
            }
        }
    }

    #[track_caller]
    fn shows(&self, line: &str) {
        let text = self.metrics.encode();
        assert!(text.lines().any(|one| one == line), "no line {line:?} in\n{text}");
    }
}

#[track_caller]
fn answered(answer: Result<Answer, tokio::task::JoinError>) -> Done {
    answer.expect("no panic").expect("answered")
}

fn first(done: &Done) -> Vec<i32> {
    elements(&done.outputs[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_piled_up_while_busy_runs_together() {
    let it = setup(Fake::new().gated(), batching(Duration::ZERO));
    let busy = it.hold();
    let one = it.queue(job(&[1])).await;
    let two = it.queue(Job { outputs: vec![1], ..job(&[2, 3]) }).await;
    it.fake.let_go(2);
    let (busy, one, two) = (answered(busy.await), answered(one.await), answered(two.await));
    assert_eq!(busy.execution.batch_size, 1);
    assert_eq!(busy.execution.close, BatchClose::Idle);
    assert_eq!((first(&one), first(&two)), (vec![2], vec![-2, -3]));
    assert_eq!(two.outputs[0].shape(), [2, 1]);
    assert_eq!(one.execution.batch_size, 3);
    assert_eq!(one.execution.close, BatchClose::Idle);
    assert_eq!(it.fake.batches(), [1, 3]);

    let statistics = it.scheduler.statistics();
    assert_eq!((statistics.inference_count, statistics.execution_count), (4, 2));
    assert_eq!(statistics.success.count, 3);
    assert_eq!(statistics.batches.keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert!(statistics.last_inference_ms > 0);
    it.shows(r#"trainyard_batch_close_total{model="m",version="1",reason="idle"} 2"#);
    it.shows(r#"nv_inference_pending_request_count{model="m",version="1"} 0"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_batch_does_not_wait() {
    let it = setup(Fake::new(), batching(MS * 60_000));
    let one = it.queue(job(&[1, 2, 3])).await;
    let two = it.spawn(job(&[4]));
    let (one, two) = (answered(one.await), answered(two.await));
    assert_eq!((first(&one), first(&two)), (vec![2, 4, 6], vec![8]));
    assert_eq!(one.execution.close, BatchClose::Full);
    assert_eq!(it.fake.batches(), [4]);
}

/// With a delay longer than any test, every wake-up that is lost hangs. The last request, which lets
/// the one before it go, comes just when the thread that ran the first looks at the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost() {
    for instances in [1, 2] {
        let it = setup(Fake::new(), SchedulerOptions { instances, ..batching(MS * 600_000) });
        for _ in 0..1000 {
            let run = |rows: &[i32]| Box::pin(maybe_done(it.scheduler.run(job(rows))));
            // Each enters the queue when it is first polled.
            let (mut full, mut waits) = (run(&[1, 2, 3, 4]), run(&[5]));
            let _ = poll!(full.as_mut());
            let _ = poll!(waits.as_mut());
            full.await;
            let mut last = run(&[6, 7, 8, 9]);
            let _ = poll!(last.as_mut());
            let both = async {
                waits.await;
                last.await;
            };
            tokio::time::timeout(MS * 10_000, both).await.expect("woken");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lonely_request_waits_for_the_delay() {
    let it = setup(Fake::new(), batching(MS * 20));
    let done = it.scheduler.run(job(&[1])).await.expect("answered");
    assert_eq!(done.execution.close, BatchClose::Delay);
    assert!(done.execution.queue >= MS * 20, "{:?}", done.execution);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_shape_closes_the_batch() {
    let it = setup(Fake::new(), batching(MS * 60_000));
    let narrow = it.queue(job(&[1])).await;
    let wide = it.spawn(job_of(vec![Some(ints(&[1, 2], &[5, 6]))], 1));
    assert_eq!(answered(narrow.await).execution.close, BatchClose::ShapeMismatch);
    let fills = it.spawn(job_of(vec![Some(ints(&[3, 2], &[0; 6]))], 3));
    assert_eq!(first(&answered(wide.await)), [10, 12]);
    assert_eq!(answered(fills.await).execution.close, BatchClose::Full);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_closes_the_batch() {
    // A run is taken to last as long as there is time until the deadline: the batch must go at once,
    // and no machine is too busy to be in time.
    let single_run = Some(SingleRun { time: MS * 600_000, elements: 1 });
    let options = SchedulerOptions { single_run, ..batching(MS * 6_000_000) };
    let it = setup(Fake::new(), options);
    let one = it.queue(job(&[1])).await;
    let deadline = Some(Instant::now() + MS * 600_000);
    let hurried = it.spawn(Job { deadline, ..job(&[2]) });
    assert_eq!(answered(hurried.await).execution.close, BatchClose::Deadline);
    assert_eq!(answered(one.await).execution.batch_size, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_fails_its_own_request_only() {
    let it = setup(Fake::new().gated(), batching(Duration::ZERO));
    let busy = it.hold();
    let good = it.queue(job(&[1])).await;
    let bad = it.queue(job(&[BAD])).await;
    let other = it.queue(job(&[3])).await;
    it.fake.let_go(5);
    assert_eq!(first(&answered(good.await)), [2]);
    assert_eq!(first(&answered(other.await)), [6]);
    let failed = bad.await.expect("no panic");
    assert!(matches!(&failed, Err(InferError::Invalid(text)) if text.contains("a bad row")));
    answered(busy.await);
    assert_eq!(it.fake.batches(), [1, 3, 1, 1, 1]);
    it.shows(r#"nv_inference_request_failure{model="m",version="1",reason="BACKEND"} 1"#);
    assert_eq!(it.scheduler.statistics().fail.count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urgent_requests_overtake() {
    let levels = SchedulerOptions { priority_levels: 3, default_priority: 2, ..options(4) };
    let it = setup(Fake::new().gated(), levels);
    let mut tasks = vec![it.hold()];
    for (row, priority) in [(3, 3), (2, 0), (1, 1)] {
        tasks.push(it.queue(Job { priority, ..job(&[row]) }).await);
    }
    it.fake.let_go(4);
    for task in tasks {
        assert_eq!(answered(task.await).execution.close, BatchClose::Unbatched);
    }
    assert_eq!(it.fake.runs(), [[0], [1], [2], [3]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once() {
    let queue = QueuePolicy { max_size: 1, ..QueuePolicy::default() };
    let it = setup(Fake::new().gated(), SchedulerOptions { queue, ..options(4) });
    let busy = it.hold();
    let waits = it.queue(job(&[1])).await;
    let refused = it.scheduler.run(job(&[2])).await;
    let Err(InferError::QueueFull { limit: 1, retry_after, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(retry_after, MS * 1000);
    it.fake.let_go(2);
    answered(busy.await);
    answered(waits.await);
    it.shows(r#"trainyard_request_failure_total{model="m",version="1",reason="queue_full"} 1"#);

    // Once it is known how long a request takes, the time to work the queue off is told.
    let each = it.scheduler.inner.per_request.duration().expect("measured");
    assert_eq!(it.scheduler.inner.retry_after(1_000_000), (each * 1_000_000).min(MS * 60_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_too_long_is_told_while_the_engine_is_busy() {
    let queue = QueuePolicy { timeout: Some(MS * 20), ..QueuePolicy::default() };
    let it = setup(Fake::new().gated(), SchedulerOptions { queue, ..options(4) });
    let busy = it.hold();
    let late = it.scheduler.run(job(&[1])).await;
    assert!(matches!(late, Err(InferError::QueueTimeout)), "{late:?}");
    let deadline = Some(Instant::now() + MS * 5);
    let late = it.scheduler.run(Job { deadline, ..job(&[1]) }).await;
    assert!(matches!(late, Err(InferError::DeadlineExceeded { .. })), "{late:?}");
    let late = it.scheduler.run(Job { deadline: Some(Instant::now()), ..job(&[1]) }).await;
    assert!(matches!(late, Err(InferError::DeadlineExceeded { .. })), "{late:?}");
    it.fake.let_go(1);
    answered(busy.await);
    assert_eq!(it.fake.runs(), [[0]]);
    it.shows(r#"nv_inference_request_failure{model="m",version="1",reason="REJECTED"} 3"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_delayed_runs_last() {
    let delays =
        QueuePolicy { timeout: Some(MS), on_timeout: TimeoutAction::Delay, ..Default::default() };
    let options = SchedulerOptions {
        priority_levels: 2,
        priority_queues: [(1, delays)].into(),
        ..options(4)
    };
    let it = setup(Fake::new().gated(), options);
    let busy = it.hold();
    let delayed = it.queue(Job { priority: 1, ..job(&[1]) }).await;
    let other = it.queue(Job { priority: 2, ..job(&[2]) }).await;
    tokio::time::sleep(MS * 5).await;
    it.fake.let_go(3);
    answered(busy.await);
    answered(delayed.await);
    answered(other.await);
    assert_eq!(it.fake.runs(), [[0], [2], [1]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_left_costs_no_run() {
    let it = setup(Fake::new().gated(), batching(Duration::ZERO));
    let busy = it.hold();
    let gone = it.queue(job(&[1])).await;
    let stays = it.queue(job(&[2])).await;
    gone.abort();
    assert!(gone.await.is_err());
    assert_eq!(it.waiting(), 1);
    it.fake.let_go(2);
    answered(busy.await);
    answered(stays.await);
    assert_eq!(it.fake.runs(), [[0], [2]]);
    it.shows(r#"nv_inference_request_failure{model="m",version="1",reason="CANCELED"} 1"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drained_waits_for_all_and_for_what_runs() {
    let it = setup(Fake::new().gated(), options(4));
    let (busy, waits) = (it.hold(), it.queue(job(&[1])).await);
    let scheduler = Arc::clone(&it.scheduler);
    let drained = tokio::spawn(async move { scheduler.drained().await });
    waits.abort();
    busy.abort();
    assert!(waits.await.is_err() && busy.await.is_err());
    assert!(!drained.is_finished(), "a run goes on");
    it.fake.let_go(1);
    drained.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_run_side_by_side_and_no_more() {
    let it = setup(Fake::new().gated(), SchedulerOptions { instances: 2, ..options(4) });
    let tasks: Vec<_> = (0..6).map(|row| it.spawn(job(&[row]))).collect();
    it.fake.wait_inside(2);
    it.until(|| it.waiting() == 4).await;
    it.fake.let_go(6);
    for (row, task) in tasks.into_iter().enumerate() {
        assert_eq!(first(&answered(task.await)), [row as i32 * 2]);
    }
    assert_eq!(it.fake.most_inside(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_across_instances() {
    let batching = Batching { preserve_ordering: true, ..Batching::default() };
    let options = SchedulerOptions { instances: 2, batching: Some(batching), ..options(4) };
    let it = setup(Fake::new().gated_for(1), options);
    let slow = it.spawn(job(&[1]));
    it.fake.wait_inside(1);
    let quick = it.spawn(job(&[2]));
    // It has run, and its answer waits for the one before.
    it.until(|| it.scheduler.inner.counters.statistics("m", 1).success.count == 1).await;
    assert!(!quick.is_finished());
    it.fake.let_go(1);
    assert_eq!(first(&answered(slow.await)), [2]);
    assert_eq!(first(&answered(quick.await)), [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_larger_than_a_batch_runs_alone() {
    let it = setup(Fake::new(), options(4));
    let done = it.scheduler.run(job(&[1, 2, 3, 4, 5])).await.expect("runs");
    assert_eq!(done.execution.batch_size, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_panics_answers_an_error_and_goes_on() {
    let it = setup(Fake::new().panicking(), options(4));
    for _ in 0..10 {
        let failed = it.scheduler.run(job(&[1])).await;
        assert!(matches!(failed, Err(InferError::Internal(_))), "{failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_model_runs_where_it_is_called() {
    let single_run = quick();
    let it = setup(Fake::new(), SchedulerOptions { single_run, ..options(4) });
    // One poll is enough: nothing is waited for.
    let mut run = std::pin::pin!(it.scheduler.run(job(&[1])));
    let polled = poll!(run.as_mut());
    let std::task::Poll::Ready(Ok(done)) = polled else { panic!("{polled:?}") };
    assert_eq!(done.execution.close, BatchClose::Unbatched);
    assert_eq!(done.execution.queue, Duration::ZERO);
    assert_eq!(it.scheduler.statistics().success.count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_model_respects_its_instances() {
    let single_run = quick();
    let it = setup(Fake::new().gated(), SchedulerOptions { single_run, ..options(4) });
    let inline = it.hold();
    let waits = it.queue(job(&[1])).await;
    it.fake.let_go(2);
    answered(inline.await);
    assert_eq!(first(&answered(waits.await)), [2]);
    assert_eq!(it.fake.most_inside(), 1);
}

#[test]
fn dropping_leaves_nothing_behind() {
    let it = setup(Fake::new(), options(4));
    let (fake, metrics) = (Arc::downgrade(&it.fake), it.metrics.clone());
    drop(it);
    assert!(fake.upgrade().is_none());
    assert!(!metrics.encode().contains("model="));
}

/// Many clients at once, each cancelling, hurrying or sending bad rows now and then: every answer
/// is the caller's own, no batch is over the limit, and in the end nothing is left.
async fn stress(options: SchedulerOptions, single: Option<SingleRun>, clients: i32, requests: i32) {
    let instances = options.instances;
    let it = setup(Fake::new(), SchedulerOptions { single_run: single, ..options });
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let scheduler = Arc::clone(&it.scheduler);
        tasks.spawn(async move {
            let mut counts = (0, 0);
            for request in 0..requests {
                let row = (client * requests + request) * 10 + 1000;
                let rows: Vec<i32> = (row..row + 1 + request % 3).collect();
                let mut one = job(&rows);
                one.outputs = if request % 4 == 0 { vec![1, 0] } else { vec![0] };
                if request % 7 == 3 {
                    one = job(&[row, BAD]);
                }
                if request % 11 == 5 {
                    let running = scheduler.run(one);
                    let _ = tokio::time::timeout(Duration::from_micros(50), running).await;
                    continue;
                }
                match scheduler.run(one).await {
                    Ok(done) => {
                        let twice: Vec<i32> = rows.iter().map(|row| row * 2).collect();
                        assert_eq!(elements(done.outputs.last().expect("asked for")), twice);
                        assert_eq!(done.outputs.len(), if request % 4 == 0 { 2 } else { 1 });
                        assert!(done.execution.batch_size <= 4);
                        counts.0 += 1;
                    }
                    Err(InferError::Invalid(_)) => {
                        assert_eq!(request % 7, 3);
                        counts.1 += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            counts
        });
    }
    let counts = tasks.join_all().await;
    it.scheduler.drained().await;
    assert!(counts.iter().all(|(served, failed)| served + failed + requests / 11 + 1 >= requests));
    assert!(it.fake.batches().iter().all(|rows| *rows <= 4));
    assert!(it.fake.most_inside() <= instances);
    assert_eq!(it.waiting(), 0);
    let statistics = it.scheduler.statistics();
    let all = u64::try_from(clients * requests).expect("small");
    assert_eq!(statistics.success.count + statistics.fail.count, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stress_queued() {
    for instances in [1, 3] {
        for delay in [Duration::ZERO, MS / 5] {
            stress(SchedulerOptions { instances, ..batching(delay) }, None, 16, 60).await;
        }
    }
    stress(SchedulerOptions { instances: 2, ..options(4) }, None, 16, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stress_inline() {
    let single = quick();
    for instances in [1, 2, 4] {
        stress(SchedulerOptions { instances, ..options(4) }, single, 16, 60).await;
        stress(SchedulerOptions { instances, ..batching(MS / 5) }, single, 16, 60).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stress_ordered() {
    let ordered = Batching { preserve_ordering: true, ..Batching::default() };
    let options = SchedulerOptions { instances: 3, batching: Some(ordered), ..options(4) };
    stress(options, None, 16, 60).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever arrives: every job is answered once, with its own rows, in batches of one shape
    /// that hold no more than allowed.
    #[test]
    fn every_job_gets_its_own_answer(
        jobs in prop::collection::vec((1usize..=4, 1usize..4, 0u64..4), 1..30),
        instances in 1usize..4,
        delay_us in prop_oneof![Just(0u64), 1u64..2000],
        preferred in prop::collection::btree_set(1usize..=4, 0..3),
        preserve_ordering in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let options = SchedulerOptions {
            instances,
            priority_levels: 3,
            default_priority: 2,
            batching: Some(Batching {
                preferred_sizes: preferred.into_iter().collect(),
                max_delay: Duration::from_micros(delay_us),
                preserve_ordering,
            }),
            ..options(4)
        };
        runtime.expect("can be made").block_on(async {
            let it = setup(Fake::new(), options);
            let mut tasks = Vec::new();
            for (index, (rows, width, priority)) in jobs.iter().enumerate() {
                let start = index as i32 * 100;
                let elements: Vec<i32> = (start..).take(rows * width).collect();
                let input = ints(&[*rows, *width], &elements);
                let job = Job { priority: *priority, ..job_of(vec![Some(input)], *rows) };
                tasks.push((it.spawn(job), elements));
            }
            let mut rows = 0;
            for (task, sent) in tasks {
                let done = answered(task.await);
                let twice: Vec<i32> = sent.iter().map(|one| one * 2).collect();
                assert_eq!(first(&done), twice);
                assert!(done.execution.batch_size <= 4);
                rows += done.outputs[0].shape()[0] as u64;
            }
            it.scheduler.drained().await;
            assert_eq!(it.scheduler.statistics().inference_count, rows);
        });
    }
}
