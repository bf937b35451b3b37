//! The fuzz target of manifests, on changed copies of its seeds.

#[path = "../../../fuzz/mutate.rs"]
mod mutate;

#[test]
fn manifest() {
    mutate::run("manifest", |data| {
        drop(trainyard_api::manifest::read_bytes("manifest.yaml", data));
    });
}
