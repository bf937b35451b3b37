//! What was told to be durable restores bit for bit, whatever fails and whoever is killed.
//!
//! One schedule is a store in memory, some workers and a sweeper, all driven by one seed: they write
//! checkpoints, upload them, prune and restore, while requests fail, answers get lost, the disk is
//! full, and any of them is killed in the middle of what it does (its future is dropped). What a sweeper
//! asked the store to remove may be removed long after it was killed.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use support::{Faults, Memory, content, names, quick_folder, tree, write_step};
use trainyard_checkpoint::{CheckpointError, Keeper, Part, PruneOptions, Settings, Store, Tuning};

const SCHEDULES: u64 = 200;
const ROUNDS: u64 = 8;
/// Small, so that each file has many.
const TUNING: Tuning = Tuning { parallel: 3, chunk_bytes: 256 };

fn settings(folder: &std::path::Path, attempt: &str, part: Part) -> Settings {
    Settings {
        keep: 2,
        workers: part.of,
        part: Some(part),
        attempt: attempt.to_owned(),
        tuning: TUNING,
        still_for: Duration::ZERO,
        ..Settings::new(folder, "memory")
    }
}

/// The files of one worker at one step: most of them differ from step to step, one never does, and one is
/// again what it was in checkpoints that are old by now.
fn files(step: u64, part: u32, seed: u64) -> Vec<(&'static str, Vec<u8>)> {
    let size = 300 + (step * 37 + seed % 500) as usize;
    let own: &'static str = ["a/rank-0", "a/rank-1", "a/rank-2"][part as usize];
    vec![
        (own, content(size, seed ^ step ^ u64::from(part) << 32)),
        ("frozen", content(900, 7)),
        ("turns", content(700, step / 10 % 3)),
        ("empty", Vec::new()),
    ]
}

