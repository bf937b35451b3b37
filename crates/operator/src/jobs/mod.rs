//! Training jobs: `control` decides when workers start, end and are over; a Kubernetes Job for each
//! start runs them.
//!
//! [`observe`](observe::observe) says what workers do, [`preflight`] whether what the next ones need is
//! there, [`turn`] whether they may start, [`status`] what a person is told, `reconcile` carries out,
//! [`hints`] says which nodes the workers prefer, [`leftovers`] what of earlier starts goes, and
//! [`quota`] what is left of jobs that are deleted. What was decided stands in `status.memory` before
//! it is done, so that an operator that is killed in the middle is replaced by one that goes on.

mod hints;
mod leftovers;
mod memory;
mod observe;
mod preflight;
mod quota;
mod reconcile;
mod secret;
mod status;
mod turn;
mod workload;

pub(crate) use memory::stand_in_queue;
pub(crate) use reconcile::reconcile;
