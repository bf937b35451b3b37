//! Object names as paths below a folder.

use std::collections::BTreeMap;

/// Longest path below the folder; Linux's `PATH_MAX` less room for the folder's own path.
const MAX_PATH_BYTES: usize = 3072;
/// Linux's `NAME_MAX`.
const MAX_NAME_BYTES: usize = 255;

/// Checks that a name is a relative path that stays below its folder.
pub fn check(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.len() > MAX_PATH_BYTES {
        return Err("it is too long for a path");
    }
    for name in path.split('/') {
        match name {
            "" => return Err("it has an empty folder name"),
            "." | ".." => return Err("it leaves its folder"),
            _ if name.len() > MAX_NAME_BYTES => return Err("a name in it is too long"),
            _ if name.contains('\0') => return Err("it holds a zero byte"),
            _ => {}
        }
    }
    Ok(())
}

/// Removes empty objects that stand for folders, and finds a name that is a file and a folder at
/// once.
pub(crate) fn without_folder_markers<T>(
    files: &mut BTreeMap<String, T>,
    is_empty: impl Fn(&T) -> bool,
) -> Result<(), String> {
    let parents: Vec<String> = files
        .keys()
        .flat_map(|path| path.match_indices('/').filter_map(|(at, _)| path.get(..at)))
        .map(str::to_owned)
        .collect();
    for parent in parents {
        match files.get(&parent) {
            Some(file) if !is_empty(file) => return Err(parent),
            _ => files.remove(&parent),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table() {
        for fine in ["a", "a/b.onnx", "..a/b..", "a b", "ü/日本", ".hidden", "a\\..\\b"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\0b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"x".repeat(256)).is_err());
        assert!(check(&"x/".repeat(2000)).is_err());
    }

    #[test]
    fn markers_go_and_conflicts_are_found() {
        let mut files: BTreeMap<String, u64> =
            [("m", 0), ("m/1", 0), ("m/1/x", 5), ("y", 0)].map(|(k, n)| (k.to_owned(), n)).into();
        without_folder_markers(&mut files, |bytes| *bytes == 0).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["m/1/x", "y"]);
        let mut files: BTreeMap<String, u64> =
            [("m", 3), ("m/x", 5)].map(|(k, n)| (k.to_owned(), n)).into();
        assert_eq!(without_folder_markers(&mut files, |bytes| *bytes == 0), Err("m".to_owned()));
    }

    proptest! {
        #[test]
        fn what_passes_stays_below(path in "[a./\\\\\0-]{0,12}") {
            if check(&path).is_ok() {
                let mut depth = 0;
                for part in std::path::Path::new(&path).components() {
                    prop_assert!(matches!(part, std::path::Component::Normal(_)));
                    depth += 1;
                }
                prop_assert!(depth > 0);
            }
        }
    }
}
