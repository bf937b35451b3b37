//! What a folder that was named as a target consists of, so that what comes and goes is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::layout::{self, Listing};
use super::{fingerprint, is_manifest};

/// Manifests and models of a folder with their fingerprints. A fingerprint is empty where somebody
/// else watches the content.
pub(crate) type Members = BTreeMap<PathBuf, String>;

/// Looks what a folder has; of those in `watched` the content is not looked at. Blocks.
pub(crate) fn members(folder: &Path, watched: &BTreeSet<PathBuf>) -> io::Result<Members> {
    let listing = Listing::of(folder)?;
    // A folder that holds no model has no member yet.
    let models = layout::models(folder, &listing).unwrap_or_default();
    let manifests = listing.files.iter().filter(|file| is_manifest(file)).cloned();
    let stamped = manifests.chain(models).map(|path| {
        let is_watched = watched.contains(&path);
        // What is gone a moment later is looked at again then.
        let stamp = if is_watched { None } else { fingerprint(&path).ok() };
        (path, stamp.unwrap_or_default())
    });
    Ok(stamped.collect())
}

/// What came and went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// New, or with another content that nobody else watches.
    pub(crate) added: BTreeSet<PathBuf>,
    pub(crate) removed: BTreeSet<PathBuf>,
}

impl Change {
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// Takes over from a look whose content is watched by now, or no more: that is no change. Gives the
/// rest of the difference.
pub(crate) fn difference(before: &mut Members, now: &Members) -> Change {
    let mut change = Change::default();
    for (path, stamp) in now {
        match before.get_mut(path) {
            None => {
                change.added.insert(path.clone());
            }
            Some(known) if known.is_empty() || stamp.is_empty() => known.clone_from(stamp),
            Some(known) if known != stamp => {
                change.added.insert(path.clone());
            }
            Some(_) => {}
        }
    }
    change.removed = before.keys().filter(|path| !now.contains_key(*path)).cloned().collect();
    change
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn named(members: &[(&str, &str)]) -> Members {
        members.iter().map(|(path, stamp)| (PathBuf::from(path), (*stamp).to_owned())).collect()
    }

    #[track_caller]
    fn check(before: &[(&str, &str)], now: &[(&str, &str)], added: &[&str], removed: &[&str]) {
        let mut known = named(before);
        let change = difference(&mut known, &named(now));
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        assert_eq!(change, Change { added: paths(added), removed: paths(removed) });
    }

    #[test]
    fn table() {
        check(&[("a", "1")], &[("a", "1")], &[], &[]);
        check(&[], &[("a", "1")], &["a"], &[]);
        check(&[("a", "1")], &[], &[], &["a"]);
        check(&[("a", "1")], &[("a", "2")], &["a"], &[]);
        check(&[("a", "1")], &[("a", "")], &[], &[]);
        check(&[("a", "")], &[("a", "2")], &[], &[]);
        check(&[("a", "1"), ("b", "1")], &[("b", "1"), ("c", "1")], &["c"], &["a"]);
    }

    #[test]
    fn content_that_was_watched_meanwhile_is_known() {
        let mut known = named(&[("a", "1")]);
        assert!(difference(&mut known, &named(&[("a", "")])).is_empty());
        assert!(difference(&mut known, &named(&[("a", "2")])).is_empty());
        assert!(!difference(&mut known, &named(&[("a", "3")])).is_empty());
    }

    #[test]
    fn models_and_manifests_are_members() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let look = |watched: &[PathBuf]| {
            members(folder.path(), &watched.iter().cloned().collect()).unwrap()
        };
        assert!(look(&[]).is_empty());
        fs::write(path("iris.yaml"), "kind: ModelService").unwrap();
        fs::create_dir_all(path("notes")).unwrap();
        fs::create_dir_all(path("flowers/1")).unwrap();
        let found = look(&[path("flowers")]);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&path("flowers"), &path("iris.yaml")]);
        assert!(found[&path("flowers")].is_empty() && !found[&path("iris.yaml")].is_empty());
        fs::write(path("flowers/1/model.onnx"), "x").unwrap();
        assert_ne!(look(&[])[&path("flowers")], look(&[path("flowers")])[&path("flowers")]);
        assert!(members(&path("nowhere"), &BTreeSet::new()).is_err());
    }
}
