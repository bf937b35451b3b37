//! Decides whenever something changed, wakes the jobs that were decided about, and writes what the
//! queues' statuses say.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::sleep;
use trainyard_api::Queue;

use super::Queues;
use crate::cluster::{CallError, Calls, Chain};
use crate::queue::Queue as WorkQueue;

/// Jobs come and end in bursts.
const GATHER: Duration = Duration::from_millis(100);
/// Who runs longer than was declared changes when others start.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What acting needs.
pub(crate) struct Acting<'a> {
    pub(crate) queues: &'a Queues,
    pub(crate) calls: &'a Calls,
    pub(crate) work: &'a Arc<WorkQueue>,
}

/// Acts for ever. Safe to stop at any await.
pub(crate) async fn act(acting: Acting<'_>) {
    let mut look_again = LOOK_AGAIN;
    loop {
        tokio::select! {
            () = acting.queues.changed() => sleep(GATHER).await,
            () = sleep(look_again) => {}
        }
        look_again = LOOK_AGAIN;
        let queues = acting.queues.clone();
        let now = Duration::from_secs(u64::try_from(Timestamp::now().as_second()).unwrap_or(0));
        // Ten thousand jobs take some tens of milliseconds.
        let cycle = tokio::task::spawn_blocking(move || queues.cycle(now));
        let Ok(Some(outcome)) = cycle.await else { continue };
        if let Some(at) = outcome.again_at {
            // Times have whole seconds.
            let left = at.saturating_sub(now).max(Duration::from_secs(1));
            look_again = look_again.min(left);
        }
        for key in outcome.jobs {
            acting.work.add(key);
        }
        for (name, uid, status) in outcome.statuses {
            match acting.calls.apply_cluster_status::<Queue>(&name, &uid, &status).await {
                Ok(()) | Err(CallError::Gone { .. } | CallError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "a queue's status is not written");
                }
            }
        }
    }
}
