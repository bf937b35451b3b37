use std::fs;

use super::*;

/// Makes files, given as path and content, in a fresh folder.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        fs::write(path, content).expect("written");
    }
    folder
}

/// What one target below such a folder gives: `NAME@VERSION=FILE` for each version, or a problem.
#[track_caller]
fn check(files: &[(&str, &str)], target: &str, want: Result<&[&str], &str>) {
    let folder = folder(files);
    let target = folder.path().join(target);
    match (Repository::open(std::slice::from_ref(&target), None, false), want) {
        (Ok(repository), Ok(want)) => {
            let mut found = Vec::new();
            for source in repository.scan().0.values() {
                let versions = source.versions().unwrap_or_default();
                for (version, path) in versions {
                    let file = source.model_file(&path, "").expect("a file");
                    let file = file.strip_prefix(folder.path()).expect("inside").display();
                    found.push(format!("{}@{version}={file}", source.name));
                }
            }
            assert_eq!(found, want);
        }
        (Err(problems), Err(part)) => {
            let problems = problems.join("\n");
            assert!(problems.contains(part), "{problems}");
            assert!(problems.contains(&target.display().to_string()), "{problems}");
        }
        (got, _) => panic!("{got:?}"),
    }
}

#[test]
fn layouts() {
    check(&[("iris.onnx", "")], "iris.onnx", Ok(&["iris@1=iris.onnx"]));
    check(&[("f/model.onnx", ""), ("f/x.py", "")], "f/", Ok(&["f@1=f/model.onnx"]));
    check(&[("f/a.onnx", ""), ("f/model.onnx", "")], "f", Ok(&["f@1=f/model.onnx"]));
    // External data beside the model, in a folder that stands for it.
    check(&[("f/m.onnx/model.onnx", "")], "f", Ok(&["f@1=f/m.onnx/model.onnx"]));
    check(
        &[("f/3/model.onnx", ""), ("f/12/other.onnx", ""), ("f/012/x", ""), ("f/a1/x", "")],
        "f",
        Ok(&["f@3=f/3/model.onnx", "f@12=f/12/other.onnx"]),
    );
    check(
        &[("r/a/1/model.onnx", ""), ("r/b/model.onnx", ""), ("r/.git/1/x", ""), ("r/docs/x", "")],
        "r",
        Ok(&["a@1=r/a/1/model.onnx", "b@1=r/b/model.onnx"]),
    );
    check(
        &[("r/a/1/model.onnx/model.onnx", ""), ("r/a/config.pbtxt", "")],
        "r",
        Ok(&["a@1=r/a/1/model.onnx/model.onnx"]),
    );
    check(
        &[("m/MLmodel", "flavors: {onnx: {data: net.onnx}, python_function: {}}")],
        "m",
        Ok(&["m@1=m/net.onnx"]),
    );
}

#[test]
fn targets_that_are_none() {
    check(&[], "nosuch.onnx", Err("No such file"));
    check(&[("x/y.txt", "")], "x", Err("holds no model"));
    check(&[("model.pkl", "")], "model.pkl", Err("not an .onnx file"));
    check(&[("f/a.onnx", ""), ("f/b.onnx", "")], "f", Err("a.onnx, b.onnx"));
    check(&[("m/MLmodel", "flavors: {sklearn: {data: x}}")], "m", Err("are sklearn, and 'onnx'"));
    check(&[("m/MLmodel", "flavors: {onnx: {data: ../x}}")], "m", Err("leaves the folder"));
    check(&[("m/MLmodel", "flavors: [")], "m", Err("MLmodel"));
}

#[test]
fn names() {
    let folder = folder(&[("a/x.onnx", ""), ("b/x.onnx", "")]);
    let targets = [folder.path().join("a/x.onnx"), folder.path().join("b/x.onnx")];
    let problems = Repository::open(&targets, None, false).expect_err("one name, two models");
    assert!(problems[0].contains("two models are named 'x'"), "{problems:?}");

    let named = Repository::open(&targets[..1], Some("flower"), false).expect("one model");
    assert!(named.find("flower").is_some() && named.find("x").is_none());
    assert!(Repository::open(&targets[..1], Some("a/b"), false).is_err());
    let root = [folder.path().to_owned()];
    assert!(Repository::open(&root, Some("flower"), false).is_err());

    let repository = Repository::open(&root, None, false).expect("a repository");
    assert!(repository.find("a").is_some());
    for hostile in ["../a", "..", "", "a/../a", "/etc", "nosuch", "a\0"] {
        assert!(repository.find(hostile).is_none(), "{hostile}");
    }
}

#[test]
fn an_empty_folder_may_be_filled_later() {
    let folder = folder(&[]);
    let root = [folder.path().to_owned()];
    assert!(Repository::open(&root, None, false).is_err());
    let repository = Repository::open(&root, None, true).expect("allowed");
    fs::create_dir_all(folder.path().join("late/1")).expect("made");
    assert!(repository.find("late").is_some());
}

#[test]
fn uploads_stay_in_their_folder() {
    let file = |path: &str| BTreeMap::from([(path.to_owned(), bytes::Bytes::from_static(b"x"))]);
    for hostile in ["../x", "/x", "1/../../x", "", "1\\x", "1/\0"] {
        assert!(Upload::write(&file(hostile)).is_err(), "{hostile}");
    }
    let upload = Upload::write(&file("1/model.onnx")).expect("written");
    let source = upload.source("late");
    assert_eq!(source.versions().expect("listed").len(), 1);
    let path = source.path.clone();
    assert!(path.exists());
    drop(upload);
    assert!(!path.exists());
}

#[test]
fn fingerprints_follow_changes() {
    let folder = folder(&[("r/a/1/model.onnx", "x"), ("r/a/config.pbtxt", "")]);
    let repository = Repository::open(&[folder.path().join("r")], None, false).expect("opens");
    let print = || repository.find("a").expect("there").fingerprint();
    let first = print();
    assert_eq!(first, print());
    fs::write(folder.path().join("r/a/config.pbtxt"), "max_batch_size: 4").expect("written");
    let second = print();
    assert_ne!(first, second);
    fs::create_dir(folder.path().join("r/a/2")).expect("made");
    fs::write(folder.path().join("r/a/2/model.onnx"), "y").expect("written");
    assert_ne!(second, print());
}
