use super::*;

pub(crate) fn manifest() -> Manifest {
    let file = |bytes: u64| SavedFile {
        bytes,
        chunks: (0..bytes.div_ceil(4)).map(|n| chunk::sha256(&[n as u8])).collect(),
    };
    Manifest {
        name: "step-100".to_owned(),
        label: "7".to_owned(),
        part: Part::WHOLE,
        sequence: 7,
        layout: Layout::Torch,
        is_folder: true,
        chunk_bytes: 4,
        files: [("model.pt", 9), ("a/b", 4), ("empty", 0)]
            .map(|(path, bytes)| (path.to_owned(), file(bytes)))
            .into(),
        empty_folders: vec!["c".to_owned()],
    }
}

#[test]
fn it_reads_what_it_writes() {
    let manifest = manifest();
    assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest.clone()));
    let slices: Vec<_> = manifest.slices().map(|it| (it.path, it.at, it.bytes)).collect();
    assert_eq!(slices, [("a/b", 0, 4), ("model.pt", 0, 4), ("model.pt", 4, 4), ("model.pt", 8, 1)]);
}

#[test]
fn what_is_torn_is_told() {
    let bytes = manifest().to_bytes();
    for length in 0..bytes.len() {
        assert!(Manifest::parse(&bytes[..length]).is_err(), "{length}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        assert!(Manifest::parse(&changed).is_err(), "{at}");
    }
    let text = String::from_utf8(bytes).unwrap();
    let newer = text.replacen("checkpoint 1", "checkpoint 2", 1);
    let error = Manifest::parse(newer.as_bytes()).unwrap_err();
    assert!(error.contains("use a newer one"), "{error}");
}

#[track_caller]
fn check(change: impl FnOnce(&mut Manifest), expected: &str) {
    let mut changed = manifest();
    change(&mut changed);
    let error = Manifest::parse(&changed.to_bytes()).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_cannot_be_is_refused() {
    let file = || SavedFile { bytes: 0, chunks: Vec::new() };
    check(|it| it.name = "../x".to_owned(), "cannot be used");
    check(|it| it.name = "a/b".to_owned(), "no name of a file");
    check(|it| it.part = Part { index: 1, of: 1 }, "part 1 of 1");
    check(|it| it.part.of = 1 << 20, "part 0 of");
    check(|it| it.chunk_bytes = 0, "chunks of 0 bytes");
    check(|it| it.chunk_bytes = 1 << 40, "chunks of");
    check(|it| it.files.clear(), "0 files");
    check(|it| drop(it.files.insert("../../etc/passwd".to_owned(), file())), "leaves its folder");
    check(|it| drop(it.files.insert("/etc/passwd".to_owned(), file())), "empty folder name");
    check(|it| drop(it.files.insert("model.pt/x".to_owned(), file())), "a file and a folder");
    check(|it| it.empty_folders.push("model.pt".to_owned()), "a file and a folder");
    check(|it| it.empty_folders.push("..".to_owned()), "leaves its folder");
    check(|it| it.files.get_mut("a/b").unwrap().bytes = u64::MAX, "another length");
    check(|it| it.files.get_mut("a/b").unwrap().chunks[0] = "../x".to_owned(), "no SHA-256");
}
