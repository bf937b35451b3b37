//! Which of the things in a folder are checkpoints to upload now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::candidate::Candidate;
use crate::recognise::{Layout, Verdict};
use crate::store::StepId;
use crate::tree::Tree;

/// How long files whose format tells that they are whole must not change: another file of the same
/// checkpoint may follow.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a checkpoint is waited for that has fewer files than the one before.
const FEWER_FILES: Duration = Duration::from_secs(300);

/// When it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Running,
    /// The program has ended, or has said that its checkpoint is written.
    Ending,
}

/// What is known of a folder from the looks before.
#[derive(Debug)]
pub(super) struct Watched {
    still_for: Duration,
    /// As they were when they were saved.
    saved: BTreeMap<String, Tree>,
    /// As they were before the program started.
    first: BTreeMap<String, Tree>,
    /// As they were at the last look.
    seen: BTreeMap<String, Seen>,
    /// The same of links to files that were replaced since, and when they were first seen.
    pinned: BTreeMap<String, (Tree, Instant, Moment)>,
    /// Layout and files of the last saved folder, with `#` for each number.
    shape: Option<(Layout, BTreeSet<String>)>,
    /// Checkpoints in the store that cannot be restored.
    pub(super) damaged: BTreeSet<StepId>,
}

#[derive(Debug)]
struct Seen {
    tree: Tree,
    /// Since when it is so.
    since: Instant,
    /// Whether it said of itself that it was complete.
    is_committed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Picked {
    /// The newest first.
    pub(super) ready: Vec<Candidate>,
    /// Those that say of themselves that they are complete, and are new: they may be uploaded while they
    /// wait for the second look. What was complete before and changes is left alone, since it is
    /// perhaps being written over, and would be uploaded at each look. The newest first.
    pub(super) ahead: Vec<Candidate>,
    pub(super) waiting: Vec<(String, String)>,
    /// One that says of itself that it is complete waits for a second look only.
    pub(super) look_soon: bool,
    /// Names whose links are of no use any more; they go before others are made.
    pub(super) unpin: Vec<String>,
    /// Names whose files may be replaced before they have been left alone for long enough.
    pub(super) pin: Vec<String>,
}

impl Watched {
    pub(super) fn new(still_for: Duration) -> Self {
        Self {
            still_for,
            saved: BTreeMap::new(),
            first: BTreeMap::new(),
            seen: BTreeMap::new(),
            pinned: BTreeMap::new(),
            shape: None,
            damaged: BTreeSet::new(),
        }
    }

    /// Notes what is there before the program starts.
    pub(super) fn note(&mut self, found: &[Candidate]) {
        self.first = found.iter().map(|it| (it.name.clone(), it.tree.clone())).collect();
    }

    pub(super) fn was_there(&self, candidate: &Candidate) -> bool {
        self.first.get(&candidate.name) == Some(&candidate.tree)
    }

    /// Whether all that was saved is older: of several that are ready at once, the newest is saved
    /// first, and those that follow it must not pass for newer.
    pub(super) fn is_latest(&self, candidate: &Candidate) -> bool {
        let written = candidate.tree.modified_ms();
        self.saved.values().all(|saved| saved.modified_ms() < written)
    }

    /// Notes that it is durable.
    pub(super) fn done(&mut self, candidate: &Candidate) {
        if candidate.is_folder {
            self.shape = Some((candidate.layout(), shape(&candidate.tree)));
        }
        self.saved.insert(candidate.name.clone(), candidate.tree.clone());
    }

    /// `pinned` are the files behind links, which had the same names when these were made.
    pub(super) fn pick(
        &mut self,
        (found, pinned): (Vec<Candidate>, Vec<Candidate>),
        moment: Moment,
        is_gang: bool,
        keep: usize,
    ) -> Picked {
        let now = Instant::now();
        let names: BTreeSet<String> = found.iter().map(|it| it.name.clone()).collect();
        self.seen.retain(|name, _| names.contains(name));
        self.saved.retain(|name, _| names.contains(name));
        let mut picked = Picked::default();
        // Lone files that wait, and whether their names may show others at the next look.
        let mut waits = BTreeMap::new();
        for candidate in found {
            let is_saved = self.saved.get(&candidate.name) == Some(&candidate.tree);
            // Of several workers, only one may have it from an earlier start.
            if is_saved || is_gang && self.was_there(&candidate) {
                continue;
            }
            let before = self.seen.get(&candidate.name);
            let is_known = before.is_some();
            let was_committed = before.is_some_and(|it| it.is_committed);
            let same = before.filter(|it| it.tree == candidate.tree);
            let (is_first_look, since) = same.map_or((true, now), |it| (false, it.since));
            let is_committed = candidate.layout().has_commit();
            let seen = Seen { tree: candidate.tree.clone(), since, is_committed };
            self.seen.insert(candidate.name.clone(), seen);
            let still = now.saturating_duration_since(since);
            let Some(reason) = self.obstacle(&candidate, moment, is_first_look, still) else {
                picked.ready.push(candidate);
                continue;
            };
            picked.look_soon |= is_first_look && is_committed;
            if candidate.is_lone_file() && !is_gang {
                let is_whole = !matches!(candidate.verdict, Verdict::Incomplete(_));
                let may_go = is_whole && is_first_look && (is_known || moment == Moment::Ending);
                waits.insert(candidate.name.clone(), may_go);
            }
            let is_new = !was_committed && !self.saved.contains_key(&candidate.name);
            if is_first_look && is_committed && is_new {
                picked.ahead.push(candidate);
                continue;
            }
            picked.waiting.push((candidate.name, reason));
        }
        self.pick_pinned(pinned, waits, (moment, now), &mut picked);
        for group in [&mut picked.ready, &mut picked.ahead] {
            group.sort_by(|a, b| {
                let key = |it: &Candidate| (it.tree.modified_ms(), it.step());
                key(b).cmp(&key(a)).then_with(|| a.name.cmp(&b.name))
            });
            // Older ones would be removed again at once.
            let mut place = 0usize..;
            group.retain(|it| {
                let at = it.tree.modified_ms();
                let newer = self.saved.values().filter(|saved| saved.modified_ms() > at).count();
                newer.saturating_add(place.next().unwrap_or(keep)) < keep
            });
        }
        picked
    }

