use std::path::Path;

use super::*;
use crate::recognise::tests::{safetensors_file, tensorflow_index, torch_file};

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn seen(root: &Path) -> Vec<String> {
    let found = look(root).unwrap();
    let line = |it: &Candidate| {
        let files: Vec<&str> = it.tree.files.keys().map(String::as_str).collect();
        let verdict = match &it.verdict {
            Verdict::Complete(layout) => layout.as_str(),
            Verdict::Incomplete(_) => "incomplete",
            Verdict::Unknown => "unknown",
        };
        format!(
            "{} {} {verdict}: {}",
            it.name,
            if it.is_folder { "folder" } else { "files" },
            files.join(" ")
        )
    };
    found.iter().map(line).collect()
}

#[test]
fn steps() {
    let check = |name, expected| assert_eq!(step_of(name), expected, "{name}");
    check("step-100", Some(100));
    check("checkpoint-100", Some(100));
    check("100", Some(100));
    check("epoch=3-step=250.ckpt", Some(250));
    check("model.pt", None);
    check("ckpt-5", Some(5));
    check("v1.5", Some(5));
    check("", None);
    check("é7é", Some(7));
    check("99999999999999999999999", None);
    check(".7", Some(7));
}

#[test]
fn folders_files_and_groups() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert_eq!(seen(&root.join("none")), [""; 0]);
    let torch = torch_file(&[("a/data.pkl", b"x")]);
    write(root, "step-100/model.pt", &torch);
    write(root, "step-200/x", b"x");
    write(root, "step-300.tmp/model.pt", &torch);
    write(root, "logs/events.out", b"x");
    write(root, ".hidden/model.pt", &torch);
    write(root, "train.log", b"x");
    write(root, "best.ckpt", &torch);
    write(root, "ckpt-1.index", &tensorflow_index(1, &[(0, 0, 1)]));
    write(root, "ckpt-1.data-00000-of-00001", b"x");
    write(root, "ckpt-2.index", &tensorflow_index(1, &[(0, 0, 1)]));
    write(root, "ckpt-2.data-00000-of-00001", b"x");
    write(root, "checkpoint", b"model_checkpoint_path: \"ckpt-2\"\n");
    std::os::unix::fs::symlink("step-100", root.join("latest")).unwrap();
    assert_eq!(
        seen(root),
        [
            "best.ckpt files torch: best.ckpt",
            "ckpt-1 files tensorflow: ckpt-1.data-00000-of-00001 ckpt-1.index",
            "ckpt-2 files tensorflow: checkpoint ckpt-2.data-00000-of-00001 ckpt-2.index",
            "step-100 folder torch: model.pt",
            "step-200 folder unknown: x",
        ]
    );
}

#[test]
fn a_folder_that_is_itself_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, ".metadata", b"x");
    write(root, "__0_0.distcp", b"x");
    write(root, "checkpoint-5/model.safetensors", &safetensors_file(&[("w", 1)]));
    assert_eq!(
        seen(root),
        [
            "files files torch-distributed: .metadata __0_0.distcp",
            "checkpoint-5 folder safetensors: model.safetensors",
        ]
    );
}

#[test]
fn when_it_was_begun() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "step-1/model.pt", &torch_file(&[("a/data.pkl", b"x")]));
    let made = made(&root.join("step-1")).expect("temporary folders tell when they were made");
    // Files may have been copied with older or newer times.
    let file = fs::File::options().write(true).open(root.join("step-1/model.pt")).unwrap();
    let late = made + Duration::from_secs(10);
    file.set_modified(late).unwrap();
    let candidate = look(root).unwrap().remove(0);
    assert_eq!(candidate.begun(UNIX_EPOCH), made);
    // Its folder and file are those of the one before, and were written over.
    assert_eq!(candidate.begun(made + Duration::from_secs(5)), late);
    assert_eq!(candidate.begun(late), late);
    fs::remove_dir_all(root.join("step-1")).unwrap();
    assert_eq!(candidate.begun(UNIX_EPOCH), late);
}
