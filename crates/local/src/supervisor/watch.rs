//! Whether files have changed since they were acted upon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Fingerprints by path. `None`: there is nothing, or it cannot be read.
#[derive(Debug, Default)]
pub(super) struct Watch {
    files: BTreeMap<PathBuf, Seen>,
}

#[derive(Debug)]
struct Seen {
    acted: Option<String>,
    last: Option<String>,
}

impl Watch {
    /// Watches a path whose content was acted upon as it was with that fingerprint.
    pub(super) fn acted(&mut self, path: &Path, fingerprint: Option<String>) {
        let seen = Seen { acted: fingerprint.clone(), last: fingerprint };
        self.files.insert(path.to_owned(), seen);
    }

    /// Watches these only.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&Path) -> bool) {
        self.files.retain(|path, _| is_kept(path));
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.keys().cloned().collect()
    }

    /// Takes in a look at the files; gives those to act upon, each once, and whether they are there.
    ///
    /// A file has to look the same twice: one that is still being written is left to be finished.
    pub(super) fn look(&mut self, looked: Vec<(PathBuf, Option<String>)>) -> Vec<(PathBuf, bool)> {
        let mut changed = Vec::new();
        for (path, now) in looked {
            let Some(seen) = self.files.get_mut(&path) else { continue };
            if now != seen.acted && now == seen.last {
                seen.acted = now.clone();
                changed.push((path, now.is_some()));
            }
            seen.last = now;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_acted_upon_once_it_lasts() {
        let path = PathBuf::from("iris.yaml");
        let mut watch = Watch::default();
        watch.acted(&path, Some("1".to_owned()));
        let mut look = |now: Option<&str>| {
            !watch.look(vec![(path.clone(), now.map(str::to_owned))]).is_empty()
        };
        assert!(!look(Some("1")));
        assert!(!look(Some("2")), "it may still be written");
        assert!(!look(Some("3")));
        assert!(look(Some("3")));
        assert!(!look(Some("3")), "once");
        assert!(!look(None));
        assert!(look(None), "it is gone");
        assert!(!look(None));
        assert!(!look(Some("3")));
        assert!(look(Some("3")), "it is back");
    }

    #[test]
    fn only_what_is_watched() {
        let mut watch = Watch::default();
        watch.acted(Path::new("a"), None);
        watch.acted(Path::new("b"), None);
        watch.keep(|path| path == Path::new("b"));
        assert_eq!(watch.paths(), [PathBuf::from("b")]);
        let other = vec![(PathBuf::from("a"), Some("1".to_owned()))];
        assert!(watch.look(other.clone()).is_empty() && watch.look(other).is_empty());
    }
}
