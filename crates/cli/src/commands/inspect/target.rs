//! Which files a person means by a path.

use std::fs;
use std::path::{Path, PathBuf};

use miette::miette;

use super::other::{self, Format};
use crate::failure::failure;

/// A model file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Onnx(PathBuf),
    Other(PathBuf, &'static Format),
}

/// A repository of models has `NAME/VERSION/model.onnx`; MLflow may add one level.
const MAX_DEPTH: usize = 4;
/// A folder with more is no collection of models that somebody wants to read about.
const MAX_MODELS: usize = 200;

/// The file itself, or all model files of a folder, in order of their paths.
pub(super) fn find(path: &Path) -> miette::Result<Vec<Found>> {
    let metadata =
        fs::metadata(path).map_err(|error| miette!("cannot read {}: {error}", path.display()))?;
    if metadata.is_file() {
        return Ok(vec![match other::recognise(path) {
            Some(format) => Found::Other(path.to_owned(), format),
            // Whatever its name is; reading it tells whether it is one.
            None => Found::Onnx(path.to_owned()),
        }]);
    }
    let mut found = Vec::new();
    walk(path, 0, &mut found)?;
    if found.is_empty() {
        return Err(miette!(
            help = "name a model file, or a folder that holds one",
            "there is no model in {}",
            path.display()
        ));
    }
    Ok(found)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<Found>) -> miette::Result<()> {
    let entries = fs::read_dir(folder)
        .map_err(|error| miette!("cannot read {}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|it| it.path()))
        .collect::<Result<_, _>>()
        .map_err(failure)?;
    paths.sort();
    for path in paths {
        if found.len() >= MAX_MODELS {
            return Err(miette!("{} holds more than {MAX_MODELS} models", folder.display()));
        }
        if path.is_dir() {
            if depth < MAX_DEPTH {
                walk(&path, depth.saturating_add(1), found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "onnx") {
            found.push(Found::Onnx(path));
        } else if let Some(format) = other::recognise(&path) {
            found.push(Found::Other(path, format));
        }
    }
    Ok(())
}

#[test]
fn folders_are_searched() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, content: &[u8]| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put("iris/2/model.onnx", b"");
    put("iris/config.pbtxt", b"");
    put("mlflow/model.pkl", b"\x80\x04.");
    let found = find(root.path()).unwrap();
    let names: Vec<&str> = found
        .iter()
        .map(|found| match found {
            Found::Onnx(path) => path.file_name().unwrap().to_str().unwrap(),
            Found::Other(_, format) => format.name,
        })
        .collect();
    assert_eq!(names, ["model.onnx", "Python pickle"]);
    assert!(find(&root.path().join("none")).is_err());
    let error = find(&root.path().join("iris/2/..")).map(|found| found.len());
    assert_eq!(error.unwrap(), 1);
}
