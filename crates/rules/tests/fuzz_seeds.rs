//! The fuzz target of the linter, on changed copies of its seeds.

#[path = "../../../fuzz/mutate.rs"]
mod mutate;

#[test]
fn lint() {
    mutate::run("lint", trainyard_rules::fuzzing::lint);
}
