//! Files that a program replaces before they were left alone for long enough, kept by a link of our own.
//!
//! A lone file under one name may be replaced by renaming every second. Whoever waits until the name shows
//! the same file for some seconds waits for ever; a link keeps one of these files, and it is that file
//! which has to be left alone. One that is written over in place changes under its link too, and waits as
//! before. Nothing is copied: a link costs the room of one file for as long as it is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::candidate::{self, Candidate};

/// In the program's folder, since links end with the file system. Looks pass over it.
const FOLDER: &str = ".trainyard-pinned";

/// The links of one folder. A name has one at most.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    program: PathBuf,
    folder: PathBuf,
}

impl Pins {
    pub(super) fn of(program: &Path) -> Self {
        Self { program: program.to_owned(), folder: program.join(FOLDER) }
    }

    /// What is kept, as it is now.
    pub(super) fn look(&self) -> io::Result<Vec<Candidate>> {
        candidate::look(&self.folder)
    }

    /// Keeps the file that has this name now. Where there are no links, as on some network file systems,
    /// nothing is kept.
    pub(super) fn add(&self, name: &str) {
        let made = fs::create_dir(&self.folder);
        let is_there =
            made.is_ok() || made.is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists);
        if !is_there {
            return;
        }
        if let Err(error) = fs::hard_link(self.program.join(name), self.folder.join(name)) {
            tracing::debug!(name, %error, "a file that is replaced often is not kept");
            let _ = fs::remove_dir(&self.folder);
        }
    }

    pub(super) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.folder.join(name));
        // The last one takes the folder with it.
        let _ = fs::remove_dir(&self.folder);
    }

    /// Removes what an agent left behind that was killed.
    pub(super) fn clear(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// The candidate as if it had its name still, which is how it is remembered.
    pub(super) fn unpinned(&self, candidate: &Candidate) -> Candidate {
        let mut candidate = candidate.clone();
        if candidate.tree.root == self.folder {
            candidate.tree.root.clone_from(&self.program);
        }
        candidate
    }
}

#[test]
fn a_link_keeps_what_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let pins = Pins::of(folder.path());
    let file = |name: &str| folder.path().join(name);
    assert_eq!(pins.look().unwrap(), []);
    fs::write(file("a.pt"), "one").unwrap();
    pins.add("a.pt");
    fs::write(file("b"), "two").unwrap();
    fs::rename(file("b"), file("a.pt")).unwrap();
    let found = pins.look().unwrap();
    assert_eq!((found.len(), found[0].name.as_str(), found[0].tree.bytes()), (1, "a.pt", 3));
    assert_eq!(fs::read_to_string(found[0].tree.path("a.pt")).unwrap(), "one");
    assert_eq!(pins.unpinned(&found[0]).tree.root, folder.path());
    // It is no checkpoint of the program's.
    let of_program = candidate::look(folder.path()).unwrap();
    assert_eq!(of_program.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a.pt"]);
    pins.add("a.pt");
    assert_eq!(fs::read_to_string(found[0].tree.path("a.pt")).unwrap(), "one", "the first stays");
    pins.remove("a.pt");
    assert!(!pins.folder.exists());
    pins.add("nothing");
    assert!(!pins.folder.exists());
    pins.add("a.pt");
    pins.clear();
    assert!(!pins.folder.exists() && file("a.pt").exists());
}
