#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trainyard_packing::fuzzing::spot(data));
