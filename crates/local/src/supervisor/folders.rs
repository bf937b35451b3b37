//! Folders that were named as targets: what is put into them is served, what is taken out ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::target::{Change, Members, difference};

/// The folders, by path.
#[derive(Debug, Default)]
pub(super) struct Folders(BTreeMap<PathBuf, Folder>);

#[derive(Debug, Default)]
struct Folder {
    /// As it was when it was acted upon.
    acted: Members,
    /// At the look before.
    last: Option<Members>,
    /// What was acted upon in vain: it is not tried again before something changes.
    tried: Option<Members>,
}

impl Folders {
    /// A folder was acted upon as it was then.
    pub(super) fn acted(&mut self, folder: &Path, members: Members) {
        self.0.insert(folder.to_owned(), Folder { acted: members, ..Folder::default() });
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }

    /// What has to be saved of them.
    pub(super) fn saved(&self) -> BTreeMap<PathBuf, Members> {
        self.0.iter().map(|(path, folder)| (path.clone(), folder.acted.clone())).collect()
    }

    /// Watches these only.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&Members) -> bool) {
        self.0.retain(|_, folder| is_kept(&folder.acted));
    }

    /// Whether a path is looked after as part of a folder.
    pub(super) fn have(&self, path: &Path) -> bool {
        self.0.values().any(|folder| folder.acted.contains_key(path))
    }

    /// What has gone from a folder that is about to be acted upon.
    pub(super) fn gone(&self, folder: &Path, now: &Members) -> Vec<PathBuf> {
        let known = self.0.get(folder).map(|folder| &folder.acted);
        let gone = known.into_iter().flat_map(|known| known.keys());
        gone.filter(|path| !now.contains_key(*path)).cloned().collect()
    }

    /// Takes in a look at a folder; gives what is to be acted upon, once.
    ///
    /// A folder has to look the same twice: what is still being copied is left to be finished.
    pub(super) fn look(&mut self, folder: &Path, now: Members) -> Option<Change> {
        let folder = self.0.get_mut(folder)?;
        let has_settled = folder.last.as_ref() == Some(&now);
        folder.last = Some(now.clone());
        if !has_settled || folder.tried.as_ref() == Some(&now) {
            return None;
        }
        let change = difference(&mut folder.acted, &now);
        if change.is_empty() {
            return None;
        }
        folder.tried = Some(now);
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(names: &[&str]) -> Members {
        names.iter().map(|name| (PathBuf::from(name), "1".to_owned())).collect()
    }

    #[test]
    fn what_comes_and_goes_is_told_once_it_lasts() {
        let path = Path::new("f");
        let mut folders = Folders::default();
        folders.acted(path, members(&["a"]));
        let mut look = |names: &[&str]| {
            folders
                .look(path, members(names))
                .map(|change| (change.added.len(), change.removed.len()))
        };
        assert_eq!(look(&["a"]), None);
        assert_eq!(look(&["a"]), None);
        assert_eq!(look(&["a", "b"]), None, "it may still be written");
        assert_eq!(look(&["a", "b"]), Some((1, 0)));
        assert_eq!(look(&["a", "b"]), None, "in vain: once");
        assert_eq!(look(&["b"]), None);
        assert_eq!(look(&["b"]), Some((1, 1)));
        folders.acted(path, members(&["b"]));
        assert_eq!(folders.look(path, members(&["b"])), None);
        assert_eq!(folders.look(path, members(&["b"])), None);
        assert!(folders.have(Path::new("b")) && !folders.have(Path::new("a")));
    }

    #[test]
    fn what_has_gone() {
        let mut folders = Folders::default();
        folders.acted(Path::new("f"), members(&["a", "b"]));
        assert_eq!(folders.gone(Path::new("f"), &members(&["b", "c"])), [PathBuf::from("a")]);
        assert!(folders.gone(Path::new("g"), &members(&[])).is_empty());
    }
}
