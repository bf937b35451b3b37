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
    let picked = watched.pick(found.to_vec(), moment, false, 2);
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
        watched.pick(found.to_vec(), Moment::Running, is_gang, 2);
        wait(10).await;
        let picked = watched.pick(found.to_vec(), Moment::Running, is_gang, 2);
        assert_eq!(picked.ready.len(), usize::from(!is_gang));
        assert!(watched.was_there(&found[0]));
    }
    // Written anew, it is new.
    let anew = [torch("s-1", 5)];
    watched.pick(anew.to_vec(), Moment::Running, true, 2);
    wait(10).await;
    assert_eq!(watched.pick(anew.to_vec(), Moment::Running, true, 2).ready.len(), 1);
}
