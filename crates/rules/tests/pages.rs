//! The pages of `docs/rules/` are those that the rules make.

use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn committed_pages_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules");
    let entries = folder.read_dir().expect("docs/rules is there: run `cargo xtask generate`");
    let committed: BTreeMap<String, String> = entries
        .map(|entry| {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("text"))
        })
        .collect();
    let fresh = trainyard_rules::pages::pages();
    let stale: Vec<&String> = fresh
        .iter()
        .filter(|(name, text)| committed.get(*name) != Some(text))
        .map(|(name, _)| name)
        .chain(committed.keys().filter(|name| !fresh.contains_key(*name)))
        .collect();
    assert!(stale.is_empty(), "stale: {stale:?}; run `cargo xtask generate` and commit the result");
}
