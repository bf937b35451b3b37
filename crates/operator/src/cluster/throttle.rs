//! A layer around every request: it counts them, and keeps them below a rate.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::{Instant, sleep_until};
use tower::{Layer, Service};

use crate::settings::RequestRate;

/// Requests by method and status code; the code is 0 where no answer came.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestCounts(Arc<Mutex<BTreeMap<(String, u16), u64>>>);

impl RequestCounts {
    pub(crate) fn snapshot(&self) -> BTreeMap<(String, u16), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, method: String, code: u16) {
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((method, code))
            .or_default() += 1;
    }
}

/// Makes [`Throttled`] services.
#[derive(Debug, Clone)]
pub(super) struct Throttle {
    bucket: Arc<Mutex<Bucket>>,
    counts: RequestCounts,
}

impl Throttle {
    pub(super) fn new(rate: RequestRate, counts: RequestCounts) -> Self {
        Self { bucket: Arc::new(Mutex::new(Bucket::new(rate, Instant::now()))), counts }
    }
}

impl<S> Layer<S> for Throttle {
    type Service = Throttled<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Throttled { inner, throttle: self.clone() }
    }
}

/// A service whose requests wait for their turn.
#[derive(Debug, Clone)]
pub(super) struct Throttled<S> {
    inner: S,
    throttle: Throttle,
}

impl<S, A, B> Service<Request<A>> for Throttled<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let method = request.method().to_string();
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let Throttle { bucket, counts } = self.throttle.clone();
        let lock = |bucket: &Mutex<Bucket>, act: &dyn Fn(&mut Bucket) -> Instant| {
            act(&mut bucket.lock().unwrap_or_else(PoisonError::into_inner))
        };
        // A watch is one request for minutes, and nothing works before it is there.
        let turn = (!is_watch).then(|| lock(&bucket, &|bucket| bucket.take(Instant::now())));
        // The inner future starts only once it is polled.
        let answer = self.inner.call(request);
        Box::pin(async move {
            if let Some(turn) = turn {
                sleep_until(turn).await;
            }
            let answer = answer.await;
            let code = answer.as_ref().map_or(0, |response| response.status().as_u16());
            counts.count(method, code);
            if let (429, Ok(response)) = (code, &answer) {
                let seconds = response.headers().get(http::header::RETRY_AFTER);
                let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
                let pause = Duration::from_secs(seconds.unwrap_or(1)).min(LONGEST_PAUSE);
                lock(&bucket, &|bucket| bucket.pause_until(Instant::now() + pause));
            }
            answer
        })
    }
}

/// What a server may ask for at most; a wrong header should not stop us for good.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A token bucket that hands out times.
#[derive(Debug)]
struct Bucket {
    rate: RequestRate,
    /// When the bucket would be full, if nothing were taken any more.
    full_at: Instant,
    paused_until: Instant,
}

impl Bucket {
    fn new(rate: RequestRate, now: Instant) -> Self {
        Self { rate, full_at: now, paused_until: now }
    }

    /// When the next request may go.
    fn take(&mut self, now: Instant) -> Instant {
        let each = Duration::from_secs_f64(1.0 / self.rate.per_second.clamp(0.001, 1e6));
        let capacity = each.saturating_mul(self.rate.burst.max(1));
        self.full_at = self.full_at.max(now) + each;
        let turn = self.full_at.checked_sub(capacity).unwrap_or(now).max(now);
        turn.max(self.paused_until)
    }

    fn pause_until(&mut self, at: Instant) -> Instant {
        self.paused_until = self.paused_until.max(at);
        self.paused_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut bucket = Bucket::new(RequestRate { per_second: 10.0, burst: 3 }, start);
        let mut waits = || (bucket.take(start) - start).as_millis();
        assert_eq!([waits(), waits(), waits(), waits(), waits()], [0, 0, 0, 100, 200]);
        let later = start + Duration::from_secs(60);
        assert_eq!(bucket.take(later), later);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_busy_is_left_alone() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RequestRate::default(), start);
        bucket.pause_until(start + Duration::from_secs(5));
        bucket.pause_until(start + Duration::from_secs(2));
        assert_eq!((bucket.take(start) - start).as_secs(), 5);
    }
}