    /// Picks files behind links, of those whose own names wait, and says which links there are to be.
    fn pick_pinned(
        &mut self,
        pinned: Vec<Candidate>,
        waits: BTreeMap<String, bool>,
        (moment, now): (Moment, Instant),
        picked: &mut Picked,
    ) {
        let mut before = std::mem::take(&mut self.pinned);
        let mut kept = BTreeSet::new();
        for candidate in pinned {
            let name = &candidate.name;
            let seen = before.remove(name);
            // In the end the newest counts, and not the one that was kept when there was time.
            let is_old = seen.as_ref().is_some_and(|it| it.2 != moment && moment == Moment::Ending);
            let is_saved = self.saved.get(name).is_some_and(|it| it.files == candidate.tree.files);
            if is_old || is_saved || !waits.contains_key(name) {
                picked.unpin.push(candidate.name);
                continue;
            }
            kept.insert(name.clone());
            let same = seen.filter(|it| it.0 == candidate.tree);
            let (is_first_look, since, at) =
                same.map_or((true, now, moment), |it| (false, it.1, it.2));
            self.pinned.insert(name.clone(), (candidate.tree.clone(), since, at));
            let still = now.saturating_duration_since(since);
            if self.obstacle(&candidate, moment, is_first_look, still).is_none() {
                picked.ready.push(candidate);
            }
        }
        let wanted = waits.into_iter().filter(|(name, may_go)| *may_go && !kept.contains(name));
        picked.pin = wanted.map(|(name, _)| name).collect();
    }

    /// Notes what links have that were just made.
    pub(super) fn note_pinned(&mut self, pinned: Vec<Candidate>, moment: Moment) {
        let now = Instant::now();
        for candidate in pinned {
            self.pinned.entry(candidate.name).or_insert((candidate.tree, now, moment));
        }
    }

    /// Why it is not uploaded yet.
    fn obstacle(
        &self,
        candidate: &Candidate,
        moment: Moment,
        is_first_look: bool,
        still: Duration,
    ) -> Option<String> {
        let layout = match &candidate.verdict {
            Verdict::Incomplete(reason) => return Some(reason.clone()),
            Verdict::Complete(layout) => Some(*layout),
            Verdict::Unknown => None,
        };
        let needed = match (layout, moment) {
            (None, _) => self.still_for,
            (Some(layout), Moment::Running) if !layout.has_commit() => SETTLE.min(self.still_for),
            (Some(_), _) => Duration::ZERO,
        };
        if is_first_look || still < needed {
            return Some(match layout {
                None => format!(
                    "it may still change: nothing says that it is complete, so {needed:?} without a change do"
                ),
                Some(_) => "it was just written".to_owned(),
            });
        }
        let has_commit = layout.is_some_and(|layout| layout.has_commit());
        if candidate.is_folder
            && !has_commit
            && still < FEWER_FILES.max(self.still_for)
            && let Some((before, files)) = &self.shape
            && *before == candidate.layout()
        {
            let now = shape(&candidate.tree);
            if let Some(missing) = files.iter().find(|path| !now.contains(*path)) {
                return Some(format!("the one before has `{missing}` too (# is a number)"));
            }
        }
        None
    }
}

/// Paths with numbers left aside, so that steps and shards are alike.
fn shape(tree: &Tree) -> BTreeSet<String> {
    let generic = |path: &String| {
        let mut text = String::new();
        for c in path.chars() {
            match c.is_ascii_digit() {
                true if text.ends_with('#') => {}
                true => text.push('#'),
                false => text.push(c),
            }
        }
        text
    };
    tree.files.keys().map(generic).collect()
}

#[cfg(test)]
mod tests;
