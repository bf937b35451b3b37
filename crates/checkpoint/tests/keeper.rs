//! A keeper beside a program, on this machine's disk.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use support::{Faults, Memory, content, names, tree, write_step};
use trainyard_checkpoint::{
    CheckpointError, Keeper, Part, PruneOptions, Settings, Source, Store, Tuning,
};
use trainyard_storage::Credentials;

const TUNING: Tuning = Tuning { parallel: 4, chunk_bytes: 64 << 10 };

fn settings(path: &Path, store: &Path) -> Settings {
    Settings {
        tuning: TUNING,
        poll: Duration::from_millis(20),
        still_for: Duration::from_millis(100),
        ..Settings::new(path, format!("file://{}", store.display()))
    }
}

fn open(store: &Path) -> Store {
    Store::open(&store.display().to_string(), &Credentials::default()).unwrap().with_tuning(TUNING)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_saved_restored_and_pruned() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut keeper = Keeper::open(settings(program.path(), store.path())).unwrap();
    assert_eq!(keeper.restore().await.unwrap(), None);
    keeper.watch().unwrap();
    for step in 1..=5u64 {
        let name = format!("step-{step}");
        let files = [("model", content(200_000, step)), ("frozen", content(300_000, 99))];
        write_step(program.path(), &name, &files);
        until(&name, || keeper.counters().newest.as_deref() == Some(&name)).await;
    }
    until("old ones are removed", || keeper.counters().removed == 2).await;
    let counters = keeper.counters();
    assert_eq!((counters.saved, counters.failures), (5, 0), "{counters:?}");
    // What did not change was uploaded once.
    assert_eq!(counters.uploaded_bytes, 5 * 200_000 + 300_000);
    keeper.stop().await;

    let catalogue = open(store.path()).catalogue().await.unwrap();
    let left: Vec<_> = catalogue.steps.iter().map(|step| step.id.name.clone()).collect();
    assert_eq!(left, ["step-5", "step-4", "step-3"]);
    let chunks = tree(&store.path().join("chunks"));
    let bytes: usize = chunks.values().map(Vec::len).sum();
    assert_eq!(bytes, 3 * 200_000 + 300_000, "nothing else is left");
    assert!(
        tree(&store.path().join("tmp")).is_empty() && tree(&store.path().join("locks")).is_empty()
    );

    // Another machine.
    let expected = tree(&program.path().join("step-5"));
    let elsewhere = tempfile::tempdir().unwrap();
    let keeper = Keeper::open(settings(elsewhere.path(), store.path())).unwrap();
    let start = keeper.restore().await.unwrap().unwrap();
    assert_eq!((start.step, start.source), (Some(5), Source::Store));
    assert_eq!(start.path, elsewhere.path().join("step-5"));
    assert_eq!(tree(&start.path), expected);
    assert_eq!(names(elsewhere.path()), ["step-5"]);
    // It is not uploaded again as a new one.
    assert_eq!(keeper.flush(Duration::from_secs(60)).await.saved, [""; 0]);

    // What a machine that lost its power left of it is put right.
    for path in tree(&start.path).into_keys() {
        let file = std::fs::OpenOptions::new().write(true).open(start.path.join(path)).unwrap();
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes / 2).unwrap();
        file.set_len(bytes).unwrap();
    }
    let keeper = Keeper::open(settings(elsewhere.path(), store.path())).unwrap();
    let start = keeper.restore().await.unwrap().unwrap();
    assert_eq!((start.step, start.source), (Some(5), Source::Store));
    assert_eq!(tree(&start.path), expected);

    // The same machine, whose disk has one that is newer than the store's.
    write_step(program.path(), "step-6", &[("model", content(1000, 6))]);
    let keeper = Keeper::open(settings(program.path(), store.path())).unwrap();
    let start = keeper.restore().await.unwrap().unwrap();
    assert_eq!((start.step, start.source), (Some(6), Source::Local));
    assert_eq!(start.path, program.path().join("step-6"));
    assert_eq!(keeper.flush(Duration::from_secs(60)).await.saved, ["step-6"]);
}

