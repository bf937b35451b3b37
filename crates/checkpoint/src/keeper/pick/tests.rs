use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::tree::FileStat;

fn candidate(name: &str, files: &[&str], at: u64, verdict: Verdict) -> Candidate {
    let modified: SystemTime = UNIX_EPOCH + Duration::from_secs(at);
    let stat = FileStat { bytes: 1, modified, inode: 1 };
    let mut tree = Tree::new(PathBuf::from("/nowhere"));
    tree.files = files.iter().map(|it| ((*it).to_owned(), stat)).collect::<BTreeMap<_, _>>();
    Candidate { name: name.to_owned(), is_folder: true, tree, verdict }
}

fn torch(name: &str, at: u64) -> Candidate {
    candidate(name, &["m.pt"], at, Verdict::Complete(Layout::Torch))
}

#[track_caller]
fn check(watched: &mut Watched, found: &[Candidate], moment: Moment, expected: &[&str]) {
    let picked = watched.pick((found.to_vec(), Vec::new()), moment, false, 2);
    let names: Vec<&str> = picked.ready.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, expected, "waiting: {:?}", picked.waiting);
}

async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn it_waits_until_nothing_changes() {
    let mut watched = Watched::new(Duration::from_secs(30));
    let commit = candidate("c-1", &[".metadata"], 1, Verdict::Complete(Layout::TorchDistributed));
    let unknown = candidate("u-1", &["x"], 1, Verdict::Unknown);
    let short = candidate("i-1", &["x"], 1, Verdict::Incomplete("short".to_owned()));
    let all = [commit, torch("t-1", 2), unknown, short];
    check(&mut watched, &all, Moment::Running, &[]);
    wait(2).await;
    check(&mut watched, &all, Moment::Running, &["c-1"]);
    wait(4).await;
    check(&mut watched, &all, Moment::Running, &["t-1", "c-1"]);
    // The program wrote to one again.
    let mut changed = all.clone();
    changed[1] = torch("t-1", 3);
    check(&mut watched, &changed, Moment::Running, &["c-1"]);
    watched.done(&changed[0]);
    wait(30).await;
    check(&mut watched, &changed, Moment::Running, &["t-1", "u-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_one_that_says_it_is_complete_goes_ahead() {
    let mut watched = Watched::new(Duration::from_secs(30));
    let marked = |name, at| candidate(name, &["_SUCCESS"], at, Verdict::Complete(Layout::Marker));
    let ahead = |watched: &mut Watched, found: &[Candidate], expected: &[&str]| {
        let picked = watched.pick((found.to_vec(), Vec::new()), Moment::Running, false, 2);
        let names: Vec<&str> = picked.ahead.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, expected, "ready: {:?}, waiting: {:?}", picked.ready, picked.waiting);
    };
    let unknown = candidate("s-1", &["x"], 1, Verdict::Unknown);
    ahead(&mut watched, &[unknown], &[]);
    ahead(&mut watched, &[marked("s-1", 2), torch("t-1", 1)], &["s-1"]);
    // Once: then it is ready, or is being written over.
    ahead(&mut watched, &[marked("s-1", 2)], &[]);
    ahead(&mut watched, &[marked("s-1", 3)], &[]);
    let all = [1, 2, 3].map(|n| marked(["a-1", "a-2", "a-3"][n - 1], n as u64));
    ahead(&mut watched, &all, &["a-3", "a-2"]);
    watched.done(&all[0]);
    ahead(&mut watched, &[marked("a-1", 9)], &[]);
    // What would be removed again, since as many newer ones are saved, is left alone.
    watched.done(&all[1]);
    watched.done(&all[2]);
    let found = [&all[1..], &[marked("a-0", 0), torch("t-0", 0)]].concat();
    for _ in 0..2 {
        ahead(&mut watched, &found, &[]);
        check(&mut watched, &found, Moment::Running, &[]);
        wait(60).await;
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_there_is_less_to_wait_for() {
    let mut watched = Watched::new(Duration::from_secs(30));
    let found = [torch("t-1", 1), candidate("u-1", &["x"], 1, Verdict::Unknown)];
    check(&mut watched, &found, Moment::Ending, &[]);
    wait(1).await;
    check(&mut watched, &found, Moment::Ending, &["t-1"]);
}

#[tokio::test(start_paused = true)]
async fn one_with_fewer_files_than_before_is_waited_for() {
    let mut watched = Watched::new(Duration::from_secs(30));
    let torch =
        |name, files: &[&str], at| candidate(name, files, at, Verdict::Complete(Layout::Torch));
    watched.done(&torch("s-1", &["model-1.pt", "optimizer.pt"], 1));
    let found = [torch("s-2", &["model-2.pt"], 2)];
    check(&mut watched, &found, Moment::Running, &[]);
    wait(60).await;
    check(&mut watched, &found, Moment::Running, &[]);
    check(&mut watched, &found, Moment::Ending, &[]);
    wait(300).await;
    check(&mut watched, &found, Moment::Running, &["s-2"]);
}

#[tokio::test(start_paused = true)]
async fn what_one_of_several_workers_has_left_is_not_taken() {
    let mut watched = Watched::new(Duration::from_secs(30));
    let found = [torch("s-1", 1)];
    watched.note(&found);
    for is_gang in [true, false] {
        watched.pick((found.to_vec(), Vec::new()), Moment::Running, is_gang, 2);
        wait(10).await;
        let picked = watched.pick((found.to_vec(), Vec::new()), Moment::Running, is_gang, 2);
        assert_eq!(picked.ready.len(), usize::from(!is_gang));
        assert!(watched.was_there(&found[0]));
    }
    // Written anew, it is new.
    let anew = [torch("s-1", 5)];
    watched.pick((anew.to_vec(), Vec::new()), Moment::Running, true, 2);
    wait(10).await;
    assert_eq!(watched.pick((anew.to_vec(), Vec::new()), Moment::Running, true, 2).ready.len(), 1);
}

/// A lone file as it was at one write.
fn lone(at: u64, verdict: Verdict) -> Candidate {
    Candidate { is_folder: false, ..candidate("m.pt", &["m.pt"], at, verdict) }
}

fn whole(at: u64) -> Candidate {
    lone(at, Verdict::Complete(Layout::Torch))
}

/// One look at what has the name and what the link has, by when they were written. Returns what is
/// ready, and whether a link is to go and another is to be made.
#[track_caller]
fn look(
    watched: &mut Watched,
    moment: Moment,
    named: u64,
    linked: Option<u64>,
    expected: (&[u64], bool, bool),
) {
    let linked = linked.map(whole).into_iter().collect();
    let picked = watched.pick((vec![whole(named)], linked), moment, false, 2);
    let at = |it: &Candidate| it.tree.modified_ms() / 1000;
    let ready: Vec<u64> = picked.ready.iter().map(at).collect();
    let (unpin, pin) = (!picked.unpin.is_empty(), !picked.pin.is_empty());
    if pin {
        watched.note_pinned(vec![whole(named)], moment);
    }
    assert_eq!((ready.as_slice(), unpin, pin), expected, "waiting: {:?}", picked.waiting);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_replaced_before_each_look_is_kept_and_taken() {
    use Moment::{Ending, Running};
    let mut watched = Watched::new(Duration::from_secs(30));
    look(&mut watched, Running, 1, None, (&[], false, false));
    wait(2).await;
    look(&mut watched, Running, 2, None, (&[], false, true));
    wait(2).await;
    look(&mut watched, Running, 3, Some(2), (&[], false, false));
    wait(2).await;
    look(&mut watched, Running, 4, Some(2), (&[], false, false));
    wait(1).await;
    look(&mut watched, Running, 5, Some(2), (&[2], false, false));
    watched.done(&whole(2));
    look(&mut watched, Running, 6, Some(2), (&[], true, true));
    wait(2).await;
    // In the end what is there now counts, and the file as it was a moment ago will do.
    look(&mut watched, Running, 7, Some(6), (&[], false, false));
    look(&mut watched, Ending, 8, Some(6), (&[], true, true));
    look(&mut watched, Ending, 9, Some(8), (&[8], false, false));
    watched.done(&whole(8));
    // It has ended.
    look(&mut watched, Ending, 10, Some(8), (&[], true, true));
    look(&mut watched, Ending, 10, Some(10), (&[10], true, false));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_written_over_in_place_waits_behind_its_link_too() {
    let mut watched = Watched::new(Duration::from_secs(30));
    look(&mut watched, Moment::Running, 1, None, (&[], false, false));
    for second in 2..60 {
        wait(1).await;
        let linked = (second > 2).then_some(second);
        look(&mut watched, Moment::Running, second, linked, (&[], false, second == 2));
    }
    // It is left alone: it is taken under its own name, and the link goes.
    wait(4).await;
    look(&mut watched, Moment::Running, 59, Some(59), (&[], false, false));
    wait(1).await;
    look(&mut watched, Moment::Running, 59, Some(59), (&[59], true, false));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_whole_is_not_kept() {
    let mut watched = Watched::new(Duration::from_secs(30));
    for second in 1..5 {
        let torn = lone(second, Verdict::Incomplete("short".to_owned()));
        let picked = watched.pick((vec![torn], Vec::new()), Moment::Running, false, 2);
        assert!(picked.pin.is_empty());
        wait(2).await;
    }
    // A link outlasts the moment in which another file is being written under the name.
    look(&mut watched, Moment::Running, 6, None, (&[], false, true));
    let torn = lone(7, Verdict::Incomplete("short".to_owned()));
    let picked = watched.pick((vec![torn], vec![whole(6)]), Moment::Running, false, 2);
    assert!(picked.unpin.is_empty());
    // Of several workers' parts, names tell which belong together: a file without a step is nobody's.
    for second in 5..9 {
        let picked = watched.pick((vec![whole(second)], Vec::new()), Moment::Running, true, 2);
        assert!(picked.pin.is_empty());
        wait(2).await;
    }
}
