//! Follows changes of the repository.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::control::{Shared, blocking};
use crate::repository::{Fingerprint, ModelSource};

/// Every model there is, with its files.
type Snapshot = BTreeMap<String, (ModelSource, Fingerprint)>;

/// Looks at the repository at an interval until the server is gone.
pub(super) async fn poll(server: Weak<Shared>, interval: Duration) {
    let Some(stop) = server.upgrade().map(|shared| shared.stop.clone()) else { return };
    let mut before: Option<Snapshot> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        let Some(shared) = server.upgrade() else { return };
        let now = {
            let shared = shared.clone();
            blocking(move || snapshot(&shared)).await
        };
        let Ok(now) = now else { continue };
        if let Some(before) = &before {
            apply(&shared, before, &now);
        }
        before = Some(now);
    }
}

fn snapshot(shared: &Shared) -> Snapshot {
    let (found, duplicates) = shared.repository.scan();
    for duplicate in duplicates {
        tracing::warn!("{duplicate}; only the first is served");
    }
    let with_files = |(name, source): (String, ModelSource)| {
        let files = source.fingerprint();
        (name, (source, files))
    };
    found.into_iter().map(with_files).collect()
}

/// Starts what the difference asks for. Only what did not change for a whole interval counts, since
/// a folder may still be being copied.
fn apply(shared: &Arc<Shared>, before: &Snapshot, now: &Snapshot) {
    let attempts = shared.registry(|registry| registry.attempts());
    for (name, (source, files)) in now {
        let is_stable = before.get(name).is_some_and(|(_, earlier)| earlier == files);
        let is_new = attempts.get(name.as_str()).is_none_or(|tried| tried.as_ref() != Some(files));
        if is_stable && is_new && !shared.registry(|registry| registry.is_loading(name)) {
            tracing::info!(model = name, "the model changed");
            let (shared, source) = (shared.clone(), source.clone());
            let tasks = shared.tasks.clone();
            tasks.spawn(async move {
                // A failure is logged and shown by the index; what serves goes on.
                let _ = shared.load_source(source, None, None).await;
            });
        }
    }
    for name in attempts.keys() {
        let is_gone = |snapshot: &Snapshot| !snapshot.contains_key(&**name);
        if is_gone(before) && is_gone(now) {
            tracing::info!(model = %name, "the model was removed");
            let (shared, name) = (shared.clone(), name.clone());
            let tasks = shared.tasks.clone();
            tasks.spawn(async move { shared.retire(&name).await });
        }
    }
}
