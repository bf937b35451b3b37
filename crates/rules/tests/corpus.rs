//! Real manifests of other projects, where they are at hand: a folder `shared/corpus` beside the
//! repository's, with `manifests`, `plain` (nothing of machine learning) and `broken`.

use std::path::{Path, PathBuf};

use trainyard_rules::{Documents, Finding, ReadError, Settings, Source, lint};

fn corpus(set: &str) -> Option<Vec<Source>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus").join(set);
    // A worktree lies a folder deeper.
    let deeper = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/corpus").join(set);
    let Some(root) = [root, deeper].into_iter().find(|path| path.is_dir()) else {
        eprintln!("skipped: there is no corpus of manifests beside the repository");
        return None;
    };
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let sources = paths.iter().map(|path| {
        let name = path.strip_prefix(&root).expect("below the root").to_string_lossy();
        Source::from_bytes(&name, std::fs::read(path).expect("readable")).expect("UTF-8")
    });
    Some(sources.collect())
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            into.push(path);
        }
    }
}

fn check(sources: Vec<Source>) -> (Vec<Finding>, Vec<ReadError>) {
    let documents = Documents::read(sources);
    (lint(&documents, &Settings::default()), documents.errors)
}

#[test]
fn real_manifests_are_read() {
    let Some(sources) = corpus("manifests") else { return };
    let (_, errors) = check(sources);
    // One of them has a key twice.
    let odd: Vec<&ReadError> =
        errors.iter().filter(|error| !error.message.contains("is there twice")).collect();
    assert!(odd.is_empty(), "{odd:#?}");
}

#[test]
fn rules_of_machine_learning_are_silent_over_ordinary_manifests() {
    let Some(sources) = corpus("plain") else { return };
    let (found, errors) = check(sources);
    assert!(errors.is_empty(), "{errors:#?}");
    // Policies, rights and scaling go wrong without machine learning too.
    let about_models = |finding: &&Finding| {
        ["GPU", "SRV", "TRN", "CST", "OBS"].iter().any(|group| finding.rule.starts_with(group))
    };
    let odd: Vec<String> = found
        .iter()
        .filter(about_models)
        .map(|f| format!("{}:{} {} {}", f.file, f.line, f.rule, f.message))
        .collect();
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

#[test]
fn each_broken_file_gets_a_clear_error() {
    let Some(sources) = corpus("broken") else { return };
    for source in sources {
        let lines = source.text.lines().count();
        let name = source.name.clone();
        let (_, errors) = check(vec![source]);
        assert!(!errors.is_empty(), "{name} has no error");
        for error in errors {
            assert!(error.line >= 1 && error.line <= lines + 1, "{error}");
            assert!(!error.help.is_empty(), "{error} does not say how to mend it");
        }
    }
}
