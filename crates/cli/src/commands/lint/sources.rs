//! Files, folders and standard input become named texts.

use std::io::Read;
use std::path::{Path, PathBuf};

use miette::miette;
use trainyard_rules::{ReadError, Source};

use super::configuration::Configuration;

/// Folders in one another. Links may go round in circles; nothing sensible is deeper.
const DEEPEST: usize = 64;

/// Reads all that is named; folders are searched for YAML and JSON files.
///
/// # Errors
///
/// A path that is not there, or that cannot be listed. A file that cannot be read is an error of
/// its own and costs no other file.
pub(super) fn read(
    paths: &[PathBuf],
    configuration: &Configuration,
) -> miette::Result<(Vec<Source>, Vec<ReadError>)> {
    let (mut sources, mut errors) = (Vec::new(), Vec::new());
    for path in files(paths, configuration)? {
        let name = path.to_string_lossy().into_owned();
        let bytes = if name == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        } else {
            std::fs::read(&path)
        };
        match bytes {
            Ok(bytes) => match Source::from_bytes(&name, bytes) {
                Ok(source) => sources.push(source),
                Err(error) => errors.push(error),
            },
            Err(error) => {
                errors.push(ReadError::of_file(
                    &name,
                    format!("cannot read this file: {error}"),
                    "",
                ));
            }
        }
    }
    Ok((sources, errors))
}

/// The files that are read, in order.
pub(super) fn files(
    paths: &[PathBuf],
    configuration: &Configuration,
) -> miette::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            found.push(path.clone());
            continue;
        }
        let metadata = std::fs::metadata(path)
            .map_err(|error| miette!("cannot read {}: {error}", path.display()))?;
        if metadata.is_dir() {
            search(path, configuration, 0, &mut found)?;
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn search(
    folder: &Path,
    configuration: &Configuration,
    depth: usize,
    into: &mut Vec<PathBuf>,
) -> miette::Result<()> {
    if depth > DEEPEST {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder)
        .map_err(|error| miette!("cannot list {}: {error}", folder.display()))?;
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let path = entry.path();
        // Hidden folders hold tools' own files (`.git`, `.github`), and ours are settings.
        if name.to_string_lossy().starts_with('.') || configuration.ignores(&path) {
            continue;
        }
        let Ok(kind) = entry.file_type() else { continue };
        // Links to files are followed, links to folders are not: they may lead back.
        if kind.is_dir() {
            search(&path, configuration, depth + 1, into)?;
        } else if path.is_file() && is_manifest(&path) {
            // A folder is named without `./` in front, as people do.
            into.push(path.strip_prefix(".").map(Path::to_owned).unwrap_or(path));
        }
    }
    Ok(())
}

/// Manifests directly in a folder, in order; none if it cannot be listed.
pub(super) fn beside(folder: &Path, configuration: &Configuration) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let paths = entries
        .map(|entry| entry.path())
        .filter(|path| is_manifest(path) && path.is_file() && !configuration.ignores(path));
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    paths
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}
