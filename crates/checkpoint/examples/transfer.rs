//! What `cargo xtask bench checkpoint` measures: one transfer a run, or what a busy process loses while
//! checkpoints are uploaded beside it.
//!
//! ```text
//! transfer save FOLDER STORE        uploads what is in FOLDER; prints seconds
//! transfer restore STORE FOLDER     restores the newest, as an agent does; prints seconds
//! transfer pull STORE FOLDER        the same until the disk has it, as `checkpoints pull` does
//! transfer beside FOLDER STORE N    N busy threads: prints work done alone and while uploading
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trainyard_checkpoint::{CheckpointError, Keeper, Settings, Store};
use trainyard_storage::Credentials;

/// Turns of each kind; they alternate, so that a machine that gets slower does not count for one.
const TURNS: usize = 4;
const TURN: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("the system has threads");
    let done = match words.as_slice() {
        ["save", folder, store] => runtime.block_on(save(folder, store)),
        ["restore", store, folder] => runtime.block_on(restore(store, folder)),
        ["pull", store, folder] => runtime.block_on(pull(store, Path::new(folder))),
        ["beside", folder, store, threads] => {
            let threads = threads.parse().unwrap_or(1);
            beside(Path::new(folder), store, threads, runtime.handle())
        }
        _ => {
            eprintln!(
                "usage: transfer save FOLDER STORE | restore STORE FOLDER | pull STORE FOLDER | beside FOLDER STORE THREADS"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
            ExitCode::FAILURE
        }
    }
}

async fn save(folder: &str, store: &str) -> Result<(), CheckpointError> {
    let keeper = Arc::new(Keeper::open(Settings::new(folder, store))?);
    let flusher = Arc::clone(&keeper);
    let began = Instant::now();
    let flush = tokio::spawn(async move { flusher.flush(Duration::from_secs(600)).await });
    // Until it is durable; a flush looks a second time then, whether there is more.
    while keeper.counters().saved == 0 && !flush.is_finished() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = began.elapsed();
    let flushed = flush.await.expect("a flush does not panic");
    if flushed.saved.is_empty() || !flushed.left.is_empty() {
        return Err(CheckpointError::Settings(format!("not saved: {flushed:?}")));
    }
    println!("{}", took.as_secs_f64());
    Ok(())
}

async fn restore(store: &str, folder: &str) -> Result<(), CheckpointError> {
    let keeper = Keeper::open(Settings::new(folder, store))?;
    let began = Instant::now();
    let restored = keeper.restore().await?;
    tell(restored.is_some(), began)
}

async fn pull(store: &str, folder: &Path) -> Result<(), CheckpointError> {
    let store = Store::open(store, &Credentials::default())?;
    let began = Instant::now();
    let restored = store.restore_newest(folder, None).await?;
    tell(restored.is_some(), began)
}

fn tell(is_restored: bool, began: Instant) -> Result<(), CheckpointError> {
    if !is_restored {
        return Err(CheckpointError::Settings("there is nothing to restore".to_owned()));
    }
    println!("{}", began.elapsed().as_secs_f64());
    Ok(())
}

/// Busy threads count how much they get done, by turns alone and beside an upload that never ends.
fn beside(
    folder: &Path,
    store: &str,
    threads: usize,
    runtime: &tokio::runtime::Handle,
) -> Result<(), CheckpointError> {
    let stop = AtomicBool::new(false);
    let work = AtomicU64::new(0);
    let (mut alone, mut with, mut uploaded) = (0, 0, 0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut value = 1u64;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..10_000 {
                        value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005));
                    }
                    work.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let counted = || {
            let before = work.load(Ordering::Relaxed);
            std::thread::sleep(TURN);
            work.load(Ordering::Relaxed).saturating_sub(before)
        };
        let result = (0..TURNS).try_for_each(|turn| {
            alone += counted();
            // Each turn in a store of its own, so that every byte is sent.
            let uri = format!("{store}/{turn}");
            let settings =
                Settings { poll: Duration::from_millis(50), ..Settings::new(folder, uri) };
            let mut keeper = Keeper::open(settings)?;
            keeper.watch()?;
            with += counted();
            uploaded += keeper.counters().uploaded_bytes;
            runtime.block_on(keeper.stop());
            Ok::<_, CheckpointError>(())
        });
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    println!("{alone} {with} {uploaded}");
    Ok(())
}
