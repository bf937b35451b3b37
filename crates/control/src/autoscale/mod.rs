//! Decides how many replicas a service should have, from the requests it gets.
//!
//! The starting point is Knative's autoscaler: demand is averaged over a stable window (60 s) and
//! a panic window (6 s); the service follows the stable average, and jumps to the panic average at
//! once when that is twice what its replicas are meant to carry. Where this one differs, and why:
//!
//! - **Exact averages.** Knative samples gauges of some pods every second or two. Our gateway sees
//!   every request, so it counts: the integral of requests in flight over time, and arrivals. The
//!   difference of two counters over a window is the true mean, whatever happened between samples.
//! - **The target is the target.** Knative aims at 70% of what the user wrote. We aim at it.
//! - **Replicas that are starting count as capacity.** Models load for seconds to minutes. While
//!   they do, requests pile up, and judging by ready replicas alone would order more each tick.
//! - **Down only after the whole stable window stayed low.** The peak of the panic averages of the
//!   last stable window is what must still fit: a wrong step down costs a cold start, a wrong step
//!   up some rent. Nothing is taken away before a whole window was observed, as after a restart.
//! - **No activator.** The gateway is always in the path, so there is no burst capacity to reserve
//!   and no proxy mode to switch; requests held at zero count as demand like those in flight.
//! - **To zero only what was ready.** The idle time starts at the last request or when the service
//!   became ready, whichever is later; a service that still starts is never taken to zero, since
//!   it could then never become ready.

mod decide;
mod window;

pub use decide::{Autoscaler, Decision, Observed, Reason, Replicas, Windows};
pub use window::Sample;