/// What passes for a file of `torch.save`: an archive without members.
fn zip(fill: u8) -> Vec<u8> {
    let mut file = vec![fill; 100_000];
    file.splice(0..4, *b"PK\x03\x04");
    file.extend(b"PK\x05\x06");
    file.extend([0; 12]);
    file.extend(100_000u32.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// Writes again and again, until it is told to end. Returns how often.
fn writer(
    write: impl Fn(&[u8]) + Send + 'static,
    pause: Duration,
) -> (impl FnOnce() -> u64, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = stop.clone();
    let thread = std::thread::spawn(move || {
        let mut writes = 0u64;
        while !told.load(Ordering::Relaxed) {
            write(&zip((writes % 251) as u8));
            writes += 1;
            std::thread::sleep(pause);
        }
        writes
    });
    (move || thread.join().unwrap(), stop)
}

/// It is never as it was for long enough, and yet it comes to the store while it is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_all_the_time_is_saved_all_the_same() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fast = |settings| Settings { still_for: Duration::from_secs(1), ..settings };
    let mut keeper = Keeper::open(fast(settings(program.path(), store.path()))).unwrap();
    keeper.watch().unwrap();
    let folder = program.path().to_owned();
    let write = move |content: &[u8]| {
        fs::write(folder.join("m.pt.tmp"), content).unwrap();
        fs::rename(folder.join("m.pt.tmp"), folder.join("m.pt")).unwrap();
    };
    let (end, stop) = writer(write, Duration::from_millis(200));
    until("three versions are saved", || keeper.counters().saved >= 3).await;
    let while_it_writes = keeper.flush(Duration::from_secs(30)).await;
    assert_eq!(while_it_writes.saved, ["m.pt"], "{while_it_writes:?}");
    stop.store(true, Ordering::Relaxed);
    let writes = end();
    assert_eq!(keeper.flush(Duration::from_secs(30)).await.saved, ["m.pt"]);
    assert_eq!(keeper.counters().failures, 0, "{:?}", keeper.counters());
    keeper.stop().await;
    assert_eq!(names(program.path()), ["m.pt"], "no link is left");
    // Each is whole, and the last one is the newest.
    let store = open(store.path());
    let catalogue = store.catalogue().await.unwrap();
    let to = tempfile::tempdir().unwrap();
    for (number, step) in catalogue.steps.iter().enumerate() {
        let restored = store.restore(step, to.path(), None).await.unwrap();
        let content = fs::read(restored.path).unwrap();
        assert_eq!(content, zip(content[4]), "{step:?}");
        if number == 0 {
            assert_eq!(u64::from(content[4]), (writes - 1) % 251);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_stop_removes_no_more_and_leaves_no_lock() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keeper = Keeper::open(settings(program.path(), store.path())).unwrap();
    for step in 1..=3u64 {
        write_step(program.path(), &format!("step-{step}"), &[("model", content(1000, step))]);
        keeper.flush(Duration::from_secs(60)).await;
    }
    let options = PruneOptions::keep(1);
    let pruned = keeper.store().prune_until(&options, std::future::ready(())).await.unwrap();
    assert!(pruned.is_busy && pruned.removed.is_empty(), "{pruned:?}");
    assert!(tree(&store.path().join("locks")).is_empty());
    assert_eq!(open(store.path()).catalogue().await.unwrap().steps.len(), 3);
    assert_eq!(keeper.store().prune(&options).await.unwrap().removed.len(), 2);
}

/// Parts that go past the page cache, and what is left of a file behind them.
#[tokio::test(flavor = "multi_thread")]
async fn large_files_come_back_until_readable_and_until_on_the_disk() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tuning = Tuning { parallel: 4, chunk_bytes: 1 << 20 };
    let large = |folder: &Path| Settings { tuning, ..settings(folder, store.path()) };
    let lengths = [1 << 20, (1 << 20) + 1, (3 << 20) + 4096, 3_500_000];
    let files: Vec<(String, Vec<u8>)> = (0u64..)
        .zip(lengths)
        .map(|(n, length)| (format!("shard-{n}"), content(length, n)))
        .collect();
    let named: Vec<_> = files.iter().map(|it| (it.0.as_str(), it.1.clone())).collect();
    write_step(program.path(), "step-1", &named);
    let keeper = Keeper::open(large(program.path())).unwrap();
    assert_eq!(keeper.flush(Duration::from_secs(60)).await.saved, ["step-1"]);
    // The disk that cargo builds on, since memory's file system may take nothing past the cache.
    let disk = || tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let (readable, on_disk) = (disk(), disk());
    Keeper::open(large(readable.path())).unwrap().restore().await.unwrap().unwrap();
    open(store.path()).restore_newest(on_disk.path(), None).await.unwrap().unwrap();
    assert!(tree(readable.path()) == tree(program.path()));
    assert!(tree(on_disk.path()) == tree(program.path()));
}

/// It is one file all the time, whose link changes with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_over_in_place_is_never_torn() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fast = |settings| Settings { still_for: Duration::from_secs(3), ..settings };
    let mut keeper = Keeper::open(fast(settings(program.path(), store.path()))).unwrap();
    keeper.watch().unwrap();
    let path = program.path().join("m.pt");
    fs::write(&path, zip(0)).unwrap();
    let write = move |content: &[u8]| {
        use std::os::unix::fs::FileExt;
        // Its length stays, and its format says all the time that it is whole.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for (number, part) in content.chunks(10_000).enumerate() {
            file.write_all_at(part, number as u64 * 10_000).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let (end, stop) = writer(write, Duration::from_millis(100));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = keeper.counters().saved;
    stop.store(true, Ordering::Relaxed);
    let writes = end();
    until("it is left alone", || keeper.counters().saved > before).await;
    keeper.stop().await;
    let store = open(store.path());
    let catalogue = store.catalogue().await.unwrap();
    // On a busy machine the writer may have stood still for long enough between two contents.
    for (age, step) in catalogue.steps.iter().enumerate() {
        let to = tempfile::tempdir().unwrap();
        let restored = store.restore(step, to.path(), None).await.unwrap();
        let content = fs::read(restored.path).unwrap();
        let is_whole = |write: u64| content == zip((write % 251) as u8);
        assert!((0..writes).any(is_whole), "{}", step.id.name);
        assert!(age > 0 || is_whole(writes - 1));
    }
    assert_eq!(names(program.path()), ["m.pt"], "no link is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_over_gives_several_checkpoints() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keeper = Keeper::open(settings(program.path(), store.path())).unwrap();
    for fill in [1, 2] {
        let staged = program.path().join("model.pt.tmp");
        fs::write(&staged, zip(fill)).unwrap();
        fs::rename(&staged, program.path().join("model.pt")).unwrap();
        assert_eq!(keeper.flush(Duration::from_secs(60)).await.saved, ["model.pt"]);
    }
    let store = open(store.path());
    let catalogue = store.catalogue().await.unwrap();
    assert_eq!(catalogue.steps.len(), 2);
    let to = tempfile::tempdir().unwrap();
    for (step, fill) in catalogue.steps.iter().zip([2, 1]) {
        let restored = store.restore(step, to.path(), None).await.unwrap();
        assert_eq!(restored.path, to.path().join("model.pt"));
        assert_eq!(fs::read(restored.path).unwrap(), zip(fill));
    }
    assert_eq!(names(to.path()), ["model.pt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_save_parts_and_go_on_from_the_same_step() {
    let store = tempfile::tempdir().unwrap();
    let workers = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let keeper = |index: u32, attempt: &str| {
        let path = workers[index as usize].path();
        Keeper::open(Settings {
            workers: 2,
            part: Some(Part { index, of: 2 }),
            attempt: attempt.to_owned(),
            ..settings(path, store.path())
        })
        .unwrap()
    };
    let write = |index: u32, step: u64| {
        let files = [("same-name", content(1000, step + u64::from(index)))];
        write_step(workers[index as usize].path(), &format!("step-{step}"), &files);
    };
    for index in [0u32, 1] {
        let keeper = keeper(index, "a");
        assert_eq!(keeper.restore().await.unwrap(), None);
        write(index, 10);
        assert_eq!(keeper.flush(Duration::from_secs(60)).await.saved, ["step-10"]);
    }
    // Only one of them gets to save the next one, so it counts for nobody.
    write(0, 20);
    write(1, 20);
    let first = keeper(0, "a");
    first.restore().await.unwrap();
    let catalogue = open(store.path()).catalogue().await.unwrap();
    assert_eq!(catalogue.steps.len(), 1);
    let second = [keeper(0, "b"), keeper(1, "b")];
    for index in [0u32, 1] {
        let start = second[index as usize].restore().await.unwrap().unwrap();
        assert_eq!(start.step, Some(10));
        // Each has its own file of that name back.
        let held = fs::read(start.path.join("same-name")).unwrap();
        assert_eq!(held, content(1000, 10 + u64::from(index)));
        let moved = workers[index as usize].path().join(".trainyard-superseded/step-20");
        assert!(moved.is_dir(), "a program that looks for the newest folder must not find it");
    }
    // A start whose workers decided keeps to that, whatever comes meanwhile.
    let late = keeper(1, "c");
    assert_eq!(keeper(0, "c").restore().await.unwrap().unwrap().step, Some(10));
    for index in [0u32, 1] {
        write(index, 30);
        let keeper = &second[index as usize];
        assert_eq!(keeper.flush(Duration::from_secs(60)).await.saved, ["step-30"]);
    }
    assert_eq!(late.restore().await.unwrap().unwrap().step, Some(10));
    assert_eq!(keeper(0, "d").restore().await.unwrap().unwrap().step, Some(30));

    // Without a worker's number nothing says whose file is meant.
    let store = open(store.path());
    let catalogue = store.catalogue().await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let error = store.restore(catalogue.find("30").unwrap(), to.path(), None).await.unwrap_err();
    assert!(matches!(error, CheckpointError::WhichPart { of: 2, .. }), "{error}");
    // A name without a step cannot be put together.
    fs::remove_dir_all(workers[0].path().join(".trainyard-superseded")).unwrap();
    write_step(workers[0].path(), "last", &[("x", vec![1])]);
    let flushed = keeper(0, "d").flush(Duration::from_secs(60)).await;
    assert!(flushed.left[0].1.contains("has no step in its name"), "{flushed:?}");
    assert_eq!(flushed.lost, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_takes_over_from_the_background_and_keeps_its_deadline() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut keeper = Keeper::open(settings(program.path(), store.path())).unwrap();
    keeper.watch().unwrap();
    write_step(program.path(), "step-1", &[("model", content(3_000_000, 1))]);
    let flushed = keeper.flush(Duration::from_secs(60)).await;
    // The background may have been quicker.
    assert!(!flushed.ran_out && flushed.left.is_empty(), "{flushed:?}");
    assert_eq!(keeper.counters().newest_step, Some(1));
    assert!(keeper.flush(Duration::ZERO).await.ran_out);
    write_step(program.path(), "step-2", &[("model", content(3_000, 2))]);
    until("the background goes on", || keeper.counters().newest_step == Some(2)).await;
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_look_does_not_wait_for_the_next_turn() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_step(program.path(), "step-1", &[("model", content(200_000, 1))]);
    let rarely = Duration::from_secs(3600);
    let settings = Settings { poll: rarely, ..settings(program.path(), store.path()) };
    let mut keeper = Keeper::open(settings).unwrap();
    keeper.watch().unwrap();
    until("it is saved", || keeper.counters().newest_step == Some(1)).await;
    keeper.stop().await;
}

/// An upload begins at the first look at a checkpoint that says that it is complete. What changes before
/// the second look is not published, and what makes room for the next one after it is.
#[tokio::test(start_paused = true)]
async fn what_is_uploaded_before_the_second_look_counts_by_it() {
    for is_changed in [true, false] {
        let (program, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let memory = Memory::new(7);
        memory.set_faults(Faults { holds_chunks: true, ..Faults::default() });
        let settings = settings(program.path(), program.path());
        let poll = settings.poll;
        let keeper = Arc::new(Keeper::over(settings, Store::over(memory.clone())).unwrap());
        write_step(program.path(), "step-1", &[("a", content(3_000, 1)), ("b", content(3_000, 1))]);
        let flusher = Arc::clone(&keeper);
        let flush = tokio::spawn(async move { flusher.flush(Duration::from_secs(60)).await });
        // This clock stands still while the folder is being looked at.
        let step = program.path().join("step-1");
        if is_changed {
            tokio::time::sleep(poll / 2).await;
            fs::write(program.path().join("new"), content(3_000, 2)).unwrap();
            fs::rename(program.path().join("new"), step.join("a")).unwrap();
            let flushed = flush.await.unwrap();
            assert!(flushed.left[0].1.contains("just written"), "{flushed:?}");
            assert_eq!(memory.keys("steps"), Vec::<String>::new());
            memory.set_faults(Faults::default());
            assert_eq!(keeper.flush(Duration::from_secs(60)).await.saved, ["step-1"]);
        } else {
            tokio::time::sleep(poll * 2).await;
            fs::remove_dir_all(&step).unwrap();
            memory.set_faults(Faults::default());
            assert_eq!(flush.await.unwrap().saved, ["step-1"]);
        }
        keeper.store().restore_newest(back.path(), None).await.unwrap().unwrap();
        let first = fs::read(back.path().join("step-1/a")).unwrap();
        assert_eq!(first, content(3_000, if is_changed { 2 } else { 1 }));
        assert_eq!(keeper.counters().failures, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_leaves_the_background_no_time_has_its_checkpoints_saved() {
    let program = tempfile::tempdir().unwrap();
    let memory = Memory::new(7);
    memory.set_faults(Faults { is_starved: true, ..Faults::default() });
    let settings = settings(program.path(), program.path());
    let mut keeper = Keeper::over(settings, Store::over(memory.clone())).unwrap();
    keeper.watch().unwrap();
    for step in 1..=3u64 {
        let name = format!("step-{step}");
        write_step(program.path(), &name, &[("model", content(200_000, step))]);
        until(&name, || keeper.counters().newest.as_deref() == Some(&name)).await;
    }
    assert_eq!(keeper.counters().failures, 0);
    // Whoever takes over does so from these threads, too.
    write_step(program.path(), "step-4", &[("model", content(200_000, 4))]);
    let flushed = keeper.flush(Duration::from_secs(60)).await;
    assert!(!flushed.ran_out && flushed.left.is_empty(), "{flushed:?}");
    assert_eq!(keeper.counters().newest_step, Some(4));
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_store_is_told_and_mended() {
    let (program, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keeper = Keeper::open(settings(program.path(), folder.path())).unwrap();
    for step in [1, 2] {
        write_step(program.path(), &format!("step-{step}"), &[("model", content(200_000, step))]);
        keeper.flush(Duration::from_secs(60)).await;
    }
    let store = open(folder.path());
    let manifest = tree(&folder.path().join("steps")).into_keys().max().unwrap();
    let manifest = folder.path().join("steps").join(manifest);
    let whole = fs::read(&manifest).unwrap();
    fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    let catalogue = store.catalogue().await.unwrap();
    assert_eq!((catalogue.steps.len(), catalogue.broken.len()), (1, 1));
    let pruned = store.prune(&PruneOptions::keep(1)).await.unwrap();
    assert_eq!((pruned.removed_chunks, pruned.broken.len()), (0, 1), "its chunks may be needed");
    let to = tempfile::tempdir().unwrap();
    let restored = store.restore_newest(to.path(), None).await.unwrap().unwrap();
    assert_eq!(restored.step, Some(1));
    let options = PruneOptions { remove_broken: true, ..PruneOptions::keep(1) };
    assert!(store.prune(&options).await.unwrap().broken.is_empty());
    assert!(!manifest.exists());
    let catalogue = store.catalogue().await.unwrap();
    assert!(catalogue.find("step-2").is_none() && catalogue.find("step-1").is_some());
}

#[test]
fn settings_that_make_no_sense() {
    let check = |change: &dyn Fn(&mut Settings), part: &str| {
        let mut settings = Settings::new("/tmp/x", "/tmp/y");
        change(&mut settings);
        let error = Keeper::open(settings).map(|_| ()).unwrap_err();
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            text.push_str(&cause.to_string());
        }
        assert!(text.contains(part), "{text}");
    };
    check(&|it| it.workers = 0, "at least one worker");
    check(&|it| it.workers = 2, "need `attempt`");
    check(&|it| it.part = Some(Part { index: 0, of: 2 }), "does not fit 1 workers");
    check(&|it| it.keep = 0, "at least one checkpoint");
    check(&|it| it.uri = "https://h/x".to_owned(), "cannot be written to");
}

/// An agent may run these as tasks.
#[test]
fn futures_can_be_spawned() {
    fn check<T: Send>(_: T) {}
    let keeper = Keeper::open(Settings::new("/tmp/x", "/tmp/y")).unwrap();
    check(keeper.restore());
    check(keeper.flush(Duration::ZERO));
    check(keeper.store().catalogue());
    let options = PruneOptions::keep(1);
    check(keeper.store().prune(&options));
}

/// Three are complete at one look. The newest is saved first, and stays the newest.
#[tokio::test(flavor = "multi_thread")]
async fn several_that_are_ready_at_once_keep_their_order() {
    let (program, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keeper = Keeper::open(settings(program.path(), store.path())).unwrap();
    assert_eq!(keeper.restore().await.unwrap(), None);
    for step in 1..=3u64 {
        let name = format!("step-{step}");
        write_step(program.path(), &name, &[("model", content(1000, step))]);
        // Another millisecond, so that their times tell them apart.
        let written = Instant::now();
        until("time passes", || written.elapsed() > Duration::from_millis(2)).await;
    }
    let flushed = keeper.flush(Duration::from_secs(60)).await;
    assert_eq!(flushed.saved.len(), 3, "{flushed:?}");
    assert_eq!(keeper.counters().newest.as_deref(), Some("step-3"));
    keeper.stop().await;

    let elsewhere = tempfile::tempdir().unwrap();
    let keeper = Keeper::open(settings(elsewhere.path(), store.path())).unwrap();
    let start = keeper.restore().await.unwrap().unwrap();
    assert_eq!(start.step, Some(3));
}

/// A store that is away when the program has finished: what comes after waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_checkpoint_waits_for_a_store_that_is_away() {
    let (program, memory) = (tempfile::tempdir().unwrap(), Memory::new(1));
    let settings = Settings { tuning: TUNING, ..Settings::new(program.path(), "memory") };
    let keeper = Keeper::over(settings, Store::over(memory.clone())).unwrap();
    write_step(program.path(), "step-1", &[("model", content(3_000, 1))]);
    memory.set_faults(Faults { refused: 1, ..Faults::default() });
    let flushed = keeper.flush(Duration::from_secs(60)).await;
    assert!(!flushed.ran_out && flushed.left[0].1.contains("injected"), "{flushed:?}");
    assert_eq!(flushed.lost.as_ref(), flushed.left.first());
    let found = keeper.counters().found;
    assert!(found.is_some() && keeper.counters().durable.is_none());
    let flushed = keeper.insist(Duration::from_secs(1)).await;
    assert!(flushed.ran_out && flushed.left[0].1.contains("injected"), "{flushed:?}");
    assert_eq!(flushed.lost.as_ref(), flushed.left.first());
    let comes_back = async {
        while keeper.counters().failures < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        memory.set_faults(Faults::default());
    };
    let (flushed, ()) = tokio::join!(keeper.insist(Duration::from_secs(60)), comes_back);
    assert_eq!((flushed.saved, flushed.left.len()), (vec!["step-1".to_owned()], 0));
    assert_eq!(flushed.lost, None);
    // When it was begun stays so at each look.
    assert_eq!((keeper.counters().found, keeper.counters().durable), (found, found));
}

/// Workers of one machine: the first fetches, and the others find it there.
#[tokio::test(flavor = "multi_thread")]
async fn workers_with_one_folder_fetch_once() {
    const BYTES: usize = 2_000_000;
    let (program, memory) = (tempfile::tempdir().unwrap(), Memory::new(1));
    let open = |path: &Path, workers: u32| {
        let settings = Settings {
            tuning: TUNING,
            workers,
            attempt: "a".to_owned(),
            path_is_shared: true,
            ..Settings::new(path, "memory")
        };
        Keeper::over(settings, Store::over(memory.clone())).unwrap()
    };
    write_step(program.path(), "step-1", &[("model", content(BYTES, 1))]);
    assert_eq!(open(program.path(), 1).flush(Duration::from_secs(60)).await.saved, ["step-1"]);
    memory.sent.store(0, Ordering::Relaxed);
    let shared = tempfile::tempdir().unwrap();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let keeper = open(shared.path(), 4);
        all.spawn(async move { keeper.restore().await.unwrap().unwrap() });
    }
    let starts = all.join_all().await;
    assert!(starts.iter().all(|start| start.step == Some(1)), "{starts:?}");
    assert_eq!(memory.sent.load(Ordering::Relaxed), BYTES as u64);
    assert_eq!(tree(shared.path()), tree(program.path()));
}
