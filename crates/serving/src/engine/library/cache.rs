//! Where installed libraries lie.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `$XDG_CACHE_HOME/trainyard/engines`, else `~/.cache/trainyard/engines`.
pub(super) fn folder() -> Option<PathBuf> {
    folder_from(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
}

fn folder_from(cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // The specification of XDG_CACHE_HOME says to ignore relative paths.
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base =
        cache_home.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".cache")))?;
    Some(base.join("trainyard").join("engines"))
}

/// Files in this folder that look like the library, the newest version first.
pub(super) fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(Vec<u64>, PathBuf)> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .filter_map(|path| Some((version_of(path.file_name()?.to_str()?)?, path)))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Folders of installed engines, the newest version first.
pub(super) fn installed(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(Vec<u64>, PathBuf)> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            Some((numbers(name.strip_prefix("onnxruntime-")?.split('-').next()?), path))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The numbers in `libonnxruntime.so.1.31.1`, `libonnxruntime.1.31.1.dylib` or `onnxruntime.dll`;
/// `None` for other files, such as `libonnxruntime_providers_shared.so`.
fn version_of(file: &str) -> Option<Vec<u64>> {
    let rest = file.strip_prefix(std::env::consts::DLL_PREFIX)?.strip_prefix("onnxruntime")?;
    let suffix = std::env::consts::DLL_SUFFIX;
    let version = match rest.strip_prefix(suffix) {
        Some(version) => version,
        None => rest.strip_suffix(suffix)?,
    };
    let is_version = version.is_empty()
        || version.starts_with('.') && version.chars().all(|it| it == '.' || it.is_ascii_digit());
    is_version.then(|| numbers(version))
}

fn numbers(version: &str) -> Vec<u64> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_follows_the_environment() {
        let check = |cache: Option<&str>, home: Option<&str>, expected: Option<&str>| {
            let folder = folder_from(cache.map(Into::into), home.map(Into::into));
            assert_eq!(folder, expected.map(PathBuf::from), "{cache:?} {home:?}");
        };
        check(Some("/c"), Some("/h"), Some("/c/trainyard/engines"));
        check(None, Some("/h"), Some("/h/.cache/trainyard/engines"));
        check(Some("relative"), Some("/h"), Some("/h/.cache/trainyard/engines"));
        check(Some(""), Some("/h"), Some("/h/.cache/trainyard/engines"));
        check(None, None, None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_the_library_itself_counts() {
        assert_eq!(version_of("libonnxruntime.so"), Some(vec![]));
        assert_eq!(version_of("libonnxruntime.so.1"), Some(vec![1]));
        assert_eq!(version_of("libonnxruntime.so.1.31.1"), Some(vec![1, 31, 1]));
        assert_eq!(version_of("libonnxruntime_providers_shared.so"), None);
        assert_eq!(version_of("libonnxruntime.so.bak"), None);
        assert_eq!(version_of("onnxruntime_pybind11_state.so"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_newest_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "other.so"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = libraries_in(folder.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["libonnxruntime.so.1.31.1", "libonnxruntime.so.1.9.0"]);
    }
}
