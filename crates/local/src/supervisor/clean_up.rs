//! Ends what a supervisor left that was killed, without starting another one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use super::StartError;
use crate::history::{JobRecord, ServiceRecord, Writer};
use crate::replica;
use crate::state_dir::StateDir;

/// As long as a replica has to drain.
const GRACE: Duration = Duration::from_secs(30);

/// Ends every process that belongs to the state folder, at once if it must `hurry`, and marks its
/// services as down. Gives the number of processes that were there. Fails if a supervisor runs.
pub async fn clean_up(state: &StateDir, hurry: bool) -> Result<usize, StartError> {
    if !state.database().exists() {
        return Ok(0);
    }
    let lock = state.lock()?;
    let (writer, saved) = Writer::open(&state.database())?;
    let marked = tokio::task::spawn_blocking(move || replica::marked(&saved.marker)).await;
    let marked = marked.unwrap_or_default();
    let count = marked.len();
    let mut ending = JoinSet::new();
    for (_, identity) in marked {
        let grace = if hurry { Duration::ZERO } else { GRACE };
        ending.spawn(async move { replica::end(&identity, grace).await });
    }
    while ending.join_next().await.is_some() {}
    for replica in saved.replicas {
        writer.forget_replica(&replica.id).await;
    }
    for job in saved.jobs.into_iter().filter(|job| !job.state.is_over()) {
        // Its agents have written down how they ended; who was killed without one was interrupted.
        writer.job(JobRecord { stop: true, ..job }).await;
    }
    for service in saved.services {
        writer.service(ServiceRecord { active: false, ..service }).await;
    }
    writer.folders(BTreeMap::new()).await;
    writer.flush().await;
    let _ = std::fs::remove_file(state.socket());
    drop(lock);
    Ok(count)
}
