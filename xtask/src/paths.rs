//! Where things lie: the repository, and the cache that outlives a clone.

use std::path::PathBuf;

/// The repository's root folder.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask lies in the repository's root").to_path_buf()
}

/// `${XDG_CACHE_HOME:-~/.cache}/trainyard`: downloads and builds that later runs use again.
pub(crate) fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty());
    let base = base.map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
        PathBuf::from(home).join(".cache")
    });
    base.join("trainyard")
}

/// The folder where cargo puts what it builds in this run.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}
