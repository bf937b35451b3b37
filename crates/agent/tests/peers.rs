//! Workers that restore together, over real sockets, from a store that counts.

#[path = "../../checkpoint/tests/support/mod.rs"]
mod support;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{Memory, content, quick_folder, tree, write_step};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use trainyard_agent::run::{Door, Gang, Token};
use trainyard_checkpoint::{
    Brought, Hash, Keeper, Part, Patience, Refusal, Settings, Start, Store, Terms, Tuning,
};

const CHUNK: u64 = 16 << 10;
const TUNING: Tuning = Tuning { parallel: 6, chunk_bytes: CHUNK };
const WORKERS: u32 = 4;
/// Of the checkpoint, in chunks that are all different.
const BYTES: u64 = 128 * CHUNK;
/// Enough for who is there, also on a busy machine; a sign of life comes every second.
const PATIENCE: Patience = Patience {
    absent: Duration::from_millis(500),
    late: Duration::from_secs(3),
    silence: Duration::from_secs(3),
    lost: Duration::from_secs(30),
};

/// A store with one checkpoint, and what is in that.
async fn store() -> (Arc<Memory>, TempDir) {
    let (memory, folder) = (Memory::new(1), quick_folder());
    let files = [
        ("a", content(BYTES as usize / 2, 1)),
        ("below/b", content(BYTES as usize / 2 - 7, 2)),
        // The same again is not fetched again.
        ("c", content(BYTES as usize / 2, 1)),
        ("empty", Vec::new()),
    ];
    write_step(folder.path(), "step-7", &files);
    let settings = Settings { tuning: TUNING, ..Settings::new(folder.path(), "memory") };
    let keeper = Keeper::over(settings, Store::over(memory.clone())).unwrap();
    assert_eq!(keeper.flush(Duration::from_secs(60)).await.saved, ["step-7"]);
    memory.sent.store(0, Ordering::Relaxed);
    (memory, folder)
}

fn token(folder: &Path, secret: &str) -> Token {
    let path = folder.join(secret);
    std::fs::write(&path, secret.repeat(40)).unwrap();
    Token::read(&path).unwrap()
}

/// A gang whose workers have ports that nobody else has at the moment.
struct Workers {
    addresses: Vec<(String, u16)>,
    folder: TempDir,
    memory: Arc<Memory>,
}

impl Workers {
    async fn new(memory: &Arc<Memory>) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..WORKERS {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let address = |it: &TcpListener| ("127.0.0.1".to_owned(), it.local_addr().unwrap().port());
        let addresses = listeners.iter().map(address).collect();
        Self { addresses, folder: quick_folder(), memory: memory.clone() }
    }

