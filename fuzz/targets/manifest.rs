#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drop(trainyard_api::manifest::read_bytes("manifest.yaml", data)));
