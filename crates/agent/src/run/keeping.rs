//! The store of checkpoints, beside the program: what it goes on from, what becomes durable.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use trainyard_checkpoint::{Brought, Keeper, PruneOptions, Settings, Source, Start};

use super::peers::{Door, Gang};
use super::report::Saved;

/// First pause after a store did not answer; it doubles up to [`LONGEST`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Removing old checkpoints is no reason to wait for longer.
const PRUNE: Duration = Duration::from_secs(60);
/// The variables by which a program learns what it goes on from.
const PATH: &str = "TRAINYARD_RESTORE_PATH";
const STEP: &str = "TRAINYARD_RESTORE_STEP";

/// A keeper that has restored, and what the program is told of that.
pub(super) struct Keeping {
    keeper: Keeper,
    keep: usize,
    /// Others may restore when this worker has long been at work.
    _door: Option<Door>,
    pub(super) variables: Vec<(OsString, OsString)>,
}

impl Keeping {
    /// Brings back the checkpoint that the program goes on from, and begins to look for new ones.
    ///
    /// A store that does not answer is asked again and again: a program that began anew, though a
    /// checkpoint of it is somewhere, would be the worse mistake. Cancel-safe.
    pub(super) async fn begin(mut settings: Settings, gang: Option<&Gang>) -> io::Result<Self> {
        let keep = settings.keep;
        let door = match gang {
            Some(gang) => open(gang).await,
            None => None,
        };
        settings.sharing = door.as_ref().map(|door| Arc::clone(&door.sharing));
        let mut keeper = Keeper::open(settings).map_err(io::Error::other)?;
        let mut pause = PAUSE;
        let start = loop {
            match keeper.restore().await {
                Ok(start) => break start,
                Err(error) if error.is_transient() => {
                    let error = error.in_full();
                    eprintln!(
                        "trainyard: the store of checkpoints does not answer, and is asked again in {} s: {error}",
                        pause.as_secs()
                    );
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(LONGEST);
                }
                Err(error) => return Err(io::Error::other(error.in_full())),
            }
        };
        keeper.watch().map_err(io::Error::other)?;
        let variables = start.as_ref().map(told).unwrap_or_default();
        Ok(Self { keeper, keep, _door: door, variables })
    }

    pub(super) fn saved(&self) -> Option<Saved> {
        let counters = self.keeper.counters();
        let is_known = counters.newest.is_some() || counters.last_error.is_some();
        is_known.then(|| Saved {
            name: counters.newest.unwrap_or_default(),
            step: counters.newest_step,
            count: counters.saved,
            uploaded_bytes: counters.uploaded_bytes,
            from_store_bytes: counters.from_store_bytes,
            from_peers_bytes: counters.from_peers_bytes,
            failures: counters.failures,
            problem: counters.last_error,
        })
    }

    /// When the newest checkpoint was begun that was found, and the newest that is durable, both since the
    /// Unix epoch.
    pub(super) fn begun(&self) -> (Option<Duration>, Option<Duration>) {
        let counters = self.keeper.counters();
        let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).ok();
        (counters.found.and_then(since), counters.durable.and_then(since))
    }

    /// Makes durable what is complete, within a time. The program has ended, or may at any moment.
    /// `is_last`: the disk may be gone after it, so that a store that fails is asked again. Gives the newest
    /// that is not durable, and why.
    pub(super) async fn flush(&self, within: Duration, is_last: bool) -> Option<(String, String)> {
        let flushed = match is_last {
            true => self.keeper.insist(within).await,
            false => self.keeper.flush(within).await,
        };
        for name in &flushed.saved {
            eprintln!("trainyard: the checkpoint {name} is durable");
        }
        for (name, why) in &flushed.left {
            eprintln!("trainyard: the checkpoint {name} is not durable: {why}");
        }
        if flushed.ran_out {
            eprintln!("trainyard: the time for checkpoints ran out after {} s", within.as_secs());
        }
        flushed.lost
    }

    /// Leaves so many checkpoints in the store, once nothing more will come.
    pub(super) async fn prune(&self) {
        let options = PruneOptions::keep(self.keep);
        let enough = tokio::time::sleep(PRUNE);
        // Others may use the store, or it takes too long: the next start does it too.
        if let Err(error) = self.keeper.store().prune_until(&options, enough).await {
            eprintln!("trainyard: old checkpoints stay for now: {}", error.in_full());
        }
    }

    pub(super) async fn end(self) {
        self.keeper.stop().await;
    }
}

/// A door that cannot be opened is no reason not to start: the store has everything.
async fn open(gang: &Gang) -> Option<Door> {
    match gang.open().await {
        Ok(door) => Some(door),
        Err(error) => {
            eprintln!(
                "trainyard: restores from the store alone, since other workers cannot reach this one: {error}"
            );
            None
        }
    }
}

/// Says what the program goes on from, to people and to the program.
fn told(start: &Start) -> Vec<(OsString, OsString)> {
    let from = match start.source {
        Source::Local => "this machine",
        Source::Store => "the store",
    };
    eprintln!("trainyard: goes on from the checkpoint {} of {from}", start.name);
    let Brought { from_store, from_peers, peers } = start.brought;
    let seconds = start.took.as_secs_f64();
    let workers = if peers == 1 { "worker" } else { "workers" };
    if from_peers > 0 {
        eprintln!(
            "trainyard: {from_peers} bytes of it came from {peers} other {workers} and {from_store} from the store, in {seconds:.1} s"
        );
    } else if from_store > 0 {
        eprintln!("trainyard: {from_store} bytes of it came from the store, in {seconds:.1} s");
    }
    for skipped in &start.skipped {
        eprintln!("trainyard: passed over {}: {}", skipped.name, skipped.reason);
    }
    let mut variables = vec![(PATH.into(), start.path.clone().into())];
    variables.extend(start.step.map(|step| (STEP.into(), step.to_string().into())));
    variables
}