    async fn open(&self, own: u32, secret: &str) -> Door {
        let token = token(self.folder.path(), secret);
        let gang = Gang { token, own, workers: self.addresses.clone(), patience: PATIENCE };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match gang.open().await {
                Ok(door) => return door,
                // An earlier one of this worker is about to close.
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    assert!(Instant::now() < deadline, "{error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn path(&self, own: u32) -> std::path::PathBuf {
        self.folder.path().join(own.to_string())
    }

    fn restore(&self, own: u32, door: &Door) -> impl Future<Output = Start> + use<> {
        let settings = Settings {
            workers: WORKERS,
            part: (own == 0).then_some(Part::WHOLE),
            attempt: "a".to_owned(),
            tuning: TUNING,
            sharing: Some(door.sharing.clone()),
            ..Settings::new(self.path(own), "memory")
        };
        let keeper = Keeper::over(settings, Store::over(self.memory.clone())).unwrap();
        async move { keeper.restore().await.unwrap().unwrap() }
    }

    /// Several at the same time; what each of them has brought.
    async fn restore_all(&self, doors: &[(u32, Door)]) -> Vec<Brought> {
        let mut all = JoinSet::new();
        for (own, door) in doors {
            all.spawn(self.restore(*own, door));
        }
        all.join_all().await.into_iter().map(|start| start.brought).collect()
    }

    async fn doors(&self, workers: impl IntoIterator<Item = u32>) -> Vec<(u32, Door)> {
        let mut doors = Vec::new();
        for own in workers {
            doors.push((own, self.open(own, "s").await));
        }
        doors
    }

    fn sent(&self) -> u64 {
        self.memory.sent.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_sends_each_chunk_once_to_four_workers() {
    let (memory, saved) = store().await;
    let size = BYTES - 7;
    let workers = Workers::new(&memory).await;
    let doors = workers.doors(0..3).await;
    let late = workers.open(3, "s").await;
    // One is there, and has not begun: it is waited for, and then it is not.
    let brought = workers.restore_all(&doors).await;
    let from_peers: u64 = brought.iter().map(|it| it.from_peers).sum();
    let from_store: u64 = brought.iter().map(|it| it.from_store).sum();
    assert_eq!(from_store + from_peers, 3 * size, "{brought:?}");
    assert_eq!(workers.sent(), from_store);
    assert!(from_store <= size + size / 10, "{brought:?}");

    // What was dealt to it comes from the others, too: they have it already.
    for key in memory.keys("chunks/") {
        memory.forget(&key);
    }
    let start = workers.restore(3, &late).await;
    let brought = start.brought;
    assert_eq!((brought.from_store, brought.from_peers), (0, size), "{brought:?}");
    assert!(brought.peers >= 2, "{brought:?}");
    for own in 0..WORKERS {
        assert_eq!(tree(&workers.path(own)), tree(saved.path()), "worker {own}");
    }

    // Disks that outlived their agents: nothing is brought, and all is offered again.
    drop((doors, late));
    let doors = workers.doors([1]).await;
    assert_eq!(workers.restore_all(&doors).await, [Brought::default()]);
    let fresh = workers.open(2, "s").await;
    std::fs::remove_dir_all(workers.path(2)).unwrap();
    let brought = workers.restore(2, &fresh).await.brought;
    assert_eq!(brought, Brought { from_store: 0, from_peers: size, peers: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn all_at_once() {
    let (memory, saved) = store().await;
    let size = BYTES - 7;
    let workers = Workers::new(&memory).await;
    let doors = workers.doors(0..WORKERS).await;
    let brought = workers.restore_all(&doors).await;
    let from_peers: u64 = brought.iter().map(|it| it.from_peers).sum();
    assert!(workers.sent() <= size + size / 10, "{} of {size}: {brought:?}", workers.sent());
    assert!(from_peers >= 3 * size - size / 10, "{brought:?}");
    // The load is spread.
    assert!(brought.iter().all(|it| it.from_store < size / 2), "{brought:?}");
    for own in 0..WORKERS {
        assert_eq!(tree(&workers.path(own)), tree(saved.path()), "worker {own}");
    }
}

/// What a peer does that is no good.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bad {
    Absent,
    Silent,
    /// It greets, and then it says nothing.
    Mute,
    /// It always has to be waited for.
    Waits,
    Lies,
    /// It announces more than there is.
    Exaggerates,
    DiesInTheMiddle,
    /// It sends some bytes now and then.
    Drips,
    /// It has another token.
    Stranger,
}

async fn serve(listener: TcpListener, bad: Bad) {
    let mut all = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        all.spawn(answer(stream, bad));
    }
}

async fn answer(mut stream: TcpStream, bad: Bad) -> std::io::Result<()> {
    let content = |length: u64| [&b"c\0\0\0\x08"[..], &length.to_be_bytes()].concat();
    if bad == Bad::Silent {
        return std::future::pending().await;
    }
    stream.write_all(&[&b"typeers1"[..], &[9; 32]].concat()).await?;
    // A proof, a frame's head, and a request.
    stream.read_exact(&mut [0; 32 + 5 + 6]).await?;
    match bad {
        Bad::Waits => loop {
            stream.write_all(b"w\0\0\0\0").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
        Bad::Lies => stream.write_all(&[content(CHUNK), vec![7; CHUNK as usize]].concat()).await?,
        Bad::Exaggerates => stream.write_all(&content(u64::MAX)).await?,
        Bad::DiesInTheMiddle => {
            let half = vec![7; CHUNK as usize / 2];
            stream.write_all(&[content(CHUNK), half].concat()).await?;
            return Ok(());
        }
        Bad::Drips => {
            stream.write_all(&content(CHUNK)).await?;
            loop {
                stream.write_all(&[7]).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Bad::Absent | Bad::Silent | Bad::Mute | Bad::Stranger => {}
    }
    // What it has sent must arrive before it goes.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_peer_costs_little_time_and_no_checkpoint() {
    for bad in [
        Bad::Absent,
        Bad::Silent,
        Bad::Mute,
        Bad::Waits,
        Bad::Lies,
        Bad::Exaggerates,
        Bad::DiesInTheMiddle,
        Bad::Drips,
        Bad::Stranger,
    ] {
        let (memory, saved) = store().await;
        let workers = Workers::new(&memory).await;
        let doors = workers.doors([0, 1, 3]).await;
        let mut serving = JoinSet::new();
        let stranger = match bad {
            Bad::Absent => None,
            Bad::Stranger => Some(workers.open(2, "t").await),
            _ => {
                let address = workers.addresses[2].clone();
                serving.spawn(serve(TcpListener::bind(address).await.unwrap(), bad));
                None
            }
        };
        let began = Instant::now();
        let brought = workers.restore_all(&doors).await;
        // Its times are three seconds each; what is left is for a busy machine.
        assert!(began.elapsed() < Duration::from_secs(20), "{bad:?}: {:?}", began.elapsed());
        // Its share falls to the next one for each chunk, and is not fetched by all.
        let sent = workers.sent();
        assert!(sent <= BYTES + BYTES / 2, "{bad:?}: {sent} of {BYTES}: {brought:?}");
        for own in [0, 1, 3] {
            assert_eq!(tree(&workers.path(own)), tree(saved.path()), "{bad:?}, worker {own}");
        }
        drop(stranger);
    }
}

const TERMS: Terms = Terms {
    connect: Duration::from_secs(5),
    wait: Duration::from_secs(5),
    silence: Duration::from_secs(5),
    transfer: Duration::from_secs(5),
};

#[test]
fn whatever_is_sent_to_a_door_it_stays_open() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (memory, _saved) = runtime.block_on(store());
    let workers = runtime.block_on(Workers::new(&memory));
    let doors = runtime.block_on(workers.doors(0..2));
    runtime.block_on(workers.restore_all(&doors));
    let (host, port) = workers.addresses[0].clone();
    let send = |bytes: Vec<u8>| {
        runtime.block_on(async {
            let mut stream = TcpStream::connect((host.as_str(), port)).await.unwrap();
            // It may hang up before all of it is there.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
    };
    let frame = (any::<[u8; 32]>(), any::<u8>(), any::<u32>(), any::<Vec<u8>>()).prop_map(
        |(proof, kind, length, rest)| [&proof[..], &[kind], &length.to_be_bytes(), &rest].concat(),
    );
    let bytes = prop_oneof![any::<Vec<u8>>(), frame];
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(64) });
    runner
        .run(&bytes, |bytes| {
            send(bytes);
            Ok(())
        })
        .unwrap();
    let peers = doors[1].1.sharing.peers.clone();
    let held = runtime.block_on(peers.held(0, TERMS)).unwrap();
    assert_eq!(held.len() as u64, BYTES / CHUNK);
    let asked = runtime.block_on(peers.chunk(0, Hash([1; 32]), CHUNK, TERMS));
    assert_eq!(asked, Err(Refusal::NotHeld));
    assert_eq!(runtime.block_on(peers.held(9, TERMS)), Err(Refusal::Absent));
}

#[test]
fn whatever_a_peer_answers_it_is_refused() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (memory, _saved) = runtime.block_on(store());
    let workers = runtime.block_on(Workers::new(&memory));
    let door = runtime.block_on(workers.open(0, "s"));
    let listener = runtime.block_on(TcpListener::bind(workers.addresses[1].clone())).unwrap();
    let answer = (any::<bool>(), any::<u8>(), any::<u16>(), any::<Vec<u8>>()).prop_map(
        |(greets, kind, length, rest)| {
            let greeting = if greets { [&b"typeers1"[..], &[3; 32]].concat() } else { Vec::new() };
            let kind = b"wnc".get(usize::from(kind % 4)).copied().unwrap_or(kind);
            [&greeting[..], &[kind, 0, 0], &length.to_be_bytes(), &rest].concat()
        },
    );
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(64) });
    let tried = runner.run(&answer, |bytes| {
        let refused = runtime.block_on(async {
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            };
            let ask = door.sharing.peers.chunk(1, Hash([1; 32]), CHUNK, TERMS);
            tokio::join!(ask, serve).0
        });
        prop_assert!(refused.is_err());
        Ok(())
    });
    tried.unwrap();
}
