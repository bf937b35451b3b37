//! What `cargo xtask bench checkpoint` measures of workers that restore together.
//!
//! ```text
//! together STORE FOLDER WORKERS RATE peers|store
//! ```
//!
//! So many workers, each in a folder of its own below FOLDER and with sockets of its own, restore the
//! newest checkpoint of a store that sends RATE MB/s to all of them together. Prints the seconds until
//! the last one has it, and the MB that the store has sent.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use trainyard_agent::run::{Gang, Token};
use trainyard_checkpoint::{Keeper, Part, Patience, Settings, Store};
use trainyard_storage::objects::{self, Answer, Object, Objects};
use trainyard_storage::{Credentials, StorageError};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [store, folder, workers, rate, from @ ("peers" | "store")] = words[..] else {
        eprintln!("usage: together STORE FOLDER WORKERS RATE peers|store");
        return ExitCode::from(2);
    };
    let (Ok(workers), Ok(rate)) = (workers.parse(), rate.parse()) else {
        eprintln!("WORKERS and RATE are whole numbers");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("the system has threads");
    match runtime.block_on(restore(store, Path::new(folder), workers, rate, from == "peers")) {
        Ok((seconds, sent)) => {
            println!("{seconds} {}", sent as f64 / 1e6);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn restore(
    store: &str,
    folder: &Path,
    workers: u32,
    rate: u64,
    with_peers: bool,
) -> Result<(f64, u64), Box<dyn Error + Send + Sync>> {
    let inner = objects::open(store, &Credentials::default())?;
    let limited = Arc::new(Limited {
        inner,
        bytes_per_second: rate.saturating_mul(1_000_000).max(1),
        free_at: Mutex::new(Instant::now()),
        sent: AtomicU64::new(0),
    });
    std::fs::create_dir_all(folder)?;
    let secret = folder.join("token");
    std::fs::write(&secret, "0123456789abcdef".repeat(4))?;
    let token = Token::read(&secret)?;
    // Ports that nobody has at the moment.
    let mut listeners = Vec::new();
    for _ in 0..workers {
        listeners.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let mut addresses = Vec::new();
    for listener in &listeners {
        addresses.push(("127.0.0.1".to_owned(), listener.local_addr()?.port()));
    }
    drop(listeners);
    let (mut doors, mut all) = (Vec::new(), JoinSet::new());
    for own in 0..workers {
        let patience = Patience::default();
        let gang = Gang { token: token.clone(), own, workers: addresses.clone(), patience };
        doors.push(gang.open().await?);
    }
    let began = Instant::now();
    for (own, door) in (0..workers).zip(&doors) {
        let settings = Settings {
            workers,
            part: (own == 0).then_some(Part::WHOLE),
            attempt: format!("{}-{}", folder.display(), std::process::id()),
            sharing: with_peers.then(|| door.sharing.clone()),
            ..Settings::new(folder.join(own.to_string()), store)
        };
        let keeper = Keeper::over(settings, Store::over(limited.clone()))?;
        all.spawn(async move { keeper.restore().await });
    }
    while let Some(restored) = all.join_next().await {
        restored??.ok_or("there is nothing to restore")?;
    }
    Ok((began.elapsed().as_secs_f64(), limited.sent.load(Ordering::Relaxed)))
}

/// A store whose readers share a line.
#[derive(Debug)]
struct Limited {
    inner: Arc<dyn Objects>,
    bytes_per_second: u64,
    /// When the line has sent what it was given so far.
    free_at: Mutex<Instant>,
    sent: AtomicU64,
}

impl Limited {
    async fn send(&self, bytes: Bytes) -> Result<Bytes, StorageError> {
        let length = bytes.len() as u64;
        self.sent.fetch_add(length, Ordering::Relaxed);
        let takes = Duration::from_secs_f64(length as f64 / self.bytes_per_second as f64);
        let done = {
            let mut free_at = self.free_at.lock().await;
            *free_at = (*free_at).max(Instant::now()) + takes;
            *free_at
        };
        sleep_until(done).await;
        Ok(bytes)
    }
}

impl Objects for Limited {
    fn get<'a>(&'a self, key: &'a str, most: u64) -> Answer<'a, Bytes> {
        async move { self.send(self.inner.get(key, most).await?).await }.boxed()
    }

    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, ()> {
        self.inner.put(key, bytes)
    }

    fn create<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool> {
        self.inner.create(key, bytes)
    }

    fn holds<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool> {
        self.inner.holds(key, bytes)
    }

    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<Object>> {
        self.inner.list(folder)
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        self.inner.delete(key)
    }

    fn visibility(&self) -> Duration {
        self.inner.visibility()
    }

    fn uri(&self) -> &str {
        self.inner.uri()
    }
}
