//! Holds the rule of `docs/architecture.md`: which crate may depend on which, and what pure means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Crates without an async runtime, clock, network or file system.
const PURE: [&str; 7] = ["api", "plan", "control", "packing", "queue", "rules", "diagnose"];
/// What a pure crate must not have anywhere below it.
const IMPURE: [&str; 10] = [
    "tokio",
    "async-std",
    "smol",
    "mio",
    "hyper",
    "hyper-util",
    "reqwest",
    "kube-client",
    "tonic",
    "rusqlite",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository's root")
}

/// `cargo metadata` of the workspace, of what is in the lock file.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

/// The table under "Crates": each crate, and those that it may depend on. `all` is every crate.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let page =
        std::fs::read_to_string(root().join("docs/architecture.md")).expect("the page is there");
    let (_, table) =
        page.split_once("| crate | what it is | may depend on |").expect("has the table");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let names: BTreeSet<String> =
        rows.iter().map(|row| row.first().expect("a name").trim_matches('`').to_owned()).collect();
    rows.iter()
        .map(|row| {
            let [name, _, below] = row.as_slice() else { panic!("{row:?} is not a row of three") };
            let below = match *below {
                "all" => names.clone(),
                "–" => BTreeSet::new(),
                list => {
                    list.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect()
                }
            };
            (name.trim_matches('`').to_owned(), below)
        })
        .collect()
}

/// Our crates and the crates of ours that each names in its `Cargo.toml`, for tests or not.
fn named(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .filter_map(|package| {
            let name = package["name"].as_str()?.strip_prefix("trainyard-")?;
            let below = package["dependencies"].as_array()?.iter();
            let below = below.filter_map(|d| d["name"].as_str()?.strip_prefix("trainyard-"));
            Some((name.to_owned(), below.map(str::to_owned).collect()))
        })
        .collect()
}

/// Everything below a package in the resolved graph, without what is for tests or build scripts;
/// for each package the one above it, to show the way.
fn below(metadata: &Value, root: &str) -> BTreeMap<String, String> {
    let nodes = metadata["resolve"]["nodes"].as_array().expect("resolved");
    let nodes: BTreeMap<&str, &Value> =
        nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let start = names.iter().find(|(_, name)| **name == root).map(|(id, _)| *id).expect("ours");
    let mut above = BTreeMap::from([(root.to_owned(), String::new())]);
    let mut queue = vec![start];
    while let Some(id) = queue.pop() {
        let dependencies = nodes.get(id).and_then(|node| node["deps"].as_array());
        for dependency in dependencies.into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().expect("kinds");
            let is_normal = kinds.iter().any(|kind| kind["kind"].is_null());
            let Some(below) = dependency["pkg"].as_str().filter(|_| is_normal) else { continue };
            let name = names.get(below).expect("a package");
            if !above.contains_key(*name) {
                above.insert((*name).to_owned(), names.get(id).expect("a package").to_string());
                queue.push(below);
            }
        }
    }
    above
}

#[test]
fn arrows_point_one_way() {
    let allowed = allowed();
    let named = named(&metadata());
    let ours: Vec<&String> = named.keys().collect();
    let documented: Vec<&String> = allowed.keys().collect();
    assert_eq!(ours, documented, "docs/architecture.md lists other crates than there are");
    for (name, below) in &named {
        let forbidden: Vec<&String> = below.difference(&allowed[name]).collect();
        assert!(
            forbidden.is_empty(),
            "`{name}` depends on {forbidden:?}, which docs/architecture.md does not allow"
        );
    }
}

#[test]
fn pure_crates_are_pure() {
    let metadata = metadata();
    for name in PURE {
        let below = below(&metadata, &format!("trainyard-{name}"));
        for impure in IMPURE {
            let mut way = vec![impure];
            while let Some(above) = below.get(*way.last().expect("one")).filter(|a| !a.is_empty()) {
                way.push(above);
            }
            assert!(
                !below.contains_key(impure),
                "`{name}` must not reach `{impure}`, and does: {}",
                way.join(" < ")
            );
        }
    }
}