async fn schedule(seed: u64) {
    let memory = Memory::new(seed);
    let of = 1 + (seed % 3) as u32;
    let store = Store::over(memory.clone()).with_tuning(TUNING);
    let folders: Vec<_> = (0..of).map(|_| quick_folder()).collect();
    // By name: the content that each worker wrote last.
    let mut written: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    let mut durable: Option<(u64, String)> = None;
    for round in 0..ROUNDS {
        let attempt = format!("uid-{round}");
        memory.set_faults(Faults::default());
        let keepers: Vec<Arc<Keeper>> = (0..of)
            .map(|index| {
                let settings =
                    settings(folders[index as usize].path(), &attempt, Part { index, of });
                Arc::new(Keeper::over(settings, store.clone()).unwrap())
            })
            .collect();

        // Every start goes on from something that is at least as new as what was durable.
        for keeper in &keepers {
            let start = keeper.restore().await.unwrap();
            if let Some((step, name)) = &durable {
                let start = start.as_ref().unwrap_or_else(|| panic!("{seed}: {name} is lost"));
                assert!(start.step >= Some(*step), "{seed}: {start:?} after {name}");
            }
            if let Some(start) = start {
                let held = tree(&start.path);
                for (path, bytes) in held.iter().filter(|it| it.0.as_str() != "_SUCCESS") {
                    assert_eq!(Some(bytes), written[&start.name].get(path), "{seed}: {path}");
                }
                if of > 1 {
                    assert_eq!(held.len(), 4 + of as usize, "{seed}: every part is there");
                }
            }
        }

        // The program writes a step; its workers upload it, and one more process prunes.
        let step = 10 * (round + 1);
        let name = format!("step-{step}");
        let mut whole = BTreeMap::new();
        for index in 0..of {
            let files = files(step, index, seed);
            whole.extend(files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())));
            write_step(folders[index as usize].path(), &name, &files);
        }
        written.insert(name.clone(), whole);
        memory.set_faults(Faults {
            refused: 40,
            answer_lost: 40,
            full: 60,
            late: 10,
            ..Faults::default()
        });
        let mut tasks = Vec::new();
        for keeper in &keepers {
            let (keeper, memory) = (Arc::clone(keeper), Arc::clone(&memory));
            tasks.push(tokio::spawn(async move {
                let kill_after = memory.random() % 400;
                let mut saved = false;
                let work = async {
                    for _ in 0..4 {
                        let flushed = keeper.flush(Duration::from_secs(60)).await;
                        saved |= keeper.counters().waiting.is_empty() && flushed.left.is_empty();
                        if saved {
                            break;
                        }
                    }
                };
                let killed = async {
                    for _ in 0..kill_after {
                        tokio::task::yield_now().await;
                    }
                    // Some are never killed.
                    if kill_after.is_multiple_of(2) {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    () = work => {}
                    () = killed => return false,
                }
                saved
            }));
        }
        let (sweeper, random) = (store.clone(), Arc::clone(&memory));
        // Beside them, or after most of them.
        let begins_after = random.random() % 2 * 300;
        let sweep = tokio::spawn(async move {
            for _ in 0..begins_after {
                tokio::task::yield_now().await;
            }
            let kill_after = random.random() % 200;
            let killed = async {
                for _ in 0..kill_after {
                    tokio::task::yield_now().await;
                }
            };
            let options = PruneOptions::keep(2);
            tokio::select! {
                // What fails here fails in the middle of removing.
                pruned = sweeper.prune(&options) => drop(pruned),
                () = killed => {}
            }
        });
        let mut all = true;
        for task in tasks {
            all &= task.await.unwrap();
        }
        sweep.await.unwrap();
        memory.set_faults(Faults::default());
        if memory.random().is_multiple_of(2) {
            // Locks of the killed are void after a while, and by then the store has done what it was asked.
            memory.arrive();
            memory.age(Duration::from_secs(700));
        }
        if all {
            durable = Some((step, name.clone()));
        }
        let catalogue = store.catalogue().await.unwrap();
        assert!(catalogue.broken.is_empty(), "{seed}: {:?}", catalogue.broken);
        if all {
            let step = catalogue.find(&name).unwrap_or_else(|| panic!("{seed}: {name} is gone"));
            assert_eq!(store.verify(step).await.unwrap(), [], "{seed}: {name}");
        }
        // Machines come and go.
        for folder in &folders {
            if memory.random().is_multiple_of(3) {
                for name in names(folder.path()) {
                    std::fs::remove_dir_all(folder.path().join(name)).unwrap();
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_durable_is_lost() {
    for seed in 0..SCHEDULES {
        schedule(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).await;
    }
}

/// A store whose disk goes bad: nothing wrong is ever restored, and an older one is.
#[tokio::test(start_paused = true)]
async fn a_damaged_checkpoint_is_passed_over() {
    for seed in 0..50u64 {
        let memory = Memory::new(seed);
        let store = Store::over(memory.clone()).with_tuning(TUNING);
        let folder = quick_folder();
        let keeper = Keeper::over(settings(folder.path(), "", Part::WHOLE), store.clone()).unwrap();
        let mut all = Vec::new();
        for step in [10, 20, 30] {
            let files = files(step, 0, seed);
            write_step(folder.path(), &format!("step-{step}"), &files);
            let flushed = keeper.flush(Duration::from_secs(60)).await;
            assert_eq!(flushed.saved, [format!("step-{step}")]);
            all.push(tree(&folder.path().join(format!("step-{step}"))));
        }
        let chunks = memory.keys("chunks/");
        let victim = &chunks[(memory.random() % chunks.len() as u64) as usize];
        match seed % 2 {
            0 => memory.rot(victim),
            _ => memory.forget(victim),
        }
        let to = quick_folder();
        match store.restore_newest(to.path(), None).await {
            Ok(restored) => {
                let restored = restored.unwrap();
                let index = (restored.step.unwrap() / 10 - 1) as usize;
                assert_eq!(tree(&restored.path), all[index], "{seed}");
                assert_eq!(restored.skipped.len(), 2 - index, "{seed}: {restored:?}");
            }
            // The file that all share was hit.
            Err(CheckpointError::NoneGood { skipped, .. }) => assert_eq!(skipped.len(), 3),
            Err(error) => panic!("{seed}: {error}"),
        }
        let left = names(to.path());
        assert!(left.iter().all(|name| name.starts_with("step-")), "{left:?}");

        // The next checkpoint mends the chunk that it shares.
        let files = files(40, 0, seed);
        write_step(folder.path(), "step-40", &files);
        assert_eq!(keeper.flush(Duration::from_secs(60)).await.saved, ["step-40"]);
        let to = quick_folder();
        let restored = store.restore_newest(to.path(), None).await.unwrap().unwrap();
        assert_eq!((restored.step, restored.skipped.len()), (Some(40), 0));
    }
}

/// A sweeper that is gone, and whose last requests the store may still do, is waited for by who needs what it
/// was about to remove, and by nobody else.
#[tokio::test(start_paused = true)]
async fn a_killed_sweeper_holds_up_who_needs_what_it_removes() {
    let memory = Memory::new(1);
    let store = Store::over(memory.clone()).with_tuning(TUNING);
    let folder = quick_folder();
    let keeper = Keeper::over(settings(folder.path(), "", Part::WHOLE), store.clone()).unwrap();
    let save = async |step: u64, seed: u64| {
        let name = format!("step-{step}");
        write_step(folder.path(), &name, &[("model", content(1000, seed))]);
        keeper.flush(Duration::from_secs(30)).await.saved == [name]
    };
    for step in 1..=3 {
        assert!(save(step, step).await);
    }
    memory.set_faults(Faults { late: 1, ..Faults::default() });
    store.prune(&PruneOptions::keep(1)).await.unwrap_err();
    memory.set_faults(Faults::default());

    assert!(save(4, 4).await);
    assert!(!save(5, 1).await);
    memory.arrive();
    memory.age(Duration::from_secs(700));
    assert_eq!(keeper.flush(Duration::from_secs(30)).await.saved, ["step-5"]);
    let catalogue = store.catalogue().await.unwrap();
    for name in ["step-3", "step-4", "step-5"] {
        assert_eq!(store.verify(catalogue.find(name).unwrap()).await.unwrap(), [], "{name}");
    }
}

/// Checkpoints of a few chunks that come and go, so that who publishes often needs what a sweeper, alive or
/// killed, is about to remove.
#[tokio::test(start_paused = true)]
async fn content_that_comes_back_stays() {
    let mut saved_at_once = 0;
    for seed in 0..1000u64 {
        let memory = Memory::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let store = Store::over(memory.clone()).with_tuning(TUNING);
        let folder = quick_folder();
        let settings = Settings { keep: 1, ..settings(folder.path(), "", Part::WHOLE) };
        let keeper = Arc::new(Keeper::over(settings, store.clone()).unwrap());
        let mut durable = None;
        for step in 1..=8 {
            let name = format!("step-{step}");
            let chunk = |path| (path, content(256, memory.random() % 4));
            write_step(folder.path(), &name, &[chunk("a"), chunk("b")]);
            memory.set_faults(Faults { late: 3, slow: 5, ..Faults::default() });
            let after = |turns: u64| async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            };
            let sweepers: Vec<_> = (0..memory.random() % 3)
                .map(|_| {
                    let (begin, kill) = (memory.random() % 120, memory.random() % 120);
                    let sweeper = store.clone();
                    tokio::spawn(async move {
                        after(begin).await;
                        let options = PruneOptions::keep(1);
                        let _ = sweeper.prune_until(&options, after(2000)).await;
                        tokio::select! {
                            _ = sweeper.prune(&options) => {}
                            () = after(kill) => {}
                        }
                    })
                })
                .collect();
            let flusher = Arc::clone(&keeper);
            let begin = memory.random() % 120;
            let flush = tokio::spawn(async move {
                after(begin).await;
                flusher.flush(Duration::from_secs(5)).await
            });
            after(memory.random() % 200).await;
            memory.arrive();
            for sweeper in sweepers {
                sweeper.await.unwrap();
            }
            let flushed = flush.await.unwrap();
            if flushed.left.is_empty() && flushed.saved.contains(&name) {
                durable = Some(step);
                saved_at_once += 1;
            }
            memory.set_faults(Faults::default());
            if memory.random().is_multiple_of(2) {
                memory.arrive();
                memory.age(Duration::from_secs(700));
            }
            // That one or a newer one is whole, and all that are newer than it are.
            let catalogue = store.catalogue().await.unwrap();
            let newer: Vec<_> = catalogue.steps.iter().filter(|it| it.step() >= durable).collect();
            assert!(durable.is_none() || !newer.is_empty(), "{seed}: step {durable:?} is gone");
            for it in newer {
                assert_eq!(store.verify(it).await.unwrap(), [], "{seed}: {:?}", it.id);
            }
        }
    }
    assert!(saved_at_once > 2500, "{saved_at_once}");
}
