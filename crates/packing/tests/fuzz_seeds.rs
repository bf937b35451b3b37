//! The fuzz targets' bodies on their seeds and on changed copies of them.

#[path = "../../../fuzz/mutate.rs"]
mod mutate;

use trainyard_packing::fuzzing;

#[test]
fn packing_trace() {
    mutate::run("packing_trace", fuzzing::trace);
}

#[test]
fn spot_trace() {
    mutate::run("spot_trace", fuzzing::spot);
}
